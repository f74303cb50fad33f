"""The API server's audit log tells who changed what; what it does not tell is no error."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.configuration.audit_log import AuditLog


def event(verb: str, at: str, *, user: str = "ada", name: str | None = "web", code: int = 200, **about: Any) -> str:
    reference = {"resource": "networkpolicies", "apiGroup": "networking.k8s.io", "namespace": "shop", "name": name, **about}
    return json.dumps(
        {
            "stage": "ResponseComplete",
            "verb": verb,
            "user": {"username": user},
            "objectRef": {key: value for key, value in reference.items() if value is not None},
            "responseStatus": {"code": code},
            "stageTimestamp": f"2026-03-02T{at}.123456Z",
        }
    )


def moment(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-03-02T{text}").replace(tzinfo=UTC)


def test_without_a_log_or_with_one_that_is_not_there_nothing_is_known(tmp_path: Path) -> None:
    for path in (None, tmp_path / "nowhere"):
        assert AuditLog(path).find("NetworkPolicy", "shop", "web", None, moment("12:00:00"), False) is None


def test_the_last_write_of_the_object_in_the_span_counts_and_bad_lines_are_passed_over(tmp_path: Path) -> None:
    lines = [
        event("create", "10:00:00", user="eve"),
        '{"stage":"ResponseComplete", broken',
        '{"stage":"ResponseComplete"}',
        event("get", "11:30:00"),
        event("update", "11:00:00"),
        event("patch", "11:10:00", name="other"),
        event("patch", "11:20:00", subresource="status"),
        event("update", "11:25:00", code=409),
        event("update", "13:00:00", user="late"),
    ]
    path = tmp_path / "audit.log"
    path.write_text("\n".join(lines) + "\n")
    log = AuditLog(path)
    found = log.find("NetworkPolicy", "shop", "web", None, moment("12:00:00"), False)
    assert found is not None
    assert (found.by, found.at, found.source) == ("ada", datetime(2026, 3, 2, 11, 0, 0, 123456, tzinfo=UTC), "audit")
    assert log.find("NetworkPolicy", "shop", "web", moment("11:30:00"), moment("12:00:00"), False) is None
    assert log.find("NetworkPolicy", "shop", "web", None, moment("12:00:00"), True) is None
    assert log.find("PodLabels", "shop", "web", None, moment("12:00:00"), False) is None


def test_a_deletion_is_found_by_name_or_as_one_of_a_collection(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_text(event("delete", "10:00:00") + "\n" + event("deletecollection", "11:00:00", name=None, user="eve") + "\n")
    found = AuditLog(path).find("NetworkPolicy", "shop", "web", None, moment("10:30:00"), True)
    assert found is not None
    assert found.by == "ada"
    found = AuditLog(path).find("NetworkPolicy", "shop", "any", None, moment("12:00:00"), True)
    assert found is not None
    assert found.by == "eve"


def test_a_namespace_is_found_whether_the_log_calls_it_its_own_namespace_or_not(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_text(event("patch", "10:00:00", resource="namespaces", apiGroup=None, namespace="shop", name="shop") + "\n")
    assert AuditLog(path).find("Namespace", "shop", "shop", None, moment("12:00:00"), False) is not None

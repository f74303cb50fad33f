"""What one finding, or one drift, is as a result of a report in the form of OpenReports. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from pipelines.blueprints.objects import PUBLISHED_KINDS
from warehouse.records.findings import ACCEPTED

Row = Mapping[str, Any]
Result = dict[str, Any]
SOURCE = "hindcast"
AUDIT, EVALUATION = "policy-audit", "evaluation"
"""The policy of results that come from audits, and of those that say what was not evaluated. That of drift is its blueprint."""
CATEGORY = "Network policy"
LONGEST_MESSAGE = 1_000
"""Characters of a result's message."""
_DRIFT_ID = ("cluster", "drift", "blueprint", "kind", "namespace", "name")
_MILD = ("info", "low")
_NOT_EVALUATED = ("not_reporting", "configuration_stale")
_VERSIONS = PUBLISHED_KINDS | {
    "Namespace": "v1",
    "Pod": "v1",
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
    "DaemonSet": "apps/v1",
    "ReplicaSet": "apps/v1",
    "Job": "batch/v1",
    "CronJob": "batch/v1",
}


def of_finding(row: Row, dashboard_url: str | None) -> Result:
    """Return the result for a row of `findings` that is open or accepted.

    An accepted one is `skip`: the owner has decided not to follow the rule for now. An open one is `fail`, or `warn` if it is mild.
    """
    is_accepted = row["state"] == ACCEPTED
    message = str(row["summary"])
    properties = {"id": row["key"], "state": "accepted" if is_accepted else "open"}
    if is_accepted:
        message = f"accepted until {row['expires']:%Y-%m-%d %H:%M} UTC by {row['by']}: {row['reason']}. {message}"
        properties |= {"accepted-until": _written(row["expires"]), "accepted-by": row["by"], "reason": row["reason"]}
    kind, _, name = str(row["subject"] or "").partition("/")
    item = f"{row['cluster']}|{row['key']}"
    return _result(
        row,
        policy=AUDIT,
        rule=row["kind"],
        result="skip" if is_accepted else _failed(row),
        message=message,
        resource=(kind, name),
        properties=properties | _link(dashboard_url, "findings", item=item, state=row["state"]),
    )


def of_drift(row: Row, dashboard_url: str | None) -> Result:
    """Return the result for an open row of `drift`; where a cluster does not report it could not be evaluated, and is an `error`."""
    return _result(
        row,
        policy=row["blueprint"] or EVALUATION,
        rule=row["drift"],
        result="error" if row["drift"] in _NOT_EVALUATED else _failed(row),
        message=str(row["summary"]),
        resource=(row["kind"], row["name"]),
        properties={"id": "/".join(row[name] or "" for name in _DRIFT_ID[1:]), "state": "open"}
        | {name.replace("_", "-"): row[name] for name in ("blueprint_version", "control", "changed_by") if row[name]}
        | _link(dashboard_url, "posture", item="|".join(str(row[name] or "") for name in _DRIFT_ID)),
    )


def not_evaluated(rule: str, message: str, *, result: str = "skip") -> Result:
    """Return a result that says what of the cluster is not known."""
    return {"source": SOURCE, "policy": EVALUATION, "rule": rule, "category": CATEGORY, "result": result, "message": message}


def _result(
    row: Row, *, policy: str, rule: str, result: str, message: str, resource: tuple[str | None, str | None], properties: dict[str, str]
) -> Result:
    found: Result = {
        "source": SOURCE,
        "policy": policy,
        "rule": rule,
        "category": CATEGORY,
        "severity": row["severity"],
        "result": result,
        "scored": result == "fail",
        "message": message if len(message) <= LONGEST_MESSAGE else f"{message[: LONGEST_MESSAGE - 1]}…",
        "timestamp": _timestamp(row["since"] or row["time"]),
        "properties": {"cluster": row["cluster"], **properties},
    }
    if reference := _reference(row["namespace"], *resource):
        found["resources"] = [reference]
    return found


def _failed(row: Row) -> str:
    return "warn" if row["severity"] in _MILD else "fail"


def _reference(namespace: str | None, kind: str | None, name: str | None) -> dict[str, str] | None:
    """Return what names an object; its version is left out where the kind is none whose version is known."""
    if not kind or not name:
        return None
    version = {"apiVersion": _VERSIONS[kind]} if kind in _VERSIONS else {}
    place = {"namespace": namespace} if namespace and kind != "Namespace" else {}
    return {**version, "kind": kind, **place, "name": name}


def _timestamp(moment: datetime) -> dict[str, int]:
    return {"seconds": int(moment.timestamp()), "nanos": moment.microsecond * 1000}


def _written(moment: datetime) -> str:
    return moment.replace(microsecond=0).isoformat().replace("+00:00", "Z")


def _link(base: str | None, page: str, **parts: str) -> dict[str, str]:
    return {"link": f"{base.rstrip('/')}/{page}?{urlencode(parts)}"} if base else {}

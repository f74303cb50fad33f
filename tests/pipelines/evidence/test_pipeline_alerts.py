"""Alerts: whoever is away, the other is told; the webhook's address is shown to nobody."""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.evidence import alerts
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.schema import FINDINGS

SECRET = "T0P-secret"


class Webhook(http.server.BaseHTTPRequestHandler):
    """Keeps what is posted; answers as its server says."""

    posted: list[dict[str, Any]]
    status: int

    def do_POST(self) -> None:
        self.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def hook() -> Iterator[tuple[str, list[dict[str, Any]], type[Webhook]]]:
    handler = type("Posted", (Webhook,), {"posted": [], "status": 204})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/{SECRET}", handler.posted, handler
    server.shutdown()
    server.server_close()


def settings_of(tmp_path: Path, url: str | None, *, lake: str = "lake") -> config.Config:
    section = {}
    if url is not None:
        (tmp_path / "webhook").write_text(url + "\n")
        section = {"webhook_file": tmp_path / "webhook"}
    return config.Config.model_validate({"lake": {"url": str(tmp_path / lake)}, "alerts": section})


def tell(settings: config.Config) -> list[str]:
    return alerts.send(settings, kind="pipeline_failed", severity="high", subject="task/x", summary="x failed", source="t", detail={"a": 1})


def findings(tmp_path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = Lake.open(config.Lake(url=str(tmp_path / "lake"))).read(FINDINGS).to_pylist()
    return rows


def test_without_a_webhook_the_finding_is_written(tmp_path: Path) -> None:
    assert tell(settings_of(tmp_path, None)) == []
    (row,) = findings(tmp_path)
    assert (row["cluster"], row["kind"], row["severity"], json.loads(row["detail"])) == ("*", "pipeline_failed", "high", {"a": 1})


def test_the_finding_is_written_and_the_webhook_notified(tmp_path: Path, hook: Any) -> None:
    url, posted, _ = hook
    assert tell(settings_of(tmp_path, url)) == []
    assert len(findings(tmp_path)) == 1
    assert (posted[0]["text"], posted[0]["kind"], posted[0]["time"][-1]) == ("Hindcast: x failed", "pipeline_failed", "Z")


def test_a_lake_that_is_away_keeps_no_message_back(tmp_path: Path, hook: Any) -> None:
    url, posted, _ = hook
    (tmp_path / "lake").write_text("not a folder")
    (failure,) = tell(settings_of(tmp_path, url))
    assert failure.startswith("the finding was not written: ")
    assert len(posted) == 1


@pytest.mark.parametrize("status", [500, 302, 404])
def test_a_webhook_that_refuses_keeps_no_finding_back_and_its_address_stays_secret(tmp_path: Path, hook: Any, status: int) -> None:
    url, _, handler = hook
    handler.status = status
    (failure,) = tell(settings_of(tmp_path, url))
    assert f"127.0.0.1 answered {status}" in failure
    assert SECRET not in failure
    assert len(findings(tmp_path)) == 1


def test_a_webhook_that_is_away_is_named_by_its_host_alone(tmp_path: Path) -> None:
    (failure,) = tell(settings_of(tmp_path, f"http://127.0.0.1:9/{SECRET}"))
    assert "127.0.0.1 cannot be reached" in failure
    assert SECRET not in failure


def test_a_webhook_without_encryption_or_with_a_missing_secret_is_refused(tmp_path: Path) -> None:
    for url in (f"http://hooks.example/{SECRET}", f"file:///etc/{SECRET}", "ftp://x"):
        (failure,) = tell(settings_of(tmp_path, url))
        assert "must begin with https://" in failure
        assert SECRET not in failure
    missing = config.Config(lake=config.Lake(url=str(tmp_path / "lake")), alerts=config.Alerts(webhook_file=tmp_path / "missing"))
    (failure,) = tell(missing)
    assert "the secret cannot be read" in failure
    with pytest.raises(ValueError, match="not both"):
        config.Alerts(webhook_file=tmp_path / "a", webhook_env="B")

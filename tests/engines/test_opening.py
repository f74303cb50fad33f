"""Which engine is used: one that is away, of another version or wrongly configured is not, and the log says why."""

import socket
from pathlib import Path
from typing import Any

import pytest

from warehouse import config
from warehouse.engines import opening, spark
from warehouse.errors import ConfigError, EngineError


def test_nothing_is_used_where_nothing_is_configured(told: list[Any]) -> None:
    assert opening.usable(config.Engine()) is None
    assert not told


def test_a_server_that_is_away_is_not_used_and_the_log_says_so(told: list[Any]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert opening.usable(config.Engine(spark=f"sc://127.0.0.1:{free.getsockname()[1]}")) is None
    assert "cannot be reached" in told[0][1]["reason"]


def test_a_server_that_speaks_something_else_is_not_used(told: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "RETRIES", 0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        port = server.getsockname()[1]
        import threading

        def answer() -> None:
            while True:
                try:
                    accepted, _ = server.accept()
                except OSError:
                    return
                accepted.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                accepted.close()

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        assert opening.usable(config.Engine(spark=f"sc://127.0.0.1:{port}")) is None
    assert "127.0.0.1" in told[0][1]["reason"]


def test_a_server_of_another_version_is_not_used(sail: Any, told: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spark.SparkConnection, "version", "3.5.4")
    assert opening.usable(sail.settings) is None
    assert "version 3.5.4: Spark 4.x is needed" in told[0][1]["reason"]


def test_an_error_never_contains_the_token(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    settings = config.Engine(spark="sc://127.0.0.1:1", token_file=tmp_path / "token")
    assert settings.remote() == "sc://127.0.0.1:1/;token=s3cret"
    with pytest.raises(EngineError, match=r"127\.0\.0\.1:1") as failed:
        opening.checked(settings)
    assert "s3cret" not in str(failed.value)
    assert "s3cret" not in repr(settings)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{spark: 'http://host:15002'}", "sc://host:15002"),
        ("{spark: 'sc://host/;token=abc'}", "token_file or token_env"),
        ("{lake: 's3a://flows'}", "spark is missing"),
        ("{spark: 'sc://host', token_env: A, token_file: B}", "not both"),
    ],
)
def test_a_wrong_section_is_refused_and_its_secret_not_shown(text: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=problem) as failed:
        config.parse_config(f"engine: {text}\n", source=tmp_path / "hindcast.yaml")
    assert "abc" not in str(failed.value)


def test_addresses_are_read_as_the_client_reads_them() -> None:
    assert config.Engine(spark="sc://host").host_and_port == ("host", 15002)
    assert config.Engine(spark="sc://host:1/;use_ssl=true").host_and_port == ("host", 1)
    assert config.Engine(spark="sc://host;use_ssl=true").remote() == "sc://host/;use_ssl=true"

"""A store that is away, overloaded, loses answers, or is configured wrongly: nothing is lost or doubled, errors say what to do."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest

from warehouse.errors import ConfigError, LakeError
from warehouse.lake import remote
from warehouse.lake.tables import Lake
from warehouse.schema import FLOWS

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
IMPATIENT = {"retry_timeout": "1s", "max_retries": "2", "timeout": "1s"}
pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def lake(versitygw: Any) -> Lake:
    return Lake.open(versitygw.settings())


@pytest.fixture
def proxy(versitygw: Any) -> Iterator[Any]:
    """What is between the lake and the store; after the test it does nothing again."""
    yield versitygw.proxy
    versitygw.proxy.fault = lambda _request: None


def some(cluster: str, count: int = 3) -> pa.Table:
    rows = [{"cluster": cluster, "date": NOON.date(), "time": NOON, "uuid": f"{cluster}-{n}", "flow_count": 1} for n in range(count)]
    return pa.Table.from_pylist(rows, schema=FLOWS.schema)


def uuids(lake: Lake, cluster: str) -> list[str]:
    return sorted(lake.read(FLOWS, ["uuid"], clusters=[cluster])["uuid"].to_pylist())


def first(times: int, fault: Any, when: Callable[[Any], bool]) -> Callable[[Any], Any]:
    """A fault of the first requests for which a condition holds."""
    left = [times]

    def decide(request: Any) -> Any:
        if left[0] and when(request):
            left[0] -= 1
            return fault
        return None

    return decide


def is_commit(request: Any) -> bool:
    return request.method == "PUT" and "/flows/_delta_log/" in request.path


def is_data(request: Any) -> bool:
    return request.method in ("PUT", "POST") and "/flows/cluster" in request.path


FAULTS = {
    "slow down before a commit": ({"status": 503}, is_commit),
    "slow down before data": ({"status": 503}, is_data),
    "a commit's answer is lost": ({"is_lost": True}, is_commit),
    "an upload's answer is lost": ({"is_lost": True}, is_data),
    "a connection is closed before a commit": ({"is_refused": True}, is_commit),
    "an internal error after a commit": ({"is_lost": True, "seconds": 0.2}, is_commit),
}


@pytest.mark.parametrize("what", FAULTS)
def test_what_the_store_refuses_or_forgets_to_confirm_is_stored_once(lake: Lake, proxy: Any, faults: ModuleType, what: str) -> None:
    how, when = FAULTS[what]
    cluster = f"a{list(FAULTS).index(what)}"
    proxy.fault = first(1, faults.Fault(**how), when)
    lake.commit(FLOWS, lake.write_files(FLOWS, some(cluster)), transactions={f"collect:{cluster}": 1}, metadata={})
    assert uuids(lake, cluster) == [f"{cluster}-{n}" for n in range(3)]
    assert lake.transaction_version(FLOWS, f"collect:{cluster}") == 1


@pytest.mark.parametrize("times", [1, 2])
def test_a_replacement_whose_answer_is_lost_is_made_once(lake: Lake, proxy: Any, faults: ModuleType, times: int) -> None:
    cluster = f"r{times}"
    for _ in range(2):
        lake.commit(FLOWS, lake.write_files(FLOWS, some(cluster)), transactions={}, metadata={})
    old = [file for file in lake.contents(FLOWS) if file.partition["cluster"] == cluster]
    new = lake.write_files(FLOWS, some(cluster))
    proxy.fault = first(times, faults.Fault(is_lost=True), is_commit)
    lake.replace(FLOWS, old, new, guard=f"compact:{cluster}")
    assert uuids(lake, cluster) == [f"{cluster}-{n}" for n in range(3)]


def test_a_store_that_is_away_is_an_error_in_one_line_and_its_batch_can_be_tried_again(
    versitygw: Any, lake: Lake, proxy: Any, faults: ModuleType
) -> None:
    hasty = Lake.open(versitygw.settings(**IMPATIENT))
    proxy.fault = lambda _request: faults.Fault(is_refused=True)
    with pytest.raises(LakeError, match="table flows at s3://bucket/lake/flows") as raised:
        hasty.commit(FLOWS, hasty.write_files(FLOWS, some("away")), transactions={"collect:away": 1}, metadata={})
    assert "\n" not in str(raised.value)
    assert "\x1b" not in str(raised.value)
    proxy.fault = lambda _request: None
    hasty.commit(FLOWS, hasty.write_files(FLOWS, some("away")), transactions={"collect:away": 1}, metadata={})
    assert uuids(lake, "away") == ["away-0", "away-1", "away-2"]


def test_a_store_that_never_answers_is_given_up(versitygw: Any, proxy: Any, faults: ModuleType) -> None:
    hasty = Lake.open(versitygw.settings(**IMPATIENT))
    proxy.fault = lambda _request: faults.Fault(is_refused=True, seconds=3.0)
    with pytest.raises(LakeError, match="table flows at"):
        hasty.write_files(FLOWS, some("mute"))


def test_a_store_that_asks_for_less_for_too_long_says_so(versitygw: Any, proxy: Any, faults: ModuleType) -> None:
    hasty = Lake.open(versitygw.settings(**IMPATIENT))
    proxy.fault = lambda request: faults.Fault(status=503) if request.method != "GET" else None
    with pytest.raises(LakeError, match=r"the store answered SlowDown: made by a test\. The store asks for fewer requests"):
        hasty.write_files(FLOWS, some("slow"))


def test_a_wrong_bucket_key_secret_or_region_is_named_with_what_to_correct(versitygw: Any) -> None:
    wrong = {
        "NoSuchBucket: .*create the bucket, or correct lake.url": versitygw.settings(bucket="nobucket"),
        "access key is not known to this store: correct AWS_ACCESS_KEY_ID": versitygw.settings(AWS_ACCESS_KEY_ID="nobody"),
        "SignatureDoesNotMatch: .*secret key does not belong to the access key": versitygw.settings(AWS_SECRET_ACCESS_KEY="no-such-secret"),
        "expecting .us-east-1.*correct AWS_REGION in lake.options": versitygw.settings(AWS_REGION="eu-west-9"),
    }
    for said, settings in wrong.items():
        with pytest.raises(LakeError, match=f"(?i){said}") as raised:
            Lake.open(settings)
        assert "no-such-secret" not in str(raised.value)


def test_a_clock_that_the_store_refuses_is_said(versitygw: Any, proxy: Any, faults: ModuleType) -> None:
    proxy.fault = lambda _request: faults.Fault(status=403, code="RequestTimeTooSkewed")
    with pytest.raises(LakeError, match=r"RequestTimeTooSkewed.*Set this machine's clock|RequestTimeTooSkewed.*clock of this machine"):
        Lake.open(versitygw.settings("another"))


def test_a_store_that_is_not_there_is_said_with_its_address(versitygw: Any) -> None:
    with pytest.raises(LakeError, match="Is the store running, and is AWS_ENDPOINT_URL its address") as raised:
        Lake.open(versitygw.settings("another", AWS_ENDPOINT_URL="http://127.0.0.1:9", **IMPATIENT))
    assert "Debug source" not in str(raised.value)


def test_a_store_without_conditional_puts_is_refused_before_a_table_is_made(bucket: Any, faults: ModuleType) -> None:
    if not bucket.server.command[0].endswith("python"):
        pytest.skip("versitygw checks signatures, which cover the header")
    remote._proven.clear()
    bucket.proxy.fault = lambda _request: faults.Fault(without="if-none-match")
    try:
        bucket.proxy.taken()
        with pytest.raises(ConfigError, match=r"ignores conditional puts .*would lose flows\. Use a store with conditional puts"):
            Lake.open(bucket.settings("refused"))
        assert sum(bucket.proxy.taken().values()) == 3, "two puts, and the probe is removed"
    finally:
        bucket.proxy.fault = lambda _request: None


def test_credentials_may_be_in_files_or_in_the_environment(versitygw: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = versitygw.settings()
    secret = settings.options["AWS_SECRET_ACCESS_KEY"]
    (tmp_path / "secret").write_text(f"{secret}\n")
    by_file = versitygw.settings(AWS_SECRET_ACCESS_KEY=f"file:{tmp_path / 'secret'}")
    assert Lake.open(by_file).rows(FLOWS) >= 0
    with pytest.raises(ConfigError, match="nothing: the secret cannot be read"):
        Lake.open(versitygw.settings(AWS_SECRET_ACCESS_KEY=f"file:{tmp_path / 'nothing'}"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, settings.options[name])
    chained = settings.model_copy(update={"options": {name: value for name, value in settings.options.items() if "KEY" not in name}})
    assert Lake.open(chained).rows(FLOWS) >= 0


@pytest.mark.parametrize("command", [["check", "--only", "lake"], ["collect"]])
def test_commands_say_at_start_what_is_wrong_and_check_goes_on(versitygw: Any, tmp_path: Path, command: list[str]) -> None:
    lake = versitygw.settings(AWS_SECRET_ACCESS_KEY="file:nowhere/secret").model_dump(mode="json")
    document = {"lake": lake, "clusters": [{"name": "c1", "hubble": {"address": "127.0.0.1:9", "plaintext": True}}]}
    (tmp_path / "hindcast.yaml").write_text(json.dumps(document))
    ended = subprocess.run(
        [sys.executable, "-m", "hindcast", *command, "--config", "hindcast.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode != 0
    assert "nowhere/secret: the secret cannot be read" in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr

"""The forms in which files of flows come: each gives the same flows as the plain one, or a reason that says what it is."""

from __future__ import annotations

import bz2
import gzip
import io
import itertools
import json
import lzma
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.hubble_api.flow import flow_pb2
from collectors.importing import chunks, sources
from collectors.importing.documents import BadText
from warehouse.errors import ImportFailedError

Event = dict[str, Any]


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def event(number: int, **more: Any) -> Event:
    time = f"2026-10-01T10:00:{number % 60:02d}.000000001Z"
    flow = {
        "time": time, "uuid": f"u{number}", "verdict": "FORWARDED", "source": {"namespace": "blü", "labels": ["a=b"]},
        "destination": {"namespace": 'gr"een\\'}, "node_name": "red/n1", **more,
    }  # fmt: skip
    return {"flow": flow, "node_name": "red/n1", "time": time}


EVENTS = [event(number) for number in range(30)]
PLAIN = "".join(f"{compact(one)}\n" for one in EVENTS)


def read(text: str | bytes) -> tuple[list[flow_pb2.Flow], list[BadText], list[int]]:
    """The flows of a text, in the order of their lines, what was set aside, and the lines."""
    stream = io.BytesIO(text.encode() if isinstance(text, str) else text)
    found, bad = [], []
    for chunk in chunks.read_chunks(stream, lambda value: value):
        found += list(zip(chunk.lines.tolist(), chunk.messages.to_pylist(), strict=True))
        bad += chunk.bad
    found.sort(key=lambda one: one[0])
    return [flow_pb2.Flow.FromString(message) for _, message in found], bad, [line for line, _ in found]


def in_parts(text: str, make: Callable[[str, bool], str], sizes: list[int]) -> str:
    """A text cut at some places, each part made into a line; the function is told whether it is the last one."""
    cuts = sorted({min(size, len(text) - 1) for size in sizes} | {0, len(text)})
    parts = [text[begin:end] for begin, end in itertools.pairwise(cuts)]
    return "".join(make(part, place == len(parts) - 1) for place, part in enumerate(parts))


def cri(part: str, last: bool) -> str:
    return f"2026-10-01T10:00:00.1Z stdout {'F' if last else 'P'} {part}\n"


def docker(part: str, last: bool) -> str:
    return compact({"log": part + "\n" * last, "stream": "stdout", "time": "2026-01-01T00:00:00Z"}) + "\n"


FORMS: dict[str, Callable[[list[Event]], str]] = {
    "plain": lambda events: "".join(f"{compact(one)}\n" for one in events),
    "with spaces": lambda events: "".join(f"{json.dumps(one)}\n" for one in events),
    "Windows line ends": lambda events: "".join(f"{compact(one)}\r\n" for one in events),
    "without line ends": lambda events: "".join(map(compact, events)),
    "pretty-printed": lambda events: "\n".join(json.dumps(one, indent=2) for one in events),
    "pretty-printed array": lambda events: json.dumps(events, indent=4),
    "array": compact,
    "array of lines": lambda events: "[\n" + ",\n".join(map(compact, events)) + "\n]\n",
    "array with leading commas": lambda events: "[" + "\n,".join(map(compact, events)) + "]\n",
    "lines with commas": lambda events: "".join(f"{compact(one)},\n" for one in events),
    "bare flows": lambda events: "".join(f"{compact(one['flow'])}\n" for one in events),
    "pretty-printed bare flows": lambda events: "\n".join(json.dumps(one["flow"], indent="\t") for one in events),
    "CRI": lambda events: "".join(cri(compact(one), True) for one in events),
    "CRI in parts": lambda events: "".join(in_parts(compact(one), cri, [40, 90, 91]) for one in events),
    "Docker": lambda events: "".join(docker(compact(one), True) for one in events),
    "Docker in parts": lambda events: "".join(in_parts(compact(one), docker, [40, 90]) for one in events),
    "Loki": lambda events: "".join(compact({"labels": {"a": "b"}, "line": compact(one), "timestamp": "x"}) + "\n" for one in events),
    "Loki with CRI": lambda events: "".join(compact({"line": cri(compact(one), True)}) + "\n" for one in events),
    "Fluent Bit": lambda events: "".join(compact({"date": 1.5, "log": compact(one)}) + "\n" for one in events),
    "Fluent Bit merged": lambda events: "".join(compact({"log": "x", "log_processed": one}) + "\n" for one in events),
    "Filebeat": lambda events: "".join(
        compact({"@timestamp": "x", "log": {"file": {"path": "/x"}}, "message": compact(one)}) + "\n" for one in events
    ),
    "Vector": lambda events: "".join(compact({"file": "/x", **one, "host": "n", "source_type": "file"}) + "\n" for one in events),
    "Elasticsearch": lambda events: "".join(compact({"_index": "i", "_source": {"message": compact(one)}}) + "\n" for one in events),
    "foreign keys of changing types": lambda events: "".join(
        compact({"pid": place if place % 2 else "x", **one}) + "\n" for place, one in enumerate(events)
    ),
    "logfmt": lambda events: "".join(f"level=info msg={json.dumps(compact(one))} x=1\n" for one in events),
    "grep": lambda events: "".join(f"a.log:{place}:{compact(one)}\n" for place, one in enumerate(events)),
    "kubectl logs --prefix": lambda events: "".join(f"[pod/cilium-x/cilium-agent] {compact(one)}\n" for one in events),
    "colours": lambda events: "".join(f"\x1b[32m{compact(one)}\x1b[0m\n" for one in events),
    "lowerCamelCase": lambda events: "".join(compact(one).replace("node_name", "nodeName") + "\n" for one in events),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_gives_the_same_flows_as_the_plain_one(form: str) -> None:
    flows, bad, _ = read(FORMS[form](EVENTS))
    assert flows == read(PLAIN)[0]
    assert bad == []
    assert len(flows) == len(EVENTS)


_TEXT = st.text(st.characters(codec="utf-8"), max_size=6)
_EVENTS = st.lists(
    st.builds(
        lambda number, more: event(number, **more),
        st.integers(0, 59),
        st.fixed_dictionaries(
            {}, optional={"Summary": _TEXT, "source_names": st.lists(_TEXT, max_size=2), "drop_reason": st.integers(0, 9)}
        ),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=80, deadline=None)
@given(
    events=_EVENTS,
    form=st.sampled_from(sorted(FORMS)),
    block=st.sampled_from([64, 300, 5000]),
    cuts=st.lists(st.integers(1, 300), max_size=4),
)
def test_whatever_the_flows_and_wherever_blocks_and_parts_end(events: list[Event], form: str, block: int, cuts: list[int]) -> None:
    wanted = read(FORMS["plain"](events))[0]
    before = chunks.BLOCK_BYTES
    try:
        chunks.BLOCK_BYTES = block
        assert read(FORMS[form](events))[:2] == (wanted, [])
        assert read("".join(in_parts(compact(one), cri, cuts) for one in events))[:2] == (wanted, [])
    finally:
        chunks.BLOCK_BYTES = before


@settings(max_examples=100, deadline=None)
@given(noise=st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), min_size=1, max_size=40), place=st.integers(0, 4))
def test_a_line_of_anything_costs_no_other_line(noise: str, place: int) -> None:
    lines = [compact(one) for one in EVENTS[:4]]
    lines.insert(place, noise)
    flows = read("\n".join(lines))[0]
    assert {one.uuid for one in flows} >= {f"u{number}" for number in range(4)} - ({"u0", "u1", "u2", "u3"} if noise[0] in '"[{' else set())


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"flow":"text"}', "flow: expected an object, found text"),
        ('{"flow":""}', "flow: expected an object, found text"),
        ('{"flow":[]}', "flow: expected an object, found a list"),
        ('{"flow":7}', "flow: expected an object, found a number"),
        ('{"flow":{}}', "flow: has no time"),
        ('{"flow":{"verdict":"DROPPED"},"node_name":"n"}', "flow: has no time"),
        ('{"flow":{"source":"x"},"time":"2026-10-01T10:00:00Z"}', r"flow\.source: expected an object, found text"),
        ('{"flow":{"l4":[]},"time":"2026-10-01T10:00:00Z"}', r"flow\.l4: expected an object, found a list"),
        ('{"flow":{"uuid":5},"time":"2026-10-01T10:00:00Z"}', r"flow\.uuid: expected text, found a number"),
        ('{"flow":{"time":"yesterday"}}', r"flow\.time: expected a time"),
        ('{"flow":{"time":"0001-01-01T00:00:00Z"}}', "the year 1 cannot be stored"),
        ('{"flow":{"uuid":"\\ud800","time":"2026-10-01T10:00:00Z"}}', r"flow\.uuid: the text is not valid Unicode"),
        ('{"flow":{"time":"2026-10-01T10:00:00Z","socket_cookie":-1}}', r"flow\.socket_cookie: the number is out of range"),
        ('{"flow":{"time":"2026-10-01T10:00:00Z"', "ends in the middle of a value"),
        ('{"node_name":"x"}', "has none of flow"),
        ('{"data":{"result":[{"values":[["1","{\\"flow\\":{}}"]]}]}}', r"jq -r '\.data\.result\[\]\.values\[\]\[\]' FILE"),
        ('{"hits":{"hits":[{"_source":{"flow":{"uuid":"a"}}}]}}', r"jq -c '\.hits\.hits\[\]\._source' FILE"),
        ("[1]", "something other than an object"),
        ('{"x":' + "[" * 100_000 + "]" * 100_000 + ',"flow":{"uuid":"a"}}', "nested too deeply"),
        ('{"flow":{"x":' + '{"a":' * 100_000 + "1" + "}" * 100_000 + "}}", "nested too deeply"),
        ("Oct  1 10:00:00.000: blue/web-1:40000 (ID:2001) -> green/db-1:8080 (ID:2002) to-stack FORWARDED (TCP Flags: SYN)", "-o compact"),
        ("  TIMESTAMP: Oct  1 10:00:00.000", "-o dict"),
        ("TIMESTAMP             SOURCE    DESTINATION   TYPE   VERDICT   SUMMARY", "-o tab"),
        ("{'flow': {'uuid': 'a'}}", "Python's notation"),
        ("oops", "not JSON: expected one flow per line"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_it_is_and_the_rest_is_read(line: str, reason: str) -> None:
    text = f"{compact(EVENTS[0])}\n{line}\n{compact(EVENTS[1])}\n"
    flows, bad, _ = read(text)
    assert [flow.uuid for flow in flows] == ["u0", "u1"]
    assert [one.line for one in bad] == [2]
    assert len(bad[0].content) <= 16 * 1024
    assert re.search(reason, bad[0].reason)


def test_a_part_whose_end_is_missing_is_set_aside_and_the_next_flow_is_read() -> None:
    cut = in_parts(compact(EVENTS[0]), cri, [50]).splitlines()[0]
    flows, bad, _ = read(f"{cut}\n{cri(compact(EVENTS[1]), True)}{cut}\n")
    assert [flow.uuid for flow in flows] == ["u1"]
    assert [(one.line, "missing" in one.reason) for one in bad] == [(1, True), (3, True)]


def test_a_line_that_broke_off_costs_no_other_line() -> None:
    for end in (1, 8, 40, compact(EVENTS[0]).index(",") + 1, 100):
        torn = compact(EVENTS[0])[:end]
        flows, bad, lines = read(f"{torn}\n{PLAIN}{torn}")
        assert len(flows) == len(EVENTS), end
        assert lines[0] == 2
        assert [one.line for one in bad] == [1, len(EVENTS) + 2]


def test_a_long_line_is_set_aside_shortened_and_a_long_array_is_read() -> None:
    flows, bad, _ = read(compact(event(1, Summary="x" * 20_000_000)) + "\n" + PLAIN)
    assert (len(flows), [one.line for one in bad]) == (len(EVENTS), [1])
    assert len(bad[0].content) <= 16 * 1024
    flows, bad, _ = read(compact(EVENTS * 1000))
    assert (len(flows), bad) == (30_000, [])


def test_zero_bytes_that_rotation_by_copying_leaves_are_passed_over() -> None:
    flows, bad, lines = read(b"\0" * 10_000_000 + PLAIN.encode())
    assert (len(flows), bad, lines[0]) == (len(EVENTS), [], 1)


# Files ----------------------------------------------------------------------------------------------------


def zstd(data: bytes) -> bytes:
    packed: bytes = pa.compress(data, codec="zstd", asbytes=True)
    return packed


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress, zstd, lambda data: gzip.compress(zstd(data))])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_compression_and_encoding_are_recognised_by_content(tmp_path: Path, pack: Callable[[bytes], bytes], encoding: str) -> None:
    (tmp_path / "events.log").write_bytes(pack(PLAIN.encode(encoding)))
    with sources.open_text(tmp_path / "events.log") as stream:
        text = b""
        while part := stream.read(1000):
            text += part
    assert text.decode() == PLAIN


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zstd])
def test_compressed_parts_that_were_put_together_are_read_whole(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    (tmp_path / "events").write_bytes(pack(PLAIN.encode()) + pack(b"more\n"))
    with sources.open_text(tmp_path / "events") as stream:
        text = b""
        while part := stream.read(100_000):
            text += part
    assert text.decode() == PLAIN + "more\n"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PK\x03\x04" + b"x" * 600, "ZIP archive; unpack it first: unzip -p"),
        (b"x" * 257 + b"ustar", "tar archive"),
        (gzip.compress(b"x" * 257 + b"ustar"), "tar archive"),
        (b"PAR1" + b"\0" * 100, "Parquet"),
        (bytes(range(256)), "binary file"),
        (gzip.compress(b"x")[:8], "cannot be read"),
    ],
    # Names are given, since the bytes that gzip writes hold the time of the second.
    ids=["zip", "tar", "tar in a gzip", "parquet", "binary", "half of a gzip"],
)
def test_files_of_other_forms_are_refused_by_name(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "a.log").write_bytes(content)
    with pytest.raises(ImportFailedError, match=rf"a\.log: .*{what}"), sources.open_text(tmp_path / "a.log"):
        pass


def test_what_is_not_there_is_named_and_the_rest_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.log").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    (tmp_path / "lake" / "flows" / "_delta_log").mkdir(parents=True)
    found = sources.find_files([tmp_path / "no.log", tmp_path / "empty", tmp_path], leave_out=[tmp_path / "q.tsv"])
    assert found.files == (tmp_path / "a.log",)
    assert {Path(one.source).name for one in found.unread} == {"no.log", "empty", "broken", "flows"}


def test_a_rotated_set_is_read_in_the_order_it_was_written(tmp_path: Path) -> None:
    names = [
        "events-2026-11-23T01-07-00.002.log.gz", "events-2026-11-23T01-09-01.716.log", "events.log.10.gz", "events.log.2", "events.log.1",
        "events.log-20261001", "events.log-20261002.zst", "events.log",
    ]  # fmt: skip
    for name in sorted(names):
        (tmp_path / name).touch()
    assert sorted(Path(path).name for path in sources.find_files([tmp_path]).files) == sorted(names)
    assert [Path(path).name for path in sources.find_files([tmp_path]).files] == names

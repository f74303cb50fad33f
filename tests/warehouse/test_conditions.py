"""Filters as people write them: what they mean, against an oracle of our own, and what is said of wrong ones."""

import ipaddress
import re
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warehouse.errors import QueryError
from warehouse.questions import conditions
from warehouse.questions.conditions import FIELDS, Condition
from warehouse.schema import FLOWS

ROWS: list[dict[str, Any]] = [
    {
        "source_namespace": "shop",
        "destination_namespace": "cart",
        "destination_port": 443,
        "source_pod_name": "web-1",
        "source_ip": "10.0.0.7",
    },
    {
        "source_namespace": "cart",
        "destination_namespace": "shop",
        "destination_port": 53,
        "source_pod_name": "api-1",
        "source_ip": "10.9.0.7",
    },
    {
        "source_namespace": None,
        "destination_namespace": "shop",
        "destination_port": 8080,
        "source_labels": ["reserved:world"],
        "is_reply": True,
    },
    {
        "source_namespace": "kube",
        "destination_namespace": None,
        "source_labels": ["k8s:app=web"],
        "destination_names": ["a.example"],
        "is_reply": False,
    },
    {
        "source_namespace": "it's",
        "verdict": "DROPPED",
        "ingress_denied_by": [{"name": "deny", "namespace": "shop"}],
        "source_ip": "fd00::1",
    },
]


def matching(*texts: str, **how: bool) -> list[int]:
    """The places of the rows that match."""
    names = FLOWS.schema.names
    table = pa.Table.from_pylist([{name: row.get(name) for name in names} for row in ROWS], schema=FLOWS.schema)
    where, values = conditions.sql([conditions.parse(text) for text in texts], **how)
    connection = duckdb.connect()
    connection.register("flows", table.append_column("place", pa.array(range(len(ROWS)))))
    return [row[0] for row in connection.execute(f"SELECT place FROM flows WHERE {where} ORDER BY place", values).fetchall()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ns=shop", [0, 1, 2]),
        ("src.ns=shop", [0]),
        ("dst.ns=shop,cart", [0, 1, 2]),
        ("ns!=shop", [3, 4]),
        ("port=443", [0]),
        ("port>=443", [0, 2]),
        ("port!=53", [0, 2, 3, 4]),
        ("pod~^web-", [0]),
        ("pod!~^web-", [1, 2, 3, 4]),
        ("ip=10.0.0.0/16", [0]),
        ("ip=10.0.0.7", [0]),
        ("ip=fd00::1", [4]),
        ("label=app=web", [3]),
        ("label=reserved:world", [2]),
        ("label~^reserved:", [2]),
        ("name=a.example", [3]),
        ("policy=shop/deny", [4]),
        ("policy=deny", [4]),
        ("policy~^shop/", [4]),
        ("policy!=deny", [0, 1, 2, 3]),
        ("verdict=dropped", [4]),
        ("reply=yes", [2]),
        ("reply=no", [3]),
        ("ns=it's", [4]),
        ("ns=' OR 1=1 --", []),
    ],
)
def test_a_condition_lets_through_what_it_says(text: str, expected: list[int]) -> None:
    assert matching(text) == expected


def test_all_or_any_and_the_way_back() -> None:
    assert matching("src.ns=shop", "port=443") == [0]
    assert matching("src.ns=cart", "port=443", match_any=True) == [0, 1]
    assert matching("src.ns=shop", "dst.ns=cart") == [0]
    assert matching("src.ns=shop", "dst.ns=cart", both_ways=True) == [0, 1]
    assert matching() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a filter"),
        ("shop", "is not a filter"),
        ("prt=53", "did you mean 'port'"),
        ("galaxies=3", "the fields are ns"),
        ("ns=", "has no value"),
        ("src.verdict=DROPPED", "does not have a side"),
        ("port=http", "must be a number"),
        ("port=99999999999", "must be a number"),
        ("port=9000-80", "ends before it starts"),
        ("port>=80-90", "must be a number"),
        ("port~5", "is not text"),
        ("ns>=shop", "is not a number"),
        ("pod~(", "not a valid regular expression"),
        ("ip=10.0.0", "neither an address"),
        ("ip=fd00::/8", "IPv6 ranges are not supported"),
        ("reply=maybe", "yes or no"),
    ],
)
def test_a_wrong_condition_is_rejected_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(QueryError, match=re.escape(message)):
        conditions.parse(text)


names = (
    st.text(st.characters(min_codepoint=33, max_codepoint=0x17F, exclude_characters=","), min_size=1, max_size=12)
    .map(str.strip)
    .filter(bool)
)


@given(
    st.sampled_from(["ns", "workload", "pod", "service"]),
    st.sampled_from(["=", "!="]),
    st.lists(names, min_size=1, max_size=3),
    st.sampled_from(["either", "source", "destination"]),
)
@settings(max_examples=200)
def test_what_is_written_out_is_read_in_again(field: str, operator: str, values: list[str], side: Any) -> None:
    values = [value for value in values if not value.startswith(("=", "~"))]
    if values:
        condition = Condition(field=field, operator=operator, values=tuple(values), side=side)
        assert conditions.parse(str(condition)) == condition


@given(st.text(max_size=60))
@settings(max_examples=300)
def test_any_text_is_a_condition_or_a_query_error(text: str) -> None:
    try:
        condition = conditions.parse(text)
    except QueryError:
        return
    where, values = conditions.sql([condition])
    assert where.count("?") == len(values)
    assert not any(str(value) in where for value in values if isinstance(value, str) and len(value) > 6)


@pytest.mark.slow
@given(st.tuples(*[st.integers(0, 255)] * 4), st.integers(0, 32), st.tuples(*[st.integers(0, 255)] * 4))
@settings(max_examples=60)
def test_ranges_hold_the_addresses_that_they_should(base: tuple[int, ...], bits: int, address: tuple[int, ...]) -> None:
    network = ipaddress.ip_network((".".join(map(str, base)), bits), strict=False)
    text = ".".join(map(str, address))
    where, values = conditions.sql([conditions.parse(f"src.ip={network}")])
    found = duckdb.connect().execute(f"SELECT {where} FROM (SELECT '{text}' AS source_ip)", values).fetchone()
    assert found == (ipaddress.ip_address(text) in network,)


def test_every_field_is_of_the_table_and_says_what_it_is() -> None:
    columns = set(FLOWS.schema.names)
    for field in FIELDS.values():
        assert field.doc
        for name in field.columns:
            assert {f"source_{name}", f"destination_{name}"} <= columns if field.has_sides else name in columns

"""A table under a scope, against grants read one by one."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

import duckdb
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from warehouse.access import redaction, scoping
from warehouse.access.principals import Grant, Scope
from warehouse.engine import Window
from warehouse.schema import COVERAGE, FINDINGS, FLOWS, TIMESTAMP
from warehouse.schema.model import Table, column, partition_columns

START = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
CLUSTERS = ("c1", "c2", "d1")
NAMESPACES = ("a", "ab", "b", "b-c", "c")

HOURLY = Table(
    name="hourly",
    doc="",
    columns=(
        *partition_columns("hour"),
        column("hour", TIMESTAMP, ""),
        column("source_namespace", pa.string(), ""),
        column("destination_namespace", pa.string(), ""),
        column("source_secret", pa.string(), ""),
        column("shared_secret", pa.string(), ""),
    ),
    partition_by=("cluster", "date"),
    time_column="hour",
    row_span=HOUR,
)
VERSIONS = Table(
    name="versions",
    doc="",
    columns=(
        partition_columns()[0],
        column("valid_from", TIMESTAMP, ""),
        column("valid_to", TIMESTAMP, ""),
        column("namespace", pa.string(), ""),
    ),
    partition_by=("cluster",),
    time_column="valid_from",
)

moments = st.integers(0, 12).map(lambda number: START + number * HOUR / 2)
bounds = st.tuples(st.none() | moments, st.none() | moments).filter(lambda pair: None in pair or pair[0] < pair[1])  # type: ignore[operator]
clusters = st.sampled_from(["*", "c?", "c1", "c2", "d*", "x"])
namespaces = st.sampled_from([None, "*", "a", "a*", "b", "?", "c", "b-c"])


@st.composite
def grants(draw: st.DrawFn, *, is_denial: bool = False) -> Grant:
    since, until = draw(bounds)
    namespace = draw(namespaces)
    role = "platform-admin" if namespace is None else "namespace-owner"
    cuts = draw(st.lists(st.tuples(st.sampled_from(CLUSTERS), st.sampled_from(NAMESPACES), moments), max_size=2, unique_by=lambda c: c[:2]))
    return Grant(
        subject="x",
        role=role,
        cluster=draw(clusters),
        namespace=namespace,
        since=since,
        until=until,
        is_denial=is_denial,
        reason="",
        not_before=tuple(cuts) if since is None and not is_denial and namespace else (),
    )


scopes = st.builds(
    lambda given, taken: Scope(grants=tuple(given), denials=tuple(taken)),
    st.lists(grants(), max_size=3),
    st.lists(grants(is_denial=True), max_size=2),
)
windows = (
    st.tuples(st.none() | moments, st.none() | moments)
    .filter(lambda pair: None in pair or pair[0] < pair[1])
    .map(  # type: ignore[operator]
        lambda pair: Window(since=pair[0], until=pair[1])
    )
)
sides = st.sampled_from([*NAMESPACES, None])


def says(grant: Grant, cluster: str, namespace: str | None, at: dt.datetime) -> bool:
    """Whether a grant means a namespace at a time, written plainly."""
    if not fnmatchcase(cluster, grant.cluster) or (grant.since and at < grant.since) or (grant.until and at >= grant.until):
        return False
    if grant.namespace is None:
        return True
    if namespace is None or not fnmatchcase(namespace, grant.namespace):
        return False
    return all(at >= cut for here, name, cut in grant.not_before if (here, name) == (cluster, namespace))


def owns(scope: Scope, cluster: str, namespace: str | None, at: dt.datetime) -> bool:
    if namespace is None or any(says(denial, cluster, namespace, at) for denial in scope.denials):
        return False
    return any(says(grant, cluster, namespace, at) for grant in scope.grants)


def whole(scope: Scope, cluster: str, at: dt.datetime) -> bool:
    return not any(d.namespace is None and says(d, cluster, None, at) for d in scope.denials) and any(
        grant.namespace is None and says(grant, cluster, None, at) for grant in scope.grants
    )


ENGINE = duckdb.connect(config={"threads": 1})
ENGINE.execute("SET TimeZone = 'UTC'")


@contextlib.contextmanager
def loaded(table: Table, rows: list[dict[str, Any]]) -> Iterator[duckdb.DuckDBPyConnection]:
    ENGINE.from_arrow(pa.Table.from_pylist(rows, schema=table.schema)).create_view(table.name)
    yield ENGINE
    ENGINE.execute(f"DROP VIEW {table.name}")


def ask(scope: Scope, table: Table, window: Window, rows: list[dict[str, Any]], peer_detail: str = "workload") -> list[dict[str, Any]]:
    with loaded(table, rows) as connection:
        told: list[list[dict[str, Any]]] = []
        for apart in (True, False):
            found = connection.sql(scoping.visible(scope, table, window, CLUSTERS, peer_detail=peer_detail, ends_apart=apart))
            assert found.columns == table.schema.names
            told.append(found.to_arrow_table().to_pylist())
        assert sorted(map(repr, told[0])) == sorted(map(repr, told[1]))
        return told[0]


def within(window: Window, at: dt.datetime) -> bool:
    return (window.since is None or at >= window.since) and (window.until is None or at < window.until)


def plain(rows: list[dict[str, Any]]) -> list[str]:
    """Rows without what is null, comparable whatever the order."""
    return sorted(
        str(
            sorted(
                (name, value.isoformat() if isinstance(value, dt.datetime) else value) for name, value in row.items() if value is not None
            )
        )
        for row in rows
    )


flow_rows = st.lists(
    st.fixed_dictionaries(
        {
            "cluster": st.sampled_from(CLUSTERS),
            "time": moments,
            "source_namespace": sides,
            "destination_namespace": sides,
            "source_cluster_name": st.sampled_from([None, "c1", "c2", "default"]),
            "node_name": st.sampled_from([None, "c1/n", "n"]),
        }
    ),
    max_size=12,
)


@settings(max_examples=150)
@given(scope=scopes, window=windows, made=flow_rows, level=st.sampled_from(redaction.LEVELS))
def test_flows_are_seen_and_emptied_as_each_grant_says(scope: Scope, window: Window, made: list[dict[str, Any]], level: str) -> None:
    # A pod that has no namespace is in the cluster all the same: tests/access/test_peers_without_namespace.py.
    pods = [{f"{side}_pod_name": row[f"{side}_namespace"] and side for side in ("source", "destination")} for row in made]
    rows = [row | pods[n] | {"summary": "s", "uuid": str(n)} for n, row in enumerate(made)]
    expected = []
    for row in rows:
        cluster, at = row["cluster"], row["time"]
        if not within(window, at):
            continue
        seen_whole = whole(scope, cluster, at)
        agents_name = row["node_name"].split("/")[0] if row["node_name"] else None
        local = row["source_cluster_name"] in (None, cluster, "default", agents_name)
        # A namespace of another cluster is not its namesake's here, but who sees the cluster whole sees it.
        source = owns(scope, cluster, row["source_namespace"], at) and (local or seen_whole)
        destination = owns(scope, cluster, row["destination_namespace"], at)
        neither = row["source_namespace"] is None and row["destination_namespace"] is None
        if not (source or destination or (neither and seen_whole)):
            continue
        shown = dict(row)
        for side, mine in (("source", source), ("destination", destination)):
            if row[f"{side}_namespace"] is not None and not mine and level != "full":
                shown |= {f"{side}_pod_name": None, "summary": None}
                if level in ("namespace", "hidden"):
                    shown[f"{side}_cluster_name"] = None
                if level == "hidden":
                    shown[f"{side}_namespace"] = None
        expected.append(shown)
    assert plain(ask(scope, FLOWS, window, rows, level)) == plain(expected)


@settings(max_examples=80)
@given(scope=scopes, window=windows, made=st.lists(st.tuples(st.sampled_from(CLUSTERS), st.integers(0, 6), sides, sides), max_size=12))
def test_a_row_that_sums_up_an_hour_is_seen_if_all_of_the_hour_may_be(scope: Scope, window: Window, made: list[Any]) -> None:
    rows = [
        {
            "cluster": c,
            "hour": START + n * HOUR,
            "source_namespace": s,
            "destination_namespace": d,
            "source_secret": "x",
            "shared_secret": "y",
        }
        for c, n, s, d in made
    ]
    for row in ask(scope, HOURLY, window, rows):
        assert within(window, row["hour"])
        for at in (row["hour"], row["hour"] + HOUR / 2):
            mine = [owns(scope, row["cluster"], row[f"{side}_namespace"], at) for side in ("source", "destination")]
            assert any(mine) or whole(scope, row["cluster"], at)
            if row["source_namespace"] and not mine[0]:
                assert (row["source_secret"], row["shared_secret"]) == (None, None)


@settings(max_examples=80)
@given(scope=scopes, window=windows, made=st.lists(st.tuples(st.sampled_from(CLUSTERS), moments, sides), max_size=12))
def test_rows_of_a_namespace_are_seen_by_who_owned_it_then(scope: Scope, window: Window, made: list[Any]) -> None:
    rows = [{"cluster": c, "time": at, "namespace": n, "summary": str(number)} for number, (c, at, n) in enumerate(made)]
    expected = [
        row
        for row in rows
        if within(window, row["time"])
        and (owns(scope, row["cluster"], row["namespace"], row["time"]) if row["namespace"] else whole(scope, row["cluster"], row["time"]))
    ]
    assert plain(ask(scope, FINDINGS, window, rows)) == plain(expected)


def test_a_version_is_seen_by_who_owned_its_namespace_at_any_time_of_it() -> None:
    red = Scope(grants=(Grant(subject="r", role="namespace-owner", cluster="*", namespace="a", until=START + HOUR, reason=""),))
    blue = Scope(grants=(Grant(subject="b", role="namespace-owner", cluster="*", namespace="a", since=START + HOUR, reason=""),))
    rows = [
        {"cluster": "c1", "namespace": "a", "valid_from": START, "valid_to": START + HOUR},
        {"cluster": "c1", "namespace": "a", "valid_from": START + HOUR, "valid_to": None},
        {"cluster": "c1", "namespace": "b", "valid_from": START, "valid_to": None},
        {"cluster": "c1", "namespace": None, "valid_from": START, "valid_to": None},
    ]
    assert plain(ask(red, VERSIONS, Window(), rows)) == plain(rows[:1])
    assert plain(ask(blue, VERSIONS, Window(), rows)) == plain(rows[1:2])
    assert ask(blue, VERSIONS, Window(until=START + HOUR), rows) == []


def test_the_ledger_is_shown_by_cluster() -> None:
    scope = Scope(grants=(Grant(subject="r", role="namespace-owner", cluster="c1", namespace="a", reason=""),))
    rows = [{"cluster": c, "from": START, "to": START + HOUR} for c in CLUSTERS]
    assert [row["cluster"] for row in ask(scope, COVERAGE, Window(), rows)] == ["c1"]
    assert ask(Scope(), COVERAGE, Window(), rows) == []


def test_a_table_of_unknown_shape_is_seen_only_by_who_sees_everything() -> None:
    table = Table(name="odd", doc="", columns=(*partition_columns(), column("time", TIMESTAMP, "")), partition_by=("cluster", "date"))
    rows = [{"cluster": "c1", "time": START}]
    whole_cluster = Scope(grants=(Grant(subject="r", role="cluster-admin", cluster="c1", namespace=None, since=START, reason=""),))
    assert ask(whole_cluster, table, Window(), rows) == []
    everything = Scope(grants=(Grant(subject="r", role="platform-admin", cluster="*", namespace=None, reason=""),))
    assert len(ask(everything, table, Window(), rows)) == 1


def test_the_hash_of_a_scope_covers_the_window_before_and_the_hour_after() -> None:
    begin, day, hour = dt.datetime(2026, 3, 2, tzinfo=dt.UTC), dt.timedelta(days=1), dt.timedelta(hours=1)
    own = Grant(subject="a", role="namespace-owner", cluster="c1", namespace="shop", reason="")

    def hashed(*grants: Grant, peer_detail: str = "workload") -> str:
        return Scope(grants=(own, *grants)).fingerprint(begin, begin + day, peer_detail=peer_detail)

    def in_force(since: dt.datetime, until: dt.datetime) -> Grant:
        return Grant(subject="a", role="namespace-owner", cluster="c1", namespace="pay", since=since, until=until, reason="")

    outside = in_force(begin - 3 * day, begin - day), in_force(begin + day + hour, begin + 3 * day)
    assert hashed(*outside) == hashed()
    assert hashed(in_force(begin - 2 * hour, begin - hour)) != hashed()
    assert hashed(in_force(begin + day, begin + day + hour)) != hashed()
    assert hashed(peer_detail="hidden") != hashed()
    whole = Grant(subject="a", role="platform-admin", cluster="*", namespace=None, reason="")
    assert hashed(whole, peer_detail="hidden") == hashed(whole)  # who sees everything sees every peer

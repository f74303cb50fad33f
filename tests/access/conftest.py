"""A small world whose ownership changes, and an oracle that knows its answers without the code under test.

The configuration says who owns what in the product's words; `OWNED` and `DENIED` say the same by hand, as plain facts of
(subject, cluster, namespace, from, until). The oracle reads the facts flow by flow.
"""

from __future__ import annotations

import datetime as dt
import json
import random
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from warehouse import config
from warehouse.access import access_log
from warehouse.access.principals import OPERATOR, Principal
from warehouse.lake.tables import Lake
from warehouse.questions.door import Door
from warehouse.questions.flow_filter import FlowFilter
from warehouse.schema import COVERAGE, DRIFT, FINDINGS, FLOWS, POLICY_CHANGES, POSTURE, PROPOSED_EDGES, TABLES, Table

sys.path.insert(0, str(Path(__file__).parent))  # for modules of these tests

from seen_by_people import LEVELS, Seen

START = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
DAY, HOUR = dt.timedelta(days=1), dt.timedelta(hours=1)
END = START + 6 * DAY
CLUSTERS = ("c1", "c2")
CHANGES = (0.5, 1, 1.5, 2, 2.25, 2.5, 3, 4, 5)
NAMESPACES = ("shop", "orders", "payments", "payroll", "or-test", "kube-system")


def day(number: float) -> str:
    """A moment of the world in the configuration's words."""
    return (START + number * DAY).isoformat()


OWNERSHIP = {
    "peer_detail": "workload",
    "sources": [
        {"kind": "label", "key": "team"},
        {"kind": "annotation", "key": "hindcast.io/owners", "subject": "{value}"},
        {"kind": "role_bindings"},
    ],
    "grants": [
        {"subject": "ada", "role": "platform-admin"},
        {"subject": "audrey", "role": "auditor", "reason": "yearly audit"},
        {"subject": "carl", "role": "cluster-admin", "clusters": ["c2"]},
        {"subject": "tim", "role": "cluster-admin", "clusters": ["c?"], "since": day(1), "until": day(2.5)},
        {"subject": "dora", "role": "platform-admin"},
        {"subject": "dora", "deny": True, "namespaces": ["payroll"], "reason": "wages are private"},
        {"subject": "otto", "role": "namespace-owner", "namespaces": ["or*"]},
        {"subject": "group:payments", "role": "namespace-owner", "clusters": ["c1"], "namespaces": ["payments", "payroll"]},
        {"subject": "group:interns", "deny": True, "namespaces": ["pay*"], "since": day(3)},
        {"subject": "wanda", "role": "namespace-owner", "namespaces": ["orders"], "since": day(1.5), "until": day(4)},
        {"subject": "wanda", "role": "namespace-owner", "clusters": ["c2"], "namespaces": ["payments"], "until": day(3)},
        {"subject": "sina", "role": "namespace-owner", "selector": "team in (blue, red), !frozen"},
        {"subject": "nora", "role": "namespace-owner", "clusters": ["c1"], "namespaces": ["shop"]},
        {"subject": "olga", "role": "namespace-owner", "clusters": ["c1"], "namespaces": ["shop"], "since": day(0)},
        {"subject": "lost", "role": "namespace-owner", "namespaces": ["nowhere"]},
    ],
}

# (cluster, namespace, uid, labels, annotations, from, until): shop of c1 is deleted and made anew for another team.
HISTORY: list[tuple[str, str, str, dict[str, str], dict[str, str], float, float | None]] = [
    ("c1", "shop", "u1", {"team": "red"}, {}, 0, 2),
    ("c1", "shop", "u2", {"team": "blue"}, {}, 3, None),
    ("c1", "orders", "u3", {"team": "red"}, {}, 0, 2.25),
    ("c1", "orders", "u3", {"team": "blue"}, {}, 2.25, 4),
    ("c1", "orders", "u3", {"team": "blue", "frozen": "yes"}, {}, 4, None),
    ("c2", "payments", "u4", {}, {"hindcast.io/owners": "anna, group:annex"}, 1, 5),
]
# (cluster, namespace, role, kind, name, from, until)
BINDINGS: list[tuple[str, str, str, str, str, float, float | None]] = [
    ("c1", "payroll", "edit", "User", "rita", 1, 4),
    ("c1", "payroll", "view", "User", "vera", 0, None),
    ("c2", "shop", "admin", "Group", "shopkeepers", 2, None),
    ("c2", "shop", "admin", "User", "group:payments", 0, None),
]

# The same by hand: subject -> (cluster, namespace, from, until) as regular expressions and days; None for a cluster seen whole.
OWNED: dict[str, list[tuple[str, str | None, float, float]]] = {
    "operator": [(".*", None, -9999, 9999)],
    "ada": [(".*", None, -9999, 9999)],
    "audrey": [(".*", None, -9999, 9999)],
    "carl": [("c2", None, -9999, 9999)],
    "tim": [("c.", None, 1, 2.5)],
    "dora": [(".*", None, -9999, 9999)],
    "otto": [(".*", "or.*", -9999, 9999)],
    "group:payments": [("c1", "payments|payroll", -9999, 9999)],
    "group:interns": [],
    "wanda": [(".*", "orders", 1.5, 4), ("c2", "payments", -9999, 3)],
    "sina": [("c1", "shop", 0, 2), ("c1", "shop", 3, 9999), ("c1", "orders", 0, 4)],
    "nora": [("c1", "shop", 3, 9999)],
    "olga": [("c1", "shop", 0, 9999)],
    "group:red": [("c1", "shop", 0, 2), ("c1", "orders", 0, 2.25)],
    "group:blue": [("c1", "shop", 3, 9999), ("c1", "orders", 2.25, 9999)],
    "anna": [("c2", "payments", 1, 5)],
    "group:annex": [("c2", "payments", 1, 5)],
    "rita": [("c1", "payroll", 1, 4)],
    "group:shopkeepers": [("c2", "shop", 2, 9999)],
    "lost": [(".*", "nowhere", -9999, 9999)],
}
DENIED: dict[str, list[tuple[str, str, float, float]]] = {
    "dora": [(".*", "payroll", -9999, 9999)],
    "group:interns": [(".*", "pay.*", 3, 9999)],
}
PEOPLE = {
    "operator": OPERATOR,
    **{name: Principal(user=name) for name in ("ada", "carl", "tim", "dora", "otto", "wanda", "sina", "nora", "olga", "anna", "rita")},
    "payments": Principal(user="paula", groups=frozenset({"payments"})),
    "intern": Principal(user="ines", groups=frozenset({"payments", "interns"})),
    "red": Principal(user="ron", groups=frozenset({"red"})),
    "blue": Principal(user="bea", groups=frozenset({"blue", "nobody"})),
    "annex": Principal(user="axel", groups=frozenset({"annex", "shopkeepers"})),
    "lost": Principal(user="lost"),
}
STRANGERS = {
    "eve": Principal(user="eve", groups=frozenset({"Payments", "payment", "red "})),
    "vera": Principal(user="vera"),
    "liar": Principal(user="group:payments"),
    "empty": Principal(user=""),
}

# What is empty of the other side, by level, by hand. `shared` is of both sides at once.
SIDE_HIDDEN = {
    "workload": ["pod_name", "ip", "endpoint_id", "labels", "names", "mac"],
    "namespace": ["workload_name", "workload_kind", "service_name", "service_namespace", "identity", "cluster_name"],
    "hidden": ["namespace"],
}
SHARED_HIDDEN = [
    "summary", "rest", "policy_log", "interface_name", "interface_index", "trace_id", "ip_trace_id", "socket_cookie", "cgroup_id",
    "node_labels", "tunnel_vni", "tunnel_source_port", "tunnel_source_ip", "tunnel_destination_ip", "proxy_port", "file_name", "file_line",
    "l7_latency_ns", "l7_http_code", "l7_http_method", "l7_http_url", "l7_http_protocol", "l7_http_headers", "l7_dns_query",
    "l7_dns_ips", "l7_dns_ttl", "l7_dns_cnames", "l7_dns_observation_source", "l7_dns_rcode", "l7_dns_qtypes", "l7_dns_rrtypes",
    "l7_kafka_error_code", "l7_kafka_api_version", "l7_kafka_api_key", "l7_kafka_correlation_id", "l7_kafka_topic",
]  # fmt: skip
OF_SIDE = {
    "source": ["egress_allowed_by", "egress_denied_by", "source_xlated"],
    "destination": ["ingress_allowed_by", "ingress_denied_by"],
}


class Oracle:
    """The rule, read plainly: flow by flow, fact by fact."""

    def owns(self, who: str, cluster: str, namespace: str | None, at: dt.datetime) -> bool:
        if namespace is None:
            return False
        when = (at - START) / DAY
        subjects = self._subjects(who)
        for cluster_, name, since, until in (fact for subject in subjects for fact in DENIED.get(subject, ())):
            if re.fullmatch(cluster_, cluster) and re.fullmatch(name, namespace) and since <= when < until:
                return False
        for cluster_, owned, since, until in (fact for subject in subjects for fact in OWNED.get(subject, ())):
            if re.fullmatch(cluster_, cluster) and since <= when < until and (owned is None or re.fullmatch(owned, namespace)):
                return True
        return False

    def whole(self, who: str, cluster: str, at: dt.datetime) -> bool:
        when = (at - START) / DAY
        facts = [fact for subject in self._subjects(who) for fact in OWNED.get(subject, ())]
        return any(owned is None and re.fullmatch(c, cluster) and since <= when < until for c, owned, since, until in facts)

    def knows(self, who: str, cluster: str) -> bool:
        """Whether anything of a cluster is the person's at any time; denials of namespaces take no cluster away."""
        return any(re.fullmatch(c, cluster) for subject in self._subjects(who) for c, _, _, _ in OWNED.get(subject, ()))

    def sides(self, who: str, row: dict[str, Any]) -> tuple[bool, bool]:
        """Which sides of a flow are the person's.

        A namespace of another cluster of a mesh is not its namesake's here; who sees the cluster whole sees it all the same.
        """
        found = []
        for side in ("source", "destination"):
            local = row[f"{side}_cluster_name"] in (None, row["cluster"]) or self.whole(who, row["cluster"], row["time"])
            found.append(local and self.owns(who, row["cluster"], row[f"{side}_namespace"], row["time"]))
        return found[0], found[1]

    def sees(self, who: str, row: dict[str, Any]) -> bool:
        neither = row["source_namespace"] is None and row["destination_namespace"] is None
        return any(self.sides(who, row)) or (neither and self.whole(who, row["cluster"], row["time"]))

    def knows_side(self, who: str, row: dict[str, Any], side: str) -> bool:
        """Whether a side without namespace is truly outside, or the person sees the cluster whole and is denied nothing there."""
        denied = any(re.fullmatch(cluster, row["cluster"]) for subject in self._subjects(who) for cluster, *_ in DENIED.get(subject, ()))
        return row[f"{side}_identity"] == 2 or (not denied and self.whole(who, row["cluster"], row["time"]))

    def shown(self, who: str, row: dict[str, Any], level: str = "workload") -> dict[str, Any] | None:
        """The flow as the person sees it; None if not at all."""
        if not self.sees(who, row):
            return None
        hidden: set[str] = set()
        mine = dict(zip(("source", "destination"), self.sides(who, row), strict=True))
        for side in ("source", "destination"):
            if mine[side] or level == "full" or (row[f"{side}_namespace"] is None and self.knows_side(who, row, side)):
                continue
            hidden |= {*SHARED_HIDDEN, *OF_SIDE[side]}
            for step in LEVELS[1 : LEVELS.index(level) + 1]:
                hidden |= {f"{side}_{part}" for part in SIDE_HIDDEN[step]}
        return {name: None if name in hidden else value for name, value in row.items()}

    def _subjects(self, who: str) -> list[str]:
        if who in ("operator",):
            return ["operator"]
        person = (PEOPLE | STRANGERS)[who]
        names = [] if person.user.startswith("group:") or not person.user else [person.user]
        return names + [f"group:{group}" for group in person.groups]


@dataclass
class World:
    """The lake, its rows as they were made, the door and the oracle."""

    lake: Lake
    flows: list[dict[str, Any]]
    findings: list[dict[str, Any]]
    folder: Path
    oracle: Oracle = field(default_factory=Oracle)

    def manifests(self, who: str, begin: float, end: float) -> set[str]:
        """Which versions of namespaces a person may see, of those in force between two days: at some time of it, it was hers."""
        found = set()
        for number, (cluster, name, _, _, _, since, until) in enumerate(HISTORY):
            times = [begin + step / 8 for step in range(int((end - begin) * 8) + 1)]
            if any(
                since <= at < (9999 if until is None else until) and self.oracle.owns(who, cluster, name, START + at * DAY) for at in times
            ):
                found.add(f"manifest~{number}")
        return found

    def door(self, level: str = "workload") -> Door:
        return Door(self.lake, config.Ownership.model_validate(OWNERSHIP | {"peer_detail": level}))

    def ownership(self) -> config.Ownership:
        return config.Ownership.model_validate(OWNERSHIP)

    @property
    def people(self) -> dict[str, Principal]:
        return PEOPLE | STRANGERS

    @property
    def config_file(self) -> Path:
        return self.folder / "hindcast.yaml"

    @property
    def everything(self) -> FlowFilter:
        return FlowFilter(since=START, until=END)


def _flow(number: int, chance: random.Random) -> dict[str, Any]:
    """A flow in which every column holds a value that is found in no other."""
    row: dict[str, Any] = {}
    for made in FLOWS.columns:
        name, kind = made.name, made.type
        if pa.types.is_string(kind):
            row[name] = f"{name}~{number}"
        elif pa.types.is_boolean(kind):
            row[name] = True
        elif pa.types.is_binary(kind):
            row[name] = f"rest~{number}".encode()
        elif pa.types.is_list(kind):
            row[name] = (
                [f"{name}~{number}"]
                if pa.types.is_string(kind.value_type)
                else [{part.name: f"{name}~{number}" for part in kind.value_type if part.type == pa.string()}]
            )
        elif pa.types.is_integer(kind):
            row[name] = 100 + number % 20_000
    cluster = chance.choice(CLUSTERS)
    # Around the moments at which something changes, and at them: few hours, so that sums by the hour are quick.
    time = START + chance.choice(CHANGES) * DAY + chance.choice([0, chance.uniform(-0.02, 0.02)]) * DAY
    row |= {"cluster": cluster, "time": time, "date": time.date(), "uuid": f"uuid-{number}", "flow_count": 1, "time_ns": None}
    row |= {"node_name": f"{cluster}/node", "verdict": chance.choice(["FORWARDED", "DROPPED"]), "l4_protocol": "TCP"}
    row |= {"drop_reason_desc": "POLICY_DENIED" if row["verdict"] == "DROPPED" else None, "traffic_direction": "EGRESS"}
    for side in ("source", "destination"):
        row[f"{side}_namespace"] = chance.choice([*NAMESPACES, None])
        row[f"{side}_cluster_name"] = chance.choice([None, cluster, cluster, cluster, "elsewhere", *CLUSTERS])
        if row[f"{side}_namespace"] is None and chance.random() < 0.5:  # truly outside: nothing of it is of the cluster
            named = ("pod_name", "workload_name", "workload_kind", "service_name", "service_namespace", "names", "endpoint_id")
            row |= {f"{side}_{part}": None for part in named} | {name: None for name in OF_SIDE[side] if name != "source_xlated"}
            row |= {f"{side}_labels": [f"reserved:world~{number}"], f"{side}_identity": 2}
    # What a real flow has, a rebuilt one has: only values that the wire's types can hold.
    row |= {"rest": None, "recorded_lag_ms": 5, "clock_skew": None, "flow_type": "L3_L4", "l7_type": "REQUEST", "is_reply": False}
    for name in ("tcp_flags", "auth_type", "sock_xlate_point", "debug_capture_point", "trace_observation_point", "trace_reason"):
        row[name] = None
    for name in ("ip_version", "tunnel_protocol", "tunnel_ip_version", "icmp_type", "icmp_code"):
        row[name] = None
    for name in (made.name for made in FLOWS.columns if pa.types.is_list(made.type)):
        if (
            row.get(name)
            and isinstance(row[name][0], dict)
            and "labels" in {part.name for part in FLOWS.schema.field(name).type.value_type}
        ):
            row[name] = [{"name": f"{name}~{number}", "namespace": "", "labels": [], "revision": 1, "kind": "CiliumNetworkPolicy"}]
    return row


def _named(table: Table, number: int, chance: random.Random) -> dict[str, Any]:
    """A row in which every text is found in no other."""
    time = START + chance.random() * 6 * DAY
    row: dict[str, Any] = {name: f"{name}~{number}" for name in table.schema.names if table.schema.field(name).type == pa.string()}
    row |= {"cluster": chance.choice(CLUSTERS), "time": time, "date": time.date()}
    return row | ({"namespace": chance.choice([*NAMESPACES, None])} if "namespace" in row else {})


def _event(row: dict[str, Any], number: int) -> dict[str, Any]:
    """A proposal that names something of its own in everything that is recorded of it."""
    about = {"risks": [f"risk~{number}"], "needs": "nobody", "expires": START.isoformat()}
    record = {"number": 1, "place": 0, "object": {}, "about": about}
    objects = {when: json.dumps({"metadata": {"name": f"{when}~{number}"}, "spec": {}}) for when in ("before", "after")}
    return row | objects | {"event": "proposed", "record": json.dumps(record)}


def _changes() -> Iterator[dict[str, Any]]:
    """Changes of blueprints, each for one cluster or for both: a row of the whole fleet."""
    for number in range(12):
        moment = START + number * DAY / 2
        clusters = (CLUSTERS[:1], CLUSTERS[1:], CLUSTERS)[number % 3]
        file = {"source": f"source~{number}", "text": f"text~{number}", "before": f"before~{number}"}
        record = {"number": 1, "about": {"file": file, "clusters": list(clusters), "canary": [], "plans": {}, "reason": f"why~{number}"}}
        yield {
            "cluster": "*", "date": moment.date(), "time": moment, "run": f"change~{number}", "cause": "change", "event": "begun",
            "actor": f"actor~{number}", "blueprint": "base", "blueprint_version": "1.0.0", "record": json.dumps(record),
        }  # fmt: skip


def _proposed(flow: dict[str, Any]) -> dict[str, Any]:
    """What a simulation says of a flow; the reason names a pod of either end, and so may be seen by who owns both."""
    ends = [f"{side}_{name}" for side in ("source", "destination") for name in ("namespace", "cluster_name", "workload_name")]
    row = {name: flow.get(name) for name in ("cluster", "date", "time", *ends)}
    reason = f"{flow['source_pod_name']} {flow['destination_pod_name']}"
    return row | {"proposal": "p", "judgement": 1, "change": "newly_denied", "flows": 1, "reason": reason}


def _store(lake: Lake, table: Table, rows: list[dict[str, Any]]) -> None:
    lake.commit(table, lake.write_files(table, pa.Table.from_pylist(rows, schema=table.schema)), transactions={}, metadata={})


def _versions() -> Iterator[tuple[str, dict[str, Any]]]:
    for number, (cluster, name, uid, labels, notes, since, until) in enumerate(HISTORY):
        manifest = {
            "kind": "Namespace",
            "metadata": {"name": name, "labels": labels, "annotations": notes | {"note": f"manifest~{number}"}},
        }
        yield "namespaces", _version(cluster, "Namespace", name, name, uid, manifest, since, until)
    for number, (cluster, namespace, role, kind, name, since, until) in enumerate(BINDINGS):
        manifest = {
            "kind": "RoleBinding",
            "roleRef": {"kind": "ClusterRole", "name": role},
            "subjects": [{"kind": kind, "name": name, "apiGroup": "rbac.authorization.k8s.io"}],
        }
        yield "role_bindings", _version(cluster, "RoleBinding", namespace, f"binding-{number}", f"b{number}", manifest, since, until)


def _version(
    cluster: str, kind: str, namespace: str | None, name: str, uid: str, manifest: dict[str, Any], since: float, until: float | None
) -> dict[str, Any]:
    return {
        "cluster": cluster,
        "kind": kind,
        "namespace": namespace,
        "name": name,
        "uid": uid,
        "manifest": json.dumps(manifest),
        "valid_from": START + since * DAY,
        "valid_to": None if until is None else START + until * DAY,
        "recorded": START,
    }


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Six days of two clusters: 1,000 flows, findings, the ledger, and the configuration's history."""
    folder = tmp_path_factory.mktemp("world")
    lake = Lake.open(config.Lake(url=str(folder / "lake")))
    chance = random.Random(6)
    made = [_flow(number, chance) for number in range(1000)]
    for number in range(0, len(made), 500):
        _store(lake, FLOWS, made[number : number + 500])
    findings = [_named(FINDINGS, number, chance) | {"state": "open"} for number in range(300)]
    _store(lake, FINDINGS, findings)
    _store(lake, DRIFT, [_named(DRIFT, number, chance) | {"state": "open"} for number in range(60)])
    _store(lake, POLICY_CHANGES, [_event(_named(POLICY_CHANGES, number, chance), number) for number in range(60)])
    _store(lake, POLICY_CHANGES, list(_changes()))
    _store(lake, PROPOSED_EDGES, [_proposed(row) for row in made if row["source_namespace"] and row["destination_namespace"]])
    _store(lake, POSTURE, [_named(POSTURE, number, chance) for number in range(10)])
    _store(
        lake,
        COVERAGE,
        [
            {"cluster": c, "date": START.date(), "from": START, "to": START + HOUR, "node_name": f"{c}/node", "state": "connected"}
            for c in CLUSTERS
        ],
    )
    for table, row in _versions():
        _store(lake, TABLES[table], [{"hash": "", "source": "snapshot"} | row])
    settings = {"lake": {"url": str(folder / "lake")}, "ownership": OWNERSHIP, "clusters": [{"name": name} for name in CLUSTERS]}
    (folder / "hindcast.yaml").write_text(json.dumps(settings))
    stored: list[dict[str, Any]] = lake.read(FLOWS).to_pylist()
    yield World(lake, stored, lake.read(FINDINGS).to_pylist(), folder)
    access_log.flush()


@pytest.fixture(scope="session")
def door(world: Any) -> Door:
    found: Door = world.door()
    return found


@pytest.fixture(scope="session")
def seen(world: Any) -> Callable[..., Seen]:
    known: dict[tuple[str, str], Seen] = {}

    def of(who: str, level: str = "workload") -> Seen:
        if (who, level) not in known:
            known[who, level] = Seen(world, who, level)
        return known[who, level]

    return of


@pytest.fixture(scope="session")
def person(world: Any) -> Callable[[str], Principal]:
    def of(who: str) -> Principal:
        found: Principal = world.people[who]
        return found

    return of


@pytest.fixture(scope="session")
def door_of(world: Any) -> Callable[[str], Door]:
    doors = {level: world.door(level) for level in LEVELS}
    return doors.__getitem__

"""What the simulated fleet records of its traffic is what its recorded policies give, by the policy engine's judgement."""

import bisect
import collections
import datetime as dt
import itertools
import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from collectors.decoding.decode import decode
from collectors.hubble_api.flow import flow_pb2
from collectors.simulator import configuration
from collectors.simulator.fleet import build_fleet
from collectors.simulator.history import backfill
from collectors.simulator.story import Story
from collectors.simulator.traffic import Traffic
from pipelines.policy import layer7, verdict
from pipelines.policy.labels import LabelSet
from pipelines.policy.model import Connection, Direction, Side
from pipelines.policy.policy_set import PolicySet, compile_policies
from pipelines.policy.reading import Document
from pipelines.policy.settings import AgentSettings, from_cilium_config, release_of
from pipelines.policy.verdict import Decision, Verdict
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.records import versions
from warehouse.schema import CLUSTER_SETTINGS, FLOWS, POLICY_VERSIONS, WORKLOADS

NOW = dt.datetime(2026, 3, 3, 12, 30, tzinfo=dt.UTC)
SINCE = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
FLEET = build_fleet(1, clusters=("eu-central", "us-east"))
STORY = Story.before(NOW)
ALLOWED, DENIED, BY_REQUEST = ("FORWARDED", "REDIRECTED"), ("DROPPED", "AUDIT"), 129
COLUMNS = [
    *("cluster", "time", "verdict", "event_type", "traffic_direction", "is_reply", "l4_protocol", "destination_port"),
    *(f"{end}_{what}" for end in ("source", "destination") for what in ("labels", "names", "ip", "pod_name")),
    *(f"{direction}_{what}_by" for direction in ("ingress", "egress") for what in ("allowed", "denied")),
    *("l7_type", "l7_http_method", "l7_http_url", "l7_dns_query"),
]
Row = dict[str, Any]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake.open(config.Lake(url=str(tmp_path_factory.mktemp("verdicts"))))
    configuration.backfill(lake, FLEET, STORY, since=SINCE, until=NOW)
    backfill(lake, FLEET, STORY, since=SINCE, until=NOW, flows_per_second=0.3, seed=1)
    return lake


@pytest.fixture(scope="module")
def history(lake: Lake) -> list[Row]:
    rows: list[Row] = lake.read(FLOWS, COLUMNS).to_pylist()
    return rows


class InForce:
    """The policies that were recorded as in force in a cluster at a time, compiled."""

    def __init__(self, lake: Lake) -> None:
        rows = versions.between(lake, SINCE, NOW, versions.Selection(tables=[POLICY_VERSIONS, CLUSTER_SETTINGS])).to_pylist()
        self._rows = rows
        self._moments = sorted({row["valid_from"] for row in rows} | {row["valid_to"] for row in rows if row["valid_to"]})
        self._made: dict[tuple[str, int], PolicySet] = {}

    def at(self, cluster: str, time: dt.datetime) -> PolicySet:
        key = cluster, bisect.bisect_right(self._moments, time)
        if key not in self._made:
            self._made[key] = self._compile(cluster, time)
        return self._made[key]

    def _compile(self, cluster: str, time: dt.datetime) -> PolicySet:
        current = [row for row in self._rows if row["cluster"] == cluster and row["valid_from"] <= time]
        current = [row for row in current if row["valid_to"] is None or row["valid_to"] > time]
        manifests = {row["kind"]: json.loads(row["manifest"]) for row in current if row["kind"] in ("ConfigMap", "CiliumAgents")}
        release = release_of(manifests["CiliumAgents"]["spec"]["version"])
        settings = from_cilium_config(manifests["ConfigMap"]["data"], AgentSettings(release=release))
        found = compile_policies([Document(json.loads(row["manifest"])) for row in current if "Polic" in row["kind"]], settings)
        assert found.refusals == ()
        return found


def side(row: Row, name: str) -> Side:
    labels = LabelSet(row[f"{name}_labels"])
    address = None
    if labels.is_world:
        from ipaddress import ip_address

        address = ip_address(row[f"{name}_ip"])
    return Side(
        name=row[f"{name}_pod_name"] or name,
        subject=labels,
        enforced=labels.namespace is not None,
        seen_as=labels,
        address=address,
        names=tuple(row[f"{name}_names"] or ()),
    )


def request(row: Row) -> layer7.HttpRequest | layer7.DnsQuery | None:
    if row["l7_http_method"]:
        return layer7.HttpRequest(row["l7_http_method"], "/" + row["l7_http_url"].split("/", 3)[3])
    return layer7.DnsQuery(row["l7_dns_query"]) if row["l7_dns_query"] else None


def decisions(policies: InForce, row: Row) -> dict[Direction, Decision]:
    found = policies.at(row["cluster"], row["time"])
    connection = Connection(
        side(row, "source"), side(row, "destination"), row["l4_protocol"], row["destination_port"], request=request(row)
    )
    return {direction: verdict.decide(found, direction, connection) for direction in Direction}


def named(policies: Iterable[Row] | None) -> set[tuple[str, str, str]]:
    return {(each["kind"], each["namespace"] or "", each["name"]) for each in policies or ()}


def replayed(lake: Lake, rows: Iterable[Row]) -> collections.Counter[str]:
    """How often the engine agrees with what was recorded; each distinct connection of a state of the policies is judged once."""
    policies, counts = InForce(lake), collections.Counter[str]()
    known: dict[tuple[Any, ...], dict[Direction, Decision]] = {}
    for row in rows:
        if row["is_reply"] or row["l7_type"] == "RESPONSE":
            continue
        who = tuple(tuple(row[f"{name}_{what}"] or ()) for name in ("source", "destination") for what in ("labels", "names"))
        key = (id(policies.at(row["cluster"], row["time"])), who, row["destination_port"], row["l7_http_url"], row["l7_dns_query"])
        if key not in known:
            known[key] = decisions(policies, row)
        counts[judged(row, known[key])] += 1
    return counts


def judged(row: Row, found: dict[Direction, Decision]) -> str:
    """In a word whether the engine gives what the row says."""
    here = Direction.INGRESS if row["traffic_direction"] == "INGRESS" else Direction.EGRESS
    decision = found[here]
    if Verdict.UNCERTAIN in {each.verdict for each in found.values()}:
        return "uncertain"
    if row["verdict"] in DENIED:
        if decision.verdict is not Verdict.DENIED:
            return f"{row['verdict']}, but {decision.reason}"
    elif Verdict.DENIED in {each.verdict for each in found.values()}:
        return f"{row['verdict']}, but {'; '.join(each.reason for each in found.values() if each.verdict is Verdict.DENIED)}"
    if row["event_type"] == 5:
        for direction in Direction:
            for what, wanted in (("allowed", Verdict.ALLOWED), ("denied", Verdict.DENIED)):
                policies = named(row[f"{direction}_{what}_by"])
                applies = direction is here and decision.verdict is wanted and (what == "allowed" or "denies" in decision.reason)
                rules = {(rule.kind, rule.namespace, rule.name) for rule in decision.rules} if applies else set()
                if policies != rules:
                    return f"{direction}_{what}_by names {policies}, but {rules} decide"
    if row["event_type"] == BY_REQUEST and not decision.rules:
        return f"{row['l7_http_url'] or row['l7_dns_query']} was seen by the proxy, but no rule sent it there"
    return "agrees"


def stored(flows: Iterable[flow_pb2.Flow]) -> list[Row]:
    """The rows that a collector stores of flows."""
    messages: dict[str, list[bytes]] = collections.defaultdict(list)
    for flow in flows:
        messages[flow.node_name.partition("/")[0]].append(flow.SerializeToString())
    rows: list[Row] = []
    for cluster, encoded in messages.items():
        rows += decode(encoded, cluster=cluster, recorded=NOW, live=False).rows.select(COLUMNS).to_pylist()
    return rows


def check(counts: collections.Counter[str], at_least: int) -> None:
    total = counts.total()
    assert total >= at_least
    assert counts["agrees"] / total >= 0.999, counts.most_common(12)
    assert counts["uncertain"] / total <= 0.01


def test_the_recorded_history_is_what_its_policies_give(lake: Lake, history: list[Row]) -> None:
    check(replayed(lake, history), at_least=20_000)


def test_live_traffic_is_what_the_policies_in_force_now_give(lake: Lake) -> None:
    flows = itertools.islice(Traffic(FLEET, 9, NOW - dt.timedelta(minutes=5), 40.0, STORY).flows(), 8_000)
    check(replayed(lake, stored(flows)), at_least=3_000)


def test_traffic_at_the_moment_of_each_event_follows_the_policies_of_that_moment(lake: Lake) -> None:
    starts = [moment - dt.timedelta(seconds=2) for moment in STORY.changes()]
    flows = [flow for start in starts for flow in itertools.islice(Traffic(FLEET, 3, start, 200.0, STORY).flows(), 1_000)]
    check(replayed(lake, stored(flows)), at_least=3_000)


@pytest.mark.parametrize(
    "what",
    [
        lambda row: row["verdict"] == "DROPPED" and row["ingress_denied_by"],
        lambda row: row["verdict"] == "DROPPED" and row["traffic_direction"] == "EGRESS",
        lambda row: row["verdict"] == "AUDIT",
        lambda row: row["verdict"] == "REDIRECTED" and row["ingress_allowed_by"],
        lambda row: row["egress_allowed_by"],
        lambda row: "reserved:host" in row["source_labels"],
        lambda row: "reserved:world" in row["source_labels"],
        lambda row: row["l7_dns_query"] and not row["l7_dns_query"].endswith("cluster.local."),
    ],
    ids=["explicit deny", "egress denied", "audit", "redirected to the proxy", "egress", "host", "world", "names of hosts outside"],
)
def test_each_way_in_which_policy_decides_occurs(history: list[Row], what: Callable[[Row], Any]) -> None:
    assert any(what(row) for row in history)


def test_a_deployment_is_a_version_of_its_workload(lake: Lake) -> None:
    deployments = versions.Selection(tables=[WORKLOADS], kinds=["Deployment"], names=["checkout-api"])
    rows = versions.between(lake, SINCE, NOW, deployments).to_pylist()
    mine = sorted((row["valid_from"], row["valid_to"]) for row in rows if row["cluster"] == "eu-central")
    assert mine == [(SINCE, STORY.deployment), (STORY.deployment, None)]
    pods = versions.Selection(tables=[WORKLOADS], kinds=["PodLabels"], clusters=["eu-central"])
    sets = versions.between(lake, SINCE, NOW, pods).to_pylist()
    labels = [json.loads(row["manifest"])["metadata"]["labels"] for row in sets if "checkout-api" in row["name"]]
    assert sorted(each.get("app.kubernetes.io/version", "") for each in labels) == ["", "2.0"]

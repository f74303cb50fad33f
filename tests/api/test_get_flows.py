"""GetFlows over recorded flows: order, number, time, masks, and what is refused."""

import contextlib
import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.timestamp_pb2 import Timestamp

from api import ledger
from collectors.hubble_api.flow import flow_pb2
from collectors.streaming.coverage_rows import coverage_row
from pipelines.maintenance import compaction
from tests.modules import load
from warehouse import config, schema
from warehouse.access.principals import Principal
from warehouse.lake.tables import Lake
from warehouse.questions.door import Door

world: Any = load(Path(__file__).with_name("conftest.py"))


@contextlib.contextmanager
def refused(code: grpc.StatusCode, text: str) -> Iterator[None]:
    with pytest.raises(grpc.RpcError) as caught:
        yield
    assert caught.value.code() is code  # type: ignore[attr-defined]
    assert text in caught.value.details()  # type: ignore[attr-defined]


def at(moment: dt.datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(moment)
    return made


def same(found: list[flow_pb2.Flow], wanted: list[flow_pb2.Flow]) -> bool:
    return [flow.SerializeToString(deterministic=True) for flow in found] == [flow.SerializeToString(deterministic=True) for flow in wanted]


def test_an_empty_lake_has_no_flows(tmp_path: Path) -> None:
    door = Door(Lake.open(config.Lake(url=str(tmp_path / "lake"))), config.Ownership())
    with world.serving(door) as client:
        assert client.responses(number=5) == []


def test_someone_who_owns_nothing_is_denied(stored: Any) -> None:
    with world.serving(stored.door(), Principal(user="eve")) as client, refused(grpc.StatusCode.PERMISSION_DENIED, "owns no namespace"):
        client.flows(number=1)


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ({"first": True, "follow": True}, "first cannot be used with follow"),
        ({"field_mask": FieldMask(paths=["source.nonsense"])}, "source.nonsense"),
        ({"since": Timestamp(seconds=20), "until": Timestamp(seconds=10)}, "is after until"),
        ({"since": Timestamp(seconds=2**60)}, "not a time"),
        ({"whitelist": [flow_pb2.FlowFilter(source_ip=["nowhere"])]}, "source_ip"),
    ],
    ids=["first and follow", "mask", "since after until", "time", "filter"],
)
def test_a_wrong_request_is_refused_with_the_reason(client: Any, request_: dict[str, Any], text: str) -> None:
    with refused(grpc.StatusCode.INVALID_ARGUMENT, text):
        client.flows(**request_)


def test_all_flows_come_once_in_the_order_of_time_and_as_hubble_sent_them(stored: Any, client: Any) -> None:
    assert same(client.flows(number=2**64 - 1), stored.flows)


@pytest.mark.parametrize("number", [1, 7, 2_500, 10_000])
def test_the_newest_flows_come_in_the_order_of_time(stored: Any, client: Any, number: int) -> None:
    assert same(client.flows(number=number), stored.flows[-number:])


@pytest.mark.parametrize("number", [1, 2_500])
def test_the_oldest_flows_can_be_asked_for(stored: Any, client: Any, number: int) -> None:
    assert same(client.flows(number=number, first=True), stored.flows[:number])


def test_since_and_until_are_inclusive_to_the_nanosecond(stored: Any, client: Any) -> None:
    first, last = stored.flows[100], stored.flows[200]
    assert same(client.flows(since=first.time, until=last.time), stored.flows[100:201])
    later = Timestamp(seconds=first.time.seconds, nanos=first.time.nanos + 1)
    earlier = Timestamp(seconds=last.time.seconds, nanos=last.time.nanos - 1)
    assert same(client.flows(since=later, until=earlier), stored.flows[101:200])


def test_a_number_within_a_time_is_the_newest_of_that_time(stored: Any, client: Any) -> None:
    assert same(client.flows(number=3, since=stored.flows[100].time, until=stored.flows[200].time), stored.flows[198:201])


def test_a_time_without_flows_is_empty(client: Any) -> None:
    assert client.flows(since=at(world.START - dt.timedelta(days=9)), until=at(world.START - dt.timedelta(days=8))) == []


def test_a_mask_leaves_out_every_other_field(stored: Any, client: Any) -> None:
    paths = ["time", "source.namespace", "source.labels", "l4.TCP.flags", "verdict", "l7"]
    wanted = []
    for flow in stored.flows[-50:]:
        masked = flow_pb2.Flow()
        FieldMask(paths=paths).MergeMessage(flow, masked)
        wanted.append(masked)
    assert same(client.flows(number=50, field_mask=FieldMask(paths=paths)), wanted)


def test_a_mask_without_time_and_node_empties_those_of_the_response_too(client: Any) -> None:
    (response,) = [one for one in client.responses(number=1, field_mask=FieldMask(paths=["verdict"])) if one.HasField("flow")]
    assert (response.node_name, response.HasField("time"), response.flow.HasField("time")) == ("", False, False)


def test_filters_select_before_the_number_is_counted(stored: Any, client: Any) -> None:
    wanted = [flow for flow in stored.flows if flow.verdict == flow_pb2.DROPPED]
    assert len(wanted) > 5
    assert same(client.flows(number=5, whitelist=[flow_pb2.FlowFilter(verdict=[flow_pb2.DROPPED])]), wanted[-5:])


def test_an_owner_gets_the_flows_of_their_namespaces_without_what_belongs_to_others(stored: Any) -> None:
    with world.serving(stored.door(), Principal(user="ada")) as client:
        found = client.flows(number=2**64 - 1)
    mine = [flow for flow in stored.flows if "cart" in (flow.source.namespace, flow.destination.namespace)]
    assert [flow.uuid for flow in found] == [flow.uuid for flow in mine]
    others = [end for flow in found for end in (flow.source, flow.destination) if end.namespace not in ("cart", "")]
    assert others
    assert not [end for end in others if end.pod_name or end.labels]


def test_a_filter_on_a_hidden_value_finds_nothing(stored: Any) -> None:
    ends = [(flow.source, flow.destination) for flow in stored.flows if "cart" in (flow.source.namespace, flow.destination.namespace)]
    hidden = next(end for pair in ends for end in pair if end.pod_name and end.namespace != "cart")
    wanted = f"{hidden.namespace}/{hidden.pod_name}"
    filters = [flow_pb2.FlowFilter(source_pod=[wanted]), flow_pb2.FlowFilter(destination_pod=[wanted])]
    with world.serving(stored.door(), Principal(user="ada")) as client:
        assert client.flows(number=5, whitelist=filters) == []
    with world.serving(stored.door()) as client:
        assert client.flows(number=5, whitelist=filters)


def test_calls_that_relay_leaves_unimplemented_are(client: Any) -> None:
    call = client.channel.unary_stream("/observer.Observer/GetAgentEvents")
    with pytest.raises(grpc.RpcError) as caught:
        list(call(b""))
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED  # type: ignore[attr-defined]


def test_what_was_not_seen_is_told_between_the_flows(stored: Any, client: Any) -> None:
    responses = client.responses(since=at(world.START), until=stored.flows[-1].time)
    lost = [one for one in responses if one.HasField("lost_events")]
    assert [(one.lost_events.num_events_lost, one.lost_events.source) for one in lost] == [(17, flow_pb2.HUBBLE_RING_BUFFER)]
    away = [one.node_status.message for one in responses if one.HasField("node_status")]
    assert len(away) == 1
    assert "not observed from 2026-03-02T23:00" in away[0]
    times = [one.time.ToNanoseconds() for one in responses]
    assert times == sorted(times)


def undated(day: int, detail: str = "file.log: 1,000 flows were lost at an unknown time") -> dict[str, Any]:
    """A row of one day of the ledger about a loss of unknown time, with the whole number."""
    interval = (world.START + dt.timedelta(days=day), world.START + dt.timedelta(days=day + 1))
    return coverage_row("c1", interval, "c1/node", "lost_undated", "OBSERVER_EVENTS_QUEUE", None, 1_000, detail, world.START)


def test_a_time_about_which_nothing_was_recorded_is_told_by_cluster(stored: Any, client: Any) -> None:
    later = Timestamp(seconds=stored.flows[-1].time.seconds + 86_400)
    (told,) = client.responses(since=later, until=Timestamp(seconds=later.seconds + 60))
    assert list(told.node_status.node_names) == ["c1"]
    assert "nothing was recorded about these clusters" in told.node_status.message
    with world.serving(stored.door(), Principal(user="ada")) as hers:
        assert [list(one.node_status.node_names) for one in hers.responses(since=later)] == [["c1"]]


def test_a_loss_of_unknown_time_is_told_once_though_each_day_has_a_row_about_it(tmp_path: Path) -> None:
    lake = Lake.open(config.Lake(url=str(tmp_path / "lake")))
    flows = world.simulated(40)
    world.store(lake, flows[:20])
    world.book(lake, undated(0), undated(1), undated(2))
    with world.serving(Door(lake, config.Ownership())) as client:
        since = at(world.START)
        told = [one.lost_events for one in client.responses(since=since) if one.HasField("lost_events")]
        assert [one.num_events_lost for one in told] == [1_000]
        call = client.stream(since=since, follow=True)
        while not next(call).HasField("lost_events"):
            pass
        world.book(lake, undated(3, "other.log"), undated(4, "other.log"))
        followed = next(
            one for one in call if one.HasField("lost_events") and one.lost_events.first.ToDatetime() > told[0].first.ToDatetime()
        )
        assert followed.lost_events.num_events_lost == 1_000
        world.store(lake, flows[20:])
        assert next(call).HasField("flow")
        call.cancel()


def test_of_too_many_losses_the_oldest_are_told_as_a_sum(stored: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "MOST", 1)
    with world.serving(stored.door()) as client:
        found = client.responses(number=2**64 - 1)
    events = [one for one in found if not one.HasField("flow")]
    assert [one.WhichOneof("response_types") for one in events] == ["node_status", "lost_events", "node_status"]
    assert events[0].node_status.message.startswith("2 notices from")
    assert events[1].lost_events.num_events_lost == 17


def test_a_loss_that_is_booked_while_history_is_read_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake.open(config.Lake(url=str(tmp_path / "lake")))
    flows = world.simulated(40)
    world.store(lake, flows[:20])
    span = (world.START, world.START + dt.timedelta(hours=1))
    late = coverage_row("c1", span, "c1/node", "lost", "HUBBLE_RING_BUFFER", None, 7, None, world.START)
    events_between, booked = ledger.events_between, []

    def booking(*arguments: Any) -> Any:
        if not booked:
            booked.append(world.book(lake, late))
        return events_between(*arguments)

    monkeypatch.setattr(ledger, "events_between", booking)
    with world.serving(Door(lake, config.Ownership())) as client:
        call = client.stream(since=at(world.START), follow=True)
        told = []
        while len(told) < 21:
            told.append(next(call))
        world.store(lake, flows[20:])
        told += [next(call) for _ in range(20)]
        call.cancel()
    assert [one.lost_events.num_events_lost for one in told if one.HasField("lost_events")] == [7]


def test_an_expression_that_backtracking_engines_never_end_with_is_answered(tmp_path: Path) -> None:
    lake = Lake.open(config.Lake(url=str(tmp_path / "lake")))
    flow = world.simulated(1)[0]
    flow.l7.http.url, flow.node_name = "http://x/" + "a" * 60, "c1/" + "a" * 60
    world.store(lake, [flow])
    with world.serving(Door(lake, config.Ownership())) as client:
        for chosen in (flow_pb2.FlowFilter(http_url=["(a+)+$"]), flow_pb2.FlowFilter(node_name=["*a" * 12 + "*"])):
            assert len(client.flows(number=5, whitelist=[chosen])) == 1
        for chosen in (flow_pb2.FlowFilter(http_url=["(a+)+b$"]), flow_pb2.FlowFilter(node_name=["*a" * 12 + "*b"])):
            assert client.flows(number=5, whitelist=[chosen]) == []


def test_flows_that_are_stored_later_follow_once_each(tmp_path: Path) -> None:
    lake = Lake.open(config.Lake(url=str(tmp_path / "lake")))
    flows = world.simulated(90)
    world.store(lake, flows[:30])
    with world.serving(Door(lake, config.Ownership())) as client:
        call = client.stream(number=10, follow=True)
        got = [next(call).flow.uuid for _ in range(10)]
        world.store(lake, flows[60:])
        got += [next(call).flow.uuid for _ in range(30)]
        world.store(lake, flows[30:60])  # late flows are followed too
        got += [next(call).flow.uuid for _ in range(30)]
        call.cancel()
    assert got == [flow.uuid for flow in (*flows[20:30], *flows[60:], *flows[30:60])]


def test_files_that_are_merged_meanwhile_are_not_followed_again(tmp_path: Path) -> None:
    lake = Lake.open(config.Lake(url=str(tmp_path / "lake")))
    flows = world.simulated(60)
    for begin in range(0, 40, 10):
        world.store(lake, flows[begin : begin + 10])
    with world.serving(Door(lake, config.Ownership())) as client:
        call = client.stream(number=5, follow=True)
        got = [next(call).flow.uuid for _ in range(5)]
        compaction.compact_closed_hours(lake, now=dt.datetime.now(dt.UTC))
        assert len(lake.contents(schema.FLOWS)) < 4
        world.store(lake, flows[40:])
        got += [next(call).flow.uuid for _ in range(20)]
        call.cancel()
    assert got == [flow.uuid for flow in flows[35:]]


def test_a_stopping_server_tells_followers_so(stored: Any) -> None:
    with world.running(lambda: world.plain_server(stored.door())) as server:
        channel = grpc.insecure_channel(f"127.0.0.1:{server.port}")
        call = world.Client(channel).stream(follow=True)
        call.initial_metadata()
    with channel, refused(grpc.StatusCode.UNAVAILABLE, "stopping"):
        list(call)


def test_a_rate_of_nothing_is_not_one_that_hubble_computes_itself(client: Any) -> None:
    assert 0 < client.ask("ServerStatus").flows_rate < 0.005


def test_status_nodes_and_namespaces_are_those_that_the_caller_may_know(stored: Any, client: Any) -> None:
    assert client.ask("ServerStatus").num_flows == world.FLOWS
    assert {one.namespace for one in client.ask("GetNamespaces").namespaces} > {"cart", "kube-system"}
    assert client.ask("GetNodes").nodes == []  # the ledger has nothing of the last hour
    with world.serving(stored.door(), Principal(user="ada")) as hers:
        assert hers.ask("ServerStatus").num_flows == 0
    with world.serving(stored.door(), Principal(user="eve")) as nobodys, refused(grpc.StatusCode.PERMISSION_DENIED, "owns no namespace"):
        nobodys.ask("ServerStatus")

"""Streamed responses taken apart without parsing them, in whatever order their fields were written."""

from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from collectors.hubble_api.flow import flow_pb2
from collectors.hubble_api.observer import observer_pb2
from collectors.streaming.messages import Messages
from collectors.streaming.responses import split


def test_nothing_gives_nothing() -> None:
    parts = split(Messages.of([]))
    assert (len(parts.flows), parts.others, parts.rejected) == (0, (), ())


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_garbage_is_set_aside_or_handed_on_as_a_flow_and_never_raises(messages: list[bytes]) -> None:
    parts = split(Messages.of(messages))
    assert len(parts.flows) + len(parts.others) + len(parts.rejected) == len(messages)


_FLOWS = st.builds(
    lambda size, verdict, time: flow_pb2.Flow(uuid="u" * size, verdict=verdict, time=Timestamp(seconds=time)),
    st.sampled_from([0, 1, 100, 125, 126, 127, 128, 1000, 16_300, 16_383, 16_384, 70_000]),
    st.sampled_from([0, 1, 2]),
    st.integers(0, 2**31),
)


@given(st.lists(st.tuples(_FLOWS, st.text(max_size=150), st.booleans(), st.permutations([0, 1, 2])), max_size=6))
def test_a_flow_is_found_whatever_order_its_response_is_written_in(cases: list[tuple[flow_pb2.Flow, str, bool, list[int]]]) -> None:
    messages = []
    for flow, node, timed, order in cases:
        fields = [
            observer_pb2.GetFlowsResponse(flow=flow).SerializeToString(),
            observer_pb2.GetFlowsResponse(node_name=node).SerializeToString(),
            observer_pb2.GetFlowsResponse(time=flow.time).SerializeToString() if timed else b"",
        ]
        messages.append(b"".join(fields[place] for place in order))
    parts = split(Messages.of(messages))
    assert [flow_pb2.Flow.FromString(one) for one in parts.flows.to_pylist()] == [flow for flow, *_ in cases]
    assert parts.rejected == ()


def test_lost_events_and_node_states_keep_their_place_among_the_flows() -> None:
    flow = observer_pb2.GetFlowsResponse(flow=flow_pb2.Flow(uuid="1"), node_name="n").SerializeToString()
    lost = observer_pb2.GetFlowsResponse(lost_events=flow_pb2.LostEvent(num_events_lost=3), node_name="n").SerializeToString()
    state = observer_pb2.GetFlowsResponse(node_status={"node_names": ["n"]}).SerializeToString()  # type: ignore[arg-type]
    parts = split(Messages.of([lost, flow, flow, state, flow, lost]))
    assert parts.positions.tolist() == [1, 2, 4]
    assert [(position, other.WhichOneof("response_types")) for position, other in parts.others] == [
        (0, "lost_events"),
        (3, "node_status"),
        (5, "lost_events"),
    ]


def test_a_response_with_two_flows_is_merged_as_protobuf_says() -> None:
    two = b"".join(
        observer_pb2.GetFlowsResponse(flow=flow).SerializeToString() for flow in (flow_pb2.Flow(uuid="a"), flow_pb2.Flow(node_name="n"))
    )
    (message,) = split(Messages.of([two])).flows.to_pylist()
    assert flow_pb2.Flow.FromString(message) == flow_pb2.Flow(uuid="a", node_name="n")

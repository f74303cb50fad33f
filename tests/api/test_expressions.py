"""CEL expressions in filters are evaluated, and one that takes too much harms no one."""

import contextlib
from pathlib import Path
from typing import Any

import grpc
import pytest

from api.expressions import EXPRESSIONS
from collectors.hubble_api.flow import flow_pb2
from tests.modules import load
from warehouse.access.principals import Principal

world: Any = load(Path(__file__).with_name("conftest.py"))


def filter_of(*expressions: str, **fields: Any) -> flow_pb2.FlowFilter:
    return flow_pb2.FlowFilter(experimental=flow_pb2.FlowFilter.Experimental(cel_expression=expressions), **fields)


def refusal(client: Any, *expressions: str) -> tuple[grpc.StatusCode, str]:
    """How a call with these expressions ends."""
    with pytest.raises(grpc.RpcError) as caught:
        client.flows(whitelist=[filter_of(*expressions)])
    return caught.value.code(), caught.value.details()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("_flow.verdict ==", "Syntax error"),
        ("_flow.nothing == 1", "undefined field"),
        ("_flow.verdict", "true or false"),
        ("_flow.is_reply", "true or false"),
        ("true && flow", "flow"),
    ],
)
def test_what_is_not_an_expression_is_refused_with_the_reason(client: Any, text: str, reason: str) -> None:
    code, details = refusal(client, text)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert reason in details


@pytest.mark.parametrize(
    "hostile",
    [
        "['aaaaaaaa']" + ".map(x, x + x + x + x + x + x + x + x)" * 12 + " == []",
        "size([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]" + ".map(x, [x, x, x, x, x, x, x, x, x, x])" * 9 + ") > 0",
        "(" * 20_000 + "true" + ")" * 20_000,
    ],
)
def test_an_expression_that_takes_too_much_is_cut_off_and_others_are_answered(stored: Any, client: Any, hostile: str) -> None:
    call = client.stream(number=5, whitelist=[filter_of(hostile)])
    with contextlib.suppress(grpc.RpcError):
        list(call)
    cut = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INVALID_ARGUMENT)
    assert call.code() in (grpc.StatusCode.OK, *cut)  # the evaluator has limits of its own, beyond which a flow does not match
    assert len(client.flows(number=5, whitelist=[filter_of("true")])) == 5


def test_a_process_that_is_gone_is_started_again(client: Any) -> None:
    assert client.flows(number=5, whitelist=[filter_of("false")]) == []
    assert EXPRESSIONS._process is not None
    EXPRESSIONS._process.kill()
    EXPRESSIONS._process.wait()
    assert len(client.flows(number=5, whitelist=[filter_of("true")])) == 5


def test_expressions_select_flows(stored: Any, client: Any) -> None:
    dropped = [flow.uuid for flow in stored.flows if flow.verdict == flow_pb2.DROPPED and flow.source.namespace == "cart"]
    text = "_flow.verdict == Verdict.DROPPED && _flow.source.namespace == 'cart'"
    assert [flow.uuid for flow in client.flows(number=10_000, whitelist=[filter_of(text)])] == dropped
    split = filter_of("_flow.verdict == Verdict.DROPPED", source_pod=["cart/"])
    assert [flow.uuid for flow in client.flows(number=10_000, whitelist=[split])] == dropped
    rest = [flow.uuid for flow in stored.flows if flow.verdict != flow_pb2.DROPPED]
    assert [flow.uuid for flow in client.flows(number=10_000, blacklist=[filter_of("_flow.verdict == Verdict.DROPPED")])] == rest
    either = filter_of("false", "_flow.verdict == Verdict.DROPPED", source_pod=["cart/"])
    assert [flow.uuid for flow in client.flows(number=10_000, whitelist=[either])] == dropped


def test_an_expression_that_fails_does_not_match(client: Any) -> None:
    assert client.flows(number=5, whitelist=[filter_of("1 / 0 == 1", "true")]) == []


def test_an_expression_on_a_hidden_value_finds_nothing(stored: Any) -> None:
    with world.serving(stored.door(), Principal(user="ada")) as client:
        hidden = filter_of("_flow.source.namespace != 'cart' && _flow.source.pod_name != ''")
        assert client.flows(number=5, whitelist=[hidden]) == []

"""The fields of one flow, as people read them."""

from typing import Any

import pytest

from dashboards.flows import flow_fields, flow_rows
from warehouse.schema import FLOWS


def flow(**more: Any) -> dict[str, Any]:
    found: dict[str, Any] = dict.fromkeys(FLOWS.schema.names)
    found |= {
        "source_namespace": "shop",
        "destination_namespace": "cart",
        "destination_port": 8080,
        "verdict": "FORWARDED",
        "is_reply": False,
    }
    return found | more


def test_a_side_that_is_someone_elses_says_what_is_hidden_instead_of_being_empty() -> None:
    found = flow_fields.groups(flow(source_pod_name="web-1"), lambda name: name == "shop", "workload")
    assert found["Source"]["Pod"] == "web-1"
    assert found["Destination"]["Pod"] == found["Destination"]["Address"] == "hidden: not yours"
    assert found["Destination"]["Port"] == "8080"
    assert "Workload" not in found["Destination"], "at this level it would be shown, and there is none"


@pytest.mark.parametrize("level", ["full", "workload", "namespace"])
def test_nothing_is_called_hidden_where_both_sides_are_ones_own(level: str) -> None:
    found = flow_fields.groups(flow(), lambda _: True, level)
    assert "hidden: not yours" not in {value for fields in found.values() for value in fields.values()}


def test_what_has_no_namespace_is_nobodys_and_not_called_hidden() -> None:
    found = flow_fields.groups(flow(destination_namespace=None), lambda name: name == "shop", "workload")
    assert "hidden: not yours" not in {value for fields in found.values() for value in fields.values()}


def test_fields_have_names_that_people_use() -> None:
    found = flow_fields.groups(flow(drop_reason_desc="POLICY_DENIED", l7_http_url="/x", trace_id="t"), lambda _: True, "full")
    assert found["Decision"]["Drop reason"] == "POLICY_DENIED"
    assert found["Application (L7)"] == {"HTTP URL": "/x"}
    assert found["More"]["Trace id"] == "t"
    assert next(iter(found)) == "Decision"


@pytest.mark.parametrize(
    ("pod", "workload"),
    [("api-6d4cf56db6-xk2vq", "api"), ("db-0", "db"), ("agent-xk2vq", "agent"), ("backup-28412345-xk2vq", "backup"), ("shell", "shell")],
)
def test_an_end_has_the_name_of_its_workload_even_if_only_its_pod_is_known(pod: str, workload: str) -> None:
    """An agent names the workloads of its own node's pods only: a workload would have two names in one table."""
    row = flow(source_pod_name=pod, source_labels=None, source_names=None)
    assert flow_rows.end(row, "source") == f"shop/{workload}"
    assert [str(condition) for condition in flow_rows.conditions_of(row, "Source")] == ["src.ns=shop", f"src.workload={workload}"]
    own = flow(source_pod_name=pod, source_workload_name="own")
    assert flow_rows.end(own, "source") == "shop/own"

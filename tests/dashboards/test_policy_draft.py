"""A proposed policy as text: what is wrong with it and where, whose it is, and its form in a link."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.frame import assets
from dashboards.whatif import draft, starting

GOOD = starting.example("Only these clients", "payments")


def test_text_that_is_no_yaml_is_marked_on_its_line() -> None:
    found = draft.read("kind: NetworkPolicy\nmetadata: {name: [}\n")
    assert [problem.line for problem in found.problems] == [2]
    assert not found.is_valid


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n---\n"])
def test_a_text_without_a_policy_is_not_valid_and_has_no_fault(text: str) -> None:
    found = draft.read(text)
    assert not found.is_valid
    assert not found.problems


def test_an_object_that_is_no_policy_is_left_out_with_a_message() -> None:
    found = draft.read("apiVersion: v1\nkind: Service\nmetadata: {name: a}\n---\n" + GOOD)
    assert found.is_valid
    assert "'Service' is no kind of network policy" in found.problems[0].text
    assert found.problems[0].line == 2


def test_what_the_api_server_would_refuse_says_where_why_and_by_whom() -> None:
    text = GOOD.replace('port: "8080"', 'port: "80800"')
    (problem,) = draft.read(text).problems
    assert text.splitlines()[problem.line - 1].strip().startswith('- port: "80800"')
    assert "spec.ingress[0].toPorts[0].ports[0].port" in problem.text
    assert "would refuse it" in problem.text


def test_a_policy_of_a_namespace_that_is_not_ones_own_is_marked() -> None:
    found = draft.read(GOOD, lambda namespace: namespace == "cart")
    assert [(problem.line, "namespace payments is not yours" in problem.text) for problem in found.problems] == [(5, True)]
    wide = draft.read(GOOD.replace("CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"), bool)
    assert any("see a whole cluster" in problem.text for problem in wide.problems)


@pytest.mark.parametrize("name", list(starting.EXAMPLES))
def test_every_example_is_valid(name: str) -> None:
    assert draft.read(starting.example(name, "payments")).is_valid


@given(st.text(max_size=400))
def test_a_text_comes_back_from_its_link(text: str) -> None:
    kept: dict[str, str] = {}
    assert draft.decoded(draft.encoded(text, kept), {}) == text
    assert not kept


@given(st.text(max_size=60))
def test_a_damaged_link_is_no_policy_and_no_error(part: str) -> None:
    assert draft.decoded(part, {}) is None or draft.encoded(draft.decoded(part, {}) or "", {})


def test_a_policy_that_is_too_long_for_a_link_is_kept_by_the_session_alone() -> None:
    kept: dict[str, str] = {}
    text = "".join(f"# {number * 7919 % 10007} {number**3}\n" for number in range(3000))
    part = draft.encoded(text, kept)
    assert draft.is_kept(part)
    assert len(part) < 40
    assert draft.decoded(part, kept) == text
    assert draft.decoded(part, {}) is None


def test_a_link_that_unpacks_to_a_flood_is_refused() -> None:
    import base64
    import zlib

    part = base64.urlsafe_b64encode(zlib.compress(b"#" * 50_000_000)).decode().rstrip("=")
    assert draft.decoded(part, {}) is None


def fields() -> dict[str, Any]:
    """The schema that completion offers fields from."""
    found: dict[str, Any] = json.loads((Path(assets.FOLDER) / "policy-fields.json").read_text())
    return found


def test_every_type_that_completion_names_is_there_and_every_field_says_what_it_is() -> None:
    types = fields()["types"]
    for name, listed in types.items():
        for field, (kind, meaning) in listed.items():
            plain = kind.strip("[]")
            assert plain in types or plain in ("text", "number", "boolean", "{text}") or "|" in plain, (name, field)
            assert meaning[0].isupper() or meaning.startswith("k8s"), (name, field)

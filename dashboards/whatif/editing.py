"""The card with the editor: the text, what is wrong with it, what it can start from, how it differs from what is in force."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import streamlit as st

from dashboards.frame import assets, navigation, theme, url_state
from dashboards.frame.editor import Editor
from dashboards.history import manifests
from dashboards.visit import Visit
from dashboards.whatif import draft, starting
from dashboards.whatif.draft import Draft

EDITOR = Editor(name="policy", language="policy", label="Proposed policy, as YAML; Ctrl + Enter replays it", height=470, patience_ms=600)
_KEPT, _SHOWN, _REPLAY = "long policies", "policy shown", "replay policy"
_SHOWN_PROBLEMS = 4


def asked() -> str | None:
    """The policy of the address, as text; None if there is none or it cannot be read."""
    part = url_state.get("policy")
    return draft.decoded(part, kept()) if part else None


def kept() -> dict[str, str]:
    """Policies that are too long for the address, by their names in it."""
    found: dict[str, str] = st.session_state.setdefault(_KEPT, {})
    return found


def part_of(text: str) -> str:
    """Return the form of a policy in a link to this page."""
    return draft.encoded(text, kept())


def owns(visit: Visit) -> Callable[[str], bool]:
    """Whether policies of a namespace may be tried; with an empty name, whether those of a whole cluster may."""
    scope, now = visit.door.scope(visit.who), datetime.now(UTC)
    clusters = visit.door.clusters(visit.who)

    def may(namespace: str) -> bool:
        return any(scope.owns(one, namespace, now) if namespace else scope.sees_whole(one, now) for one in clusters)

    return may


def take_from_address(visit: Visit) -> None:
    """A policy that came by a link is written into the editor once; without one, an example is."""
    part = url_state.get("policy")
    if st.session_state.get(_SHOWN, "") != part:
        st.session_state[_SHOWN] = part
        if text := asked():
            EDITOR.put(text)
    if not EDITOR.text():
        EDITOR.put(starting.example("Only these clients", _a_namespace(visit)))


def _a_namespace(visit: Visit) -> str:
    """One of the principal's own namespaces, for examples."""
    named = [grant.namespace for grant in visit.door.scope(visit.who).grants if grant.namespace and "*" not in grant.namespace]
    return named[0] if named else "default"


def card(visit: Visit) -> None:
    """Draw it. What is typed reruns the card alone."""

    @st.fragment
    def drawn() -> None:
        if st.session_state.pop(_REPLAY, False):
            st.rerun()
        _card(visit)

    drawn()


def _card(visit: Visit) -> None:
    found = draft.read(EDITOR.text(), owns(visit))
    with st.container(border=True, key="proposed policy"):
        with st.container(horizontal=True, vertical_alignment="center", wrap=True):
            st.subheader("Proposed policy", anchor=False, width="content")
            st.space("stretch")
            with st.popover("Start from", icon=":material/note_add:", key="start from"):
                _starts(visit)
        key = "policy mode"
        modes = {"edit": "Edit", "diff": "Diff to live"}
        st.session_state[key] = st.session_state.get(key) or "edit"
        mode = st.segmented_control(
            "Mode", list(modes), key=key, format_func=modes.__getitem__, required=True, label_visibility="collapsed"
        )
        if mode == "diff":
            _difference(visit, found)
        else:
            EDITOR.draw(_asked_for, {"schema": f"{assets.ADDRESS}/policy-fields.json", "known": _known(visit), "problems": _marks(found)})
        _foot(found)


def _marks(found: Draft) -> list[dict[str, object]]:
    return [{"line": one.line, "text": one.text, "severity": "error" if one.is_error else "warning"} for one in found.problems]


def _foot(found: Draft) -> None:
    """Whether the text is valid, what is wrong with it, and the button that replays it."""
    errors = [problem for problem in found.problems if problem.is_error]
    with st.container(horizontal=True, vertical_alignment="center", wrap=True):
        if found.is_valid:
            st.badge("Valid", icon=":material/check:", color="green")
            named = ", ".join("/".join(filter(None, document.identity[1:])) for document in found.documents[:2])
            st.caption(named + (f" and {len(found.documents) - 2} more" if len(found.documents) > 2 else ""))
        elif errors:
            st.badge(f"{len(errors)} to mend", icon=":material/block:", color="red")
        else:
            st.badge("No policy", icon=":material/help:", color="yellow")
        st.space("stretch")
        st.button(
            "Replay", type="primary", icon=":material/play_arrow:", on_click=_asked_for, key="replay", help="Ctrl + Enter in the editor"
        )
    for problem in found.problems[:_SHOWN_PROBLEMS]:
        icon = ":material/block:" if problem.is_error else ":material/info:"
        st.markdown(f"{icon} line **{problem.line}**: {theme.plain(problem.text)}")
    if len(found.problems) > _SHOWN_PROBLEMS:
        st.caption(f"and {len(found.problems) - _SHOWN_PROBLEMS} more, marked in the editor")


def _asked_for() -> None:
    """Replay what is written: it becomes the address's policy."""
    text = EDITOR.text()
    part = part_of(text)
    url_state.put("policy", part)
    url_state.put("edge", None)
    st.session_state[_SHOWN] = part
    st.session_state[_REPLAY] = True


def _starts(visit: Visit) -> None:
    versions = starting.in_force(visit)
    several = len({version["cluster"] for version in versions}) > 1
    titles = [starting.title(version, with_cluster=several) for version in versions]
    with st.container(width=340):
        st.selectbox(
            "A policy in force", range(len(titles)), index=None, format_func=titles.__getitem__, key="start policy",
            placeholder=f"{len(titles)} that you may see" if titles else "None that you may see", on_change=lambda: _from_policy(versions),
        )  # fmt: skip
        st.pills("An example", list(starting.EXAMPLES), key="start example", on_change=lambda: _from_example(visit), wrap=True)
        if navigation.exists("recommend"):
            navigation.link("recommend", "A recommendation from history", query=url_state.link(), icon="auto_awesome")


def _from_policy(versions: list[starting.Version]) -> None:
    place = st.session_state["start policy"]
    if place is not None and place < len(versions):
        EDITOR.put(starting.as_written(versions[place]))
        st.session_state["start policy"] = None


def _from_example(visit: Visit) -> None:
    if name := st.session_state["start example"]:
        EDITOR.put(starting.example(name, _a_namespace(visit)))
        st.session_state["start example"] = None


def _known(visit: Visit) -> dict[str, list[str]]:
    """Values that are offered after some keys."""
    found = sorted({version["namespace"] for version in starting.in_force(visit) if version["namespace"]})
    keys = ["app", "k8s:io.kubernetes.pod.namespace", "k8s-app", "kubernetes.io/metadata.name"]
    return {"namespace": found, **dict.fromkeys(keys[1::2], found), "labels": keys}


def _difference(visit: Visit, found: Draft) -> None:
    """How each policy differs from the one of its name that is in force."""
    live = {(version["kind"], version["namespace"] or "", version["name"]): version for version in starting.in_force(visit)}
    if not found.documents:
        st.caption("Nothing to compare: the text holds no policy that can be read.")
    for document in found.documents:
        kind, namespace, name = document.identity
        version = live.get((kind, namespace, name))
        label = f"{namespace}/{name}" if namespace else name
        if version is None:
            st.caption(f"{kind} {label} is new: none of this name is in force, as far as you may see.")
        else:
            st.caption(f"{kind} {label}: what is in force in {version['cluster']}, and what is proposed")
            manifests.draw_difference(starting.as_written(version), starting.plain_yaml(document.manifest))

"""The card in which a policy, or an entry of a blueprint, is edited for many clusters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import streamlit as st

from dashboards.frame import assets, theme, url_state
from dashboards.frame.editor import Editor
from dashboards.proposals import acting
from dashboards.visit import Visit
from dashboards.whatif import draft, editing
from pipelines.blueprints import model
from pipelines.blueprints.model import BlueprintFile
from pipelines.blueprints.selectors import matches_any
from pipelines.central import editing as files_editing
from pipelines.central import rights
from pipelines.central.editing import Edit
from pipelines.objects.canonical import Manifest
from pipelines.objects.names import Key
from pipelines.replay.inventory import FleetObject, Name
from warehouse.errors import ConfigError

SHOW = "edit"
"""The value of `show` in the address."""
EDITOR = Editor(
    name="central", language="policy", label="Policy for many clusters, as YAML; Ctrl + Enter plans it", height=420, patience_ms=600
)
_SHOWN, _PLAN, _ROUND = "central policy shown", "central plan", "central round"
_TEMPLATE = re.compile(r"^template:", re.MULTILINE)
_PLACES = ("policy", "in", "canary", "blueprint", "object", "show")


def blueprints(visit: Visit) -> list[BlueprintFile]:
    """Return the configured blueprints. Raises ConfigError."""
    return model.load(visit.settings.blueprints) if visit.settings.blueprints else []


def opener(visit: Visit, one: FleetObject, manifest: Manifest, clusters: Sequence[str]) -> None:
    """Draw the button that opens an object of the inventory for editing, for those who may edit in one of its clusters."""
    able = rights.able(acting.desk_of(visit))
    if not able:
        return
    try:
        text, blueprint = files_editing.text_of(manifest, blueprints(visit))
    except ConfigError as error:
        st.caption(f":material/block: {theme.plain(str(error))}")
        return
    chosen = [name for name in clusters if name in able] or able[:1]
    patterns = [pattern for file in blueprints(visit) if file.blueprint.name == blueprint for pattern in file.blueprint.canary]
    parts: dict[str, str | list[str]] = {
        "show": SHOW,
        "policy": editing.part_of(text),
        "object": "|".join(part or "" for part in one.name),
        "in": chosen,
        "blueprint": blueprint or _name_for(one.name),
        "canary": [name for name in chosen if matches_any(name, patterns)] or chosen[:1],
    }
    st.button("Edit for many clusters", icon=":material/edit:", key="edit for many", on_click=_go, args=(parts,))


def _go(parts: Mapping[str, str | list[str]]) -> None:
    for name, value in parts.items():
        url_state.put(name, value)


def asked() -> Edit | None:
    """Return what the address says is to be changed; None if it has no text. Raises ConfigError if the text cannot be read."""
    if not url_state.get("policy"):
        return None
    text = editing.asked()
    if text is None:
        raise ConfigError("the policy is not in this link: it was too long, and stays in the session of whoever wrote it")
    kind, _, rest = url_state.get("object").partition("|")
    namespace, _, name = rest.partition("|")
    return Edit(
        text=text,
        blueprint=url_state.get("blueprint"),
        clusters=tuple(url_state.get_all("in")),
        replaces=Key(kind, namespace or None, name) if name else None,
        canary=tuple(url_state.get_all("canary")),
    )


def leave() -> None:
    """Go back to the inventory."""
    for part in _PLACES:
        url_state.put(part, "fleet" if part == "show" else None)


def rounds() -> int:
    """How often planning anew was asked for: a plan is of the moment in which it was made."""
    return int(st.session_state.get(_ROUND, 0))


def card(visit: Visit) -> None:
    """Draw it. What is typed reruns the card alone."""
    part = url_state.get("policy")
    if st.session_state.get(_SHOWN, "") != part:
        st.session_state[_SHOWN] = part
        if text := editing.asked():
            EDITOR.put(text)
    able = rights.able(acting.desk_of(visit))
    names = sorted(file.blueprint.name for file in blueprints(visit))

    @st.fragment
    def drawn() -> None:
        if st.session_state.pop(_PLAN, False):
            st.rerun()
        _card(visit, able, names)

    drawn()


def _card(visit: Visit, able: Sequence[str], names: Sequence[str]) -> None:
    text = EDITOR.text()
    is_entry = _TEMPLATE.search(text) is not None
    found = draft.Draft() if is_entry else draft.read(text, editing.owns(visit))
    marks = [{"line": one.line, "text": one.text, "severity": "error" if one.is_error else "warning"} for one in found.problems]
    with st.container(border=True, key="central policy"):
        st.subheader("One policy, many clusters", anchor=False)
        if is_entry:
            st.caption("An entry of the blueprint: its template makes the policy in each of its namespaces.")
        EDITOR.draw(_plan, {"schema": f"{assets.ADDRESS}/policy-fields.json", "known": {}, "problems": marks})
        for problem in found.problems[:3]:
            st.markdown(f":material/block: line **{problem.line}**: {theme.plain(problem.text)}")
        _choose("Clusters", "in", able)
        _blueprint(names)
        _choose("Canary", "canary", [name for name in able if name in url_state.get_all("in")], hint="Published to first, and watched")
        st.button("Plan", type="primary", icon=":material/fact_check:", on_click=_plan, key="central plan button")


def _choose(label: str, part: str, options: Sequence[str], *, hint: str | None = None) -> None:
    key = f"central {part}"
    st.session_state[key] = [name for name in url_state.get_all(part) if name in options]
    st.multiselect(label, list(options), key=key, help=hint, on_change=lambda: url_state.put(part, st.session_state[key]))


def _blueprint(names: Sequence[str]) -> None:
    now = url_state.get("blueprint")
    options = [*names, *([now] if now and now not in names else [])]
    st.session_state["central blueprint"] = now or None
    st.selectbox(
        "Blueprint", options, key="central blueprint", accept_new_options=True, placeholder="A blueprint, or the name of a new one",
        on_change=lambda: url_state.put("blueprint", st.session_state["central blueprint"]),
    )  # fmt: skip
    if now and now not in names:
        st.caption(f"**{now}** is new: it is made for the chosen clusters alone.")


def _plan() -> None:
    part = editing.part_of(EDITOR.text())
    url_state.put("policy", part)
    st.session_state[_SHOWN] = part
    st.session_state[_ROUND] = rounds() + 1
    st.session_state[_PLAN] = True


def _name_for(name: Name) -> str:
    """A name for a new blueprint."""
    text = "-".join(part for part in name[1:] if part).lower()
    return re.sub(r"[^a-z0-9-]", "-", text)[:50].strip("-") or "central"

"""The filter bar: conditions as chips that are added, edited, negated, switched off and removed, all of it in the address.

`f=ns=shop` is a chip, `f=-ns=shop` one that is switched off; `match=any` lets one of them be enough; `both=1` shows the
way back too. Reading a condition is warehouse.questions.conditions' work.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import streamlit as st

from dashboards.frame import completions, url_state
from dashboards.frame.time_control import TimeRange
from dashboards.visit import Visit
from warehouse.errors import HindcastError, QueryError
from warehouse.questions import conditions
from warehouse.questions.conditions import FIELDS, Condition
from warehouse.questions.flow_filter import FlowFilter

_PROBLEM, _EDITED, _TYPED, _ROUND = "filter problem", "filter edited", "filter typed", "filter round"
_WAYS = {"either": "either side", "source": "source only", "destination": "destination only"}


@dataclass(frozen=True, kw_only=True)
class Chip:
    """A condition of the bar."""

    condition: Condition
    is_on: bool = True

    def __str__(self) -> str:
        return ("" if self.is_on else "-") + str(self.condition)


def chips() -> list[Chip]:
    """Those of the address; what cannot be read is left out and said below the bar."""
    found, problem = _read()
    if problem:
        st.session_state[_PROBLEM] = problem
    return found


def _read() -> tuple[list[Chip], str | None]:
    """Return the chips of the address, and what is wrong with one that is left out."""
    found, problem = [], None
    for text in url_state.get_all("f"):
        is_on = not text.startswith("-")
        try:
            found.append(Chip(condition=conditions.parse(text.removeprefix("-")), is_on=is_on))
        except QueryError as error:
            problem = f"Left out: {error}"
    return found, problem


def put(wanted: list[Chip]) -> None:
    """Make these the chips."""
    unique = list(dict.fromkeys(map(str, wanted)))
    url_state.put("f", unique)


def add(condition: Condition) -> None:
    """Add one, unless it is there."""
    put([*[chip for chip in chips() if chip.condition != condition], Chip(condition=condition)])


def applied(time: TimeRange, verdicts: tuple[str, ...] = ()) -> FlowFilter:
    """The filter that a window and the bar make."""
    return FlowFilter(
        since=time.since,
        until=time.until,
        conditions=tuple(chip.condition for chip in _read()[0] if chip.is_on),
        match_any=url_state.get("match") == "any",
        both_ways=url_state.get("both") == "1",
        verdicts=verdicts,
    )


def key(wanted: FlowFilter) -> tuple[Any, ...]:
    """What tells two filters apart, for answers that are kept."""
    return (wanted,)


def bar(visit: Visit) -> None:
    """Draw it."""
    shown = chips()
    with st.container(border=True, horizontal=True, vertical_alignment="center", wrap=True, key="filters"):
        _quick(visit)
        for place, chip in enumerate(shown):
            _chip(place, chip)
        edited = st.session_state.get(_EDITED)
        if edited is not None and edited < len(shown):
            _edit(edited, shown[edited])
        else:
            box = st.container(horizontal=True, vertical_alignment="center", key="add filter")
            if completions.remembered(visit) is None:
                visit.last.append(partial(_add_box, visit, box))  # the page first, since what is offered has to be looked up
            else:
                _add_box(visit, box)
        if len(shown) > 1:
            st.session_state["filter match"] = "any" if url_state.get("match") == "any" else "all"
            st.segmented_control(
                "Match",
                ["all", "any"],
                key="filter match",
                on_change=_match,
                label_visibility="collapsed",
                required=True,
                format_func=str.capitalize,
                help="All of the filters, or any of them",
            )
        if shown:
            menu = ["Swap source and destination", "Hide return traffic" if url_state.get("both") else "Show return traffic", "Clear all"]
            st.menu_button("", menu, key="filter menu", icon=":material/more_vert:", on_click=_menu, help="Swap, return traffic, clear")
    if url_state.get("both") and shown:
        st.caption("⇄ With return traffic: also what matches with source and destination exchanged.")
    if problem := st.session_state.pop(_PROBLEM, None):
        st.warning(problem, icon=":material/warning:")


def _quick(visit: Visit) -> None:
    names = [quick.name for quick in visit.settings.dashboard.quick_filters]
    if names:
        st.menu_button("Quick filters", names, key="quick", icon=":material/bolt:", on_click=_choose_quick, args=(visit,))


def _choose_quick(visit: Visit) -> None:
    chosen = st.session_state["quick"]
    for quick in visit.settings.dashboard.quick_filters:
        if quick.name == chosen:
            put([Chip(condition=conditions.parse(text)) for text in quick.filters])
            url_state.put("match", "any" if quick.match == "any" else None)


def _chip(place: int, chip: Chip) -> None:
    condition = chip.condition
    side = (
        ""
        if not condition.has_sides or condition.side == "either"
        else {"source": "source ", "destination": "destination "}[condition.side]
    )
    value = _plain(", ".join(condition.values))
    operator = _plain(condition.operator.removeprefix("!"))
    label = f"{':red[**not**] ' if condition.is_negative else ''}{side}{condition.field} {operator} **{value}**"
    if not chip.is_on:
        label = f"{'not ' if condition.is_negative else ''}{side}{condition.field} {operator} {value} · off"
    menu = [
        *(["Negate"] if condition.can_be_negated else []),
        *[f"Match {_WAYS[way]}" for way in _WAYS if condition.has_sides and way != condition.side],
    ]
    menu += ["Switch on" if not chip.is_on else "Switch off", "Edit", "Remove"]
    icon = ":material/filter_alt:" if chip.is_on else ":material/filter_alt_off:"
    kind: Any = "secondary" if chip.is_on else "tertiary"
    name = f"chip {place} {chip}"
    st.menu_button(label, menu, key=name, icon=icon, type=kind, on_click=_change, args=(name, place))


def _change(name: str, place: int) -> None:
    chosen: str = st.session_state[name] or ""
    shown = chips()
    if place >= len(shown):
        return
    chip = shown[place]
    match chosen.split():
        case ["Negate"]:
            shown[place] = replace(chip, condition=chip.condition.negated())
        case ["Match", *way]:
            side: Any = next(key for key, words in _WAYS.items() if words == " ".join(way))
            shown[place] = replace(chip, condition=replace(chip.condition, side=side))
        case ["Switch", _]:
            shown[place] = replace(chip, is_on=not chip.is_on)
        case ["Edit"]:
            st.session_state[_EDITED] = place
        case ["Remove"]:
            del shown[place]
    put(shown)


def _edit(place: int, chip: Chip) -> None:
    st.session_state.setdefault("filter text", str(chip.condition))
    st.text_input(
        "Edit the filter", key="filter text", on_change=_edited, args=(place,), label_visibility="collapsed", icon=":material/edit:"
    )
    st.button("Cancel", key="filter cancel", type="tertiary", on_click=_end_editing)


def _edited(place: int) -> None:
    shown = chips()
    try:
        changed = conditions.parse(st.session_state["filter text"])
    except QueryError as error:
        st.session_state[_PROBLEM] = str(error)
        return
    if place < len(shown):
        shown[place] = replace(shown[place], condition=changed)
        put(shown)
    _end_editing()


def _end_editing() -> None:
    st.session_state.pop(_EDITED, None)
    st.session_state.pop("filter text", None)


def _add_box(visit: Visit, place: Any) -> None:
    """Draw the box that adds a filter, in its place.

    It offers fields, the values of a field that was chosen, and keeps a mistake to be mended.
    """
    with place:
        _draw_box(visit, f"add filter {st.session_state.setdefault(_ROUND, 0)}")


def _draw_box(visit: Visit, name: str) -> None:
    typed = st.session_state.get(_TYPED)
    if typed and not _field_of(typed):
        st.text_input(
            "Add a filter", value=typed, key=name, on_change=_typed, args=(name, visit), label_visibility="collapsed", icon=":material/add:"
        )
        st.button("Cancel", key="filter cancel", type="tertiary", on_click=_empty_box)
        return
    options = completions.offered(visit)
    if typed:
        options = [option for option in options if option.startswith(typed) and option != typed]
    st.selectbox(
        "Add a filter",
        options,
        index=None,
        key=name,
        on_change=_typed,
        args=(name, visit),
        accept_new_options=True,
        label_visibility="collapsed",
        placeholder=f"{typed} choose or type a value" if typed else "Add filter: ns=shop  src.pod~^web-  port!=443",
    )
    if typed:
        st.button("Cancel", key="filter cancel", type="tertiary", on_click=_empty_box)


def _field_of(typed: str) -> str | None:
    """The field of a text such as `ns=` that names a field and no value yet."""
    field = typed.removesuffix("=")
    return field if typed.endswith("=") and field in FIELDS else None


def completed(text: str, chosen: str | None) -> str:
    """What was typed, led by the field that was chosen before (`ns=`) where it is a value alone."""
    return chosen + text if chosen and _field_of(chosen) and not conditions.has_operator(text) else text


def _typed(name: str, visit: Visit) -> None:
    """Add what was typed or chosen as filters; a text that cannot be read goes back into the box."""
    text = (st.session_state.get(name) or "").strip()
    before = st.session_state.get(_TYPED)
    _empty_box()
    if not text:
        return
    if _field_of(text):
        st.session_state[_TYPED] = text
        return
    text = completed(text, before)
    try:
        for part in text.split():
            add(conditions.parse(part))
    except QueryError as error:
        try:
            with visit.door.refusals(visit.who, "filter", text):
                add(conditions.parse(text))  # a value with spaces in it
        except HindcastError:
            st.session_state[_PROBLEM] = str(error)
            st.session_state[_TYPED] = text


def _empty_box() -> None:
    """Let the next box be an empty one: a widget with a new key has no value."""
    st.session_state[_ROUND] = st.session_state.get(_ROUND, 0) + 1
    st.session_state.pop(_TYPED, None)


def _match() -> None:
    url_state.put("match", "any" if st.session_state["filter match"] == "any" else None)


def _menu() -> None:
    match (st.session_state["filter menu"] or "").split():
        case ["Swap", *_]:
            put([replace(chip, condition=chip.condition.swapped()) for chip in chips()])
        case ["Show", *_]:
            url_state.put("both", "1")
        case ["Hide", *_]:
            url_state.put("both", None)
        case ["Clear", *_]:
            put([])
            url_state.put("match", None)
            url_state.put("both", None)


def _plain(text: str) -> str:
    """Text without a meaning in Markdown."""
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]()#+-.!~|<>:$" else letter for letter in text)

"""What has to be known to trust what a page shows: the summary line, coverage, and why there is nothing to see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import streamlit as st

from dashboards.access import identity
from dashboards.frame import clock, filters, navigation, ownership, theme, time_control, url_state
from dashboards.visit import Visit
from warehouse.questions import count_questions
from warehouse.questions.answers import Answer
from warehouse.questions.flow_filter import FlowFilter
from warehouse.questions.record_questions import SizeOfLake
from warehouse.wording import counted

SLOW_SECONDS = 3.0
"""A question that took longer is given advice."""


def observed(answer: Answer) -> float:
    """The share of the answer's window that was observed, 0 to 1: that of all clusters on average."""
    return sum(answer.shares.values()) / len(answer.shares) if answer.shares else 0.0


def coverage(answer: Answer) -> str:
    """How much of the window was observed, as Markdown."""
    if not answer.shares:
        return ":material/sensors_off: not observed"
    share = observed(answer)
    lost = f" · **{theme.compact(answer.flows_lost)}** flows known lost" if answer.flows_lost else ""
    undated = answer.coverage.flows_lost_undated
    lost += f" · **{theme.compact(undated)}** lost at an unknown time, perhaps in this window" if undated else ""
    return f":material/sensors: **{theme.percent(share)}** of node-time observed{lost}"


def coverage_in_words(answer: Answer) -> str:
    """The same as plain text, for files."""
    return f"{theme.percent(observed(answer))} of node-time observed" if answer.shares else "not observed"


def coverage_link(visit: Visit, answer: Answer) -> None:
    """The same with a link to the page that explains it."""
    with st.container(horizontal=True, vertical_alignment="center", width="content", gap="xsmall", key="inline"):
        st.markdown(coverage(answer), width="content")
        navigation.link("coverage", "details", query=url_state.link(), help_text=_by_cluster(answer))


def line(visit: Visit, parts: Sequence[str], *, limit: int | None = None) -> None:
    """Rows, limit, source, time it took, when: directly above what they are about."""
    now = datetime.now(UTC)
    asked = visit.answers
    seconds = max((answer.seconds for answer in asked), default=0.0)
    files = max((answer.files for answer in asked), default=0)
    sources = {part for answer in asked for part in answer.source.split(" and ")} or {"flows"}
    written = [*parts, *([f"limit {limit:,}"] if limit else []), f"from {' and '.join(sorted(sources))}, {counted(files, 'file')}"]
    written += [f"{seconds:.2f} s", f"refreshed {clock.time(min(now, visit.time.until) if visit.time.ends_now else now)}"]
    if seconds > SLOW_SECONDS and (advice := _faster(visit)):
        written.append(f"slow: {advice} reads less")
    st.caption(" · ".join(written))


def _faster(visit: Visit) -> str:
    """What would have made the page's questions quicker: the field that files are told apart by, or less time; empty for SQL."""
    if visit.page == "sql":
        return ""
    if visit.page not in ("overview", "flows", "map", "compare"):  # which have no filters
        return "a shorter window"
    fields = {chip.condition.field for chip in filters.chips() if chip.is_on and not chip.condition.is_negative}
    if not fields & {"ns", "workload", "pod"} and visit.door.scope(visit.who).everything:
        return "a filter on **ns**"
    return "a filter on **cluster**" if "cluster" not in fields else "a shorter window"


def cut(answer: Answer, what: str) -> str:
    """Says that there is more than what is shown, or nothing."""
    return f" · **cut at {answer.rows.num_rows:,} {what}: there are more**" if answer.cut else ""


def nothing(visit: Visit, wanted: FlowFilter, answer: Answer) -> None:
    """Say why there is no flow to show, with a button that helps."""
    if visit.door.answer(visit.who, SizeOfLake()).newest is None:
        empty(
            "No flow yet",
            "The lake is empty. Start `hindcast collect`, or `hindcast import` files of the agents' exporters.",
            "database_off",
        )
        return
    plain = FlowFilter(since=wanted.since, until=wanted.until)
    unfiltered = visit.answer(count_questions.timeline(plain))
    total = sum(unfiltered.rows["flows"].to_pylist())
    if total:
        _too_narrow(visit, wanted, total)
    elif not answer.shares or max(answer.shares.values()) == 0:
        empty(
            "Not observed",
            f"No collector recorded {clock.span(wanted.since, wanted.until)}, so nothing can be said about its flows.",
            "sensors_off",
            ("Go to the newest flows", lambda: _go_to_newest(visit)),
        )
    else:
        share = theme.percent(observed(answer))
        empty(
            "No flow of yours",
            f"The window was observed ({share} of node-time), and held no flow from or to a namespace of {identity.name(visit.who)}.",
            "person_off",
            ("Look at a day", lambda: time_control.set_preset("1d")),
        )


def foreign_namespaces(visit: Visit) -> list[str]:
    """The namespaces that the filter bar asks for and that are not the principal's own."""
    asked = [chip.condition for chip in filters.chips() if chip.is_on and chip.condition.field == "ns" and chip.condition.operator == "="]
    owns = ownership.owned(visit)
    return list(dict.fromkeys(name for condition in asked for name in condition.values if not owns(name)))


def foreign(visit: Visit) -> None:
    """Say that numbers for a namespace that is not the principal's count only what it exchanged with the principal's own."""
    if names := foreign_namespaces(visit):
        listed, verb = " and ".join(names), "is" if len(names) == 1 else "are"
        st.caption(f":material/lock: {listed} {verb} not yours: you see only flows between {listed} and your own namespaces.")


def denied(visit: Visit) -> None:
    """Say that nothing is the principal's."""
    empty(
        "Nothing here is yours",
        f"{identity.name(visit.who)} owns no namespace. Ownership is given in `ownership.grants` of the configuration, "
        "or by what its `ownership.sources` read from the clusters.",
        "lock",
    )


def empty(title: str, text: str, icon: str, cure: tuple[str, Callable[[], None]] | None = None) -> None:
    """A state in which there is nothing to show: why, and one button that helps."""
    with st.container(border=True):
        st.subheader(f":material/{icon}: {title}", anchor=False)
        st.write(text)
        if cure:
            st.button(cure[0], type="primary", on_click=cure[1], key=f"cure {cure[0]}")


def _too_narrow(visit: Visit, wanted: FlowFilter, total: int) -> None:
    """Name the filter without which there would be flows."""
    if names := foreign_namespaces(visit):
        listed = " and ".join(names)
        empty(
            f"{listed} {'is' if len(names) == 1 else 'are'} not yours",
            f"Your namespaces exchanged no flow with {listed} that matches. Other flows of {listed} are not shown to you.",
            "lock",
            ("Clear the filters", _clear),
        )
        return
    text = f"{theme.compact(total)} flows of this window are yours to see, and none of them matches."
    cure: tuple[str, Callable[[], None]] = ("Clear the filters", _clear)
    for condition in wanted.conditions if not wanted.match_any else ():
        rest = replace(wanted, conditions=tuple(other for other in wanted.conditions if other != condition))
        found = visit.answer(count_questions.timeline(rest))
        if without := sum(found.rows["flows"].to_pylist()):
            text = f"Without **{condition}** there would be {theme.compact(without)} flows; the window holds {theme.compact(total)}."
            cure = (f"Remove {condition}", partial(_remove, condition))
            break
    empty("No flow matches", text, "filter_alt_off", cure)


def _clear() -> None:
    filters.put([])
    url_state.put("verdict", None)


def _remove(condition: object) -> None:
    filters.put([chip for chip in filters.chips() if chip.condition != condition])


def _go_to_newest(visit: Visit) -> None:
    newest = visit.door.answer(visit.who, SizeOfLake()).newest
    if newest is not None:
        time_control.set_range(newest - visit.time.length, newest + (newest.resolution * 1_000_000))


def _by_cluster(answer: Answer) -> str:
    return "  \n".join(f"{cluster}: {theme.percent(share)}" for cluster, share in answer.shares.items()) or "no row of the ledger"

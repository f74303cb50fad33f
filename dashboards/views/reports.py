"""Reports: what was made, by whom, for whom, whether it still says what the lake says, and when the next ones are made.

An owner sees those that were made with rights of hers. A report is opened in a frame that can load nothing and run nothing.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from dashboards.access import identity, made_files
from dashboards.frame import clock, head, summary, theme, url_state
from dashboards.visit import Visit
from warehouse.config import OWNERS, Schedule
from warehouse.questions.report_questions import ReportFiles, ReportsMade
from warehouse.wording import counted

STATES = {"identical": "✓ Identical", "differs": "✕ Differs", None: "Not verified"}
"""What verifying said: a word and a sign."""
COLOURS = ["green", "#A63A12", "gray"]
HEIGHT = 900
"""Height of the frame in which a report is opened, in pixels."""


def page(visit: Visit) -> None:
    """Draw the page. Raises HindcastError."""
    head.draw(visit, "Reports", with_time=False)
    answer = visit.answer(ReportsMade())
    rows = answer.rows.to_pylist()
    st.caption(f"**{counted(len(rows), 'report')}**{summary.cut(answer, 'reports')} · made by hindcast report or on schedule, newest first")
    if rows:
        _listed(visit, rows)
    else:
        summary.empty(
            "No report that you may read",
            "None was made yet, or none for you: `hindcast report owner --for YOU` makes one, and a schedule in `reports.schedules`.",
            "summarize",
        )
    _schedule(visit)


def _listed(visit: Visit, rows: list[dict[str, Any]]) -> None:
    chosen = url_state.get("report")
    place = next((place for place, row in enumerate(rows) if row["id"] == chosen), None)
    table = st.dataframe(
        [_row(row) for row in rows],
        hide_index=True,
        row_height=30,
        height=min(420, 37 + 30 * len(rows)),
        on_select="rerun",
        selection_mode="single-row",
        key="reports table",
        placeholder="–",  # noqa: RUF001 - stands for nothing
        alt="Reports, newest first",
        column_config={
            "Verified": st.column_config.MultiselectColumn(options=list(STATES.values()), color=COLOURS, width=130),
            "Title": st.column_config.TextColumn(width=360),
            "Made": clock.column("Made", "YYYY-MM-DD HH:mm"),
        },
    )
    picked = table["selection"]["rows"]
    if picked and picked[0] != place:
        place = picked[0]
        url_state.put("report", rows[place]["id"])
    if place is None:
        st.caption("Choose a report to open it.")
        return
    _opened(visit, rows[place])


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "Title": row["title"],
        "For": row["made_for"] or "the platform",
        "Verified": [STATES[row["state"]]],
        "Made": row["time"],
        "Made by": row["made_by"],
        "Formats": ", ".join(row["formats"] or ()),
    }


def _opened(visit: Visit, row: Mapping[str, Any]) -> None:
    """Show one report, with its files to download."""
    st.subheader(row["title"], anchor=False)
    state = STATES[row["state"]] + (f" at {clock.minute(row['checked'])}" if row["checked"] else "")
    span = clock.span(row["since"], row["until"])
    st.caption(f"{state} · as the lake knew it at {clock.second(row['known'])} · window {span} · id {row['id']}")
    if row["detail"]:
        st.warning("\n".join(f"- {line}" for line in row["detail"].splitlines()), icon=":material/difference:")
    archive = visit.answer(ReportFiles(id=row["id"]))
    if archive is None:
        st.write("Its files are not yours to read: it may hold labels, which auditors do not see.")
        return
    files = _files(archive)
    html = next((name for name in files if name.endswith(".html")), None)
    with st.container(horizontal=True, wrap=True):
        if html:
            _download(visit, "Download the page", files[html], html, "text/html")
        _download(visit, "Download all files", archive, f"hindcast-{row['report']}-{row['until']:%Y-%m-%d}.zip", "application/zip")
    if html:
        st.iframe(files[html].decode(), height=HEIGHT, alt=f"The report {row['title']}")


def _files(archive: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def _download(visit: Visit, label: str, data: bytes, name: str, kind: str) -> None:
    def noted() -> bytes:
        made_files.note(data, kind, name, visit.who)
        return data

    st.download_button(label, noted, file_name=name, mime=kind, key=f"download {kind}", on_click="ignore", icon=":material/download:")


def _schedule(visit: Visit) -> None:
    """Say which reports are made when: all for administrators, for anyone else those that are made for her."""
    schedules: Sequence[Schedule] = visit.settings.reports.every_schedule
    mine = {*visit.who.subjects, OWNERS}
    if not visit.door.scope(visit.who).administers:
        schedules = [one for one in schedules if mine & set(one.subjects)]
    if not schedules:
        return
    st.subheader("Schedule", anchor=False)
    sees_all = visit.door.scope(visit.who).administers
    st.dataframe(
        [
            {
                "Name": one.name,
                "Report": one.report,
                "When (UTC)": one.cron,
                "Window": theme.duration(one.window),
                "For": (", ".join(one.subjects) or "the platform") if sees_all else identity.name(visit.who),
                "Delivered to": ", ".join(one.deliver_to) if sees_all else "",
            }
            for one in schedules
        ],
        hide_index=True,
        row_height=30,
        alt="Scheduled reports",
    )

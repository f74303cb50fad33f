"""`hindcast policy proposals`: looks at proposals, decides on them, applies them, rolls them back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
import typer

from hindcast.console import ConfigOption, LakeOption, messages
from hindcast.output import FileOption, Format, OutputOption, write_rows
from hindcast.policy_files import write_text
from hindcast.policy_propose import UserOption, named, open_desk, say
from hindcast.query_options import AsOption, GroupOption, open_door, principal
from warehouse.errors import ProposalError
from warehouse.wording import counted

if TYPE_CHECKING:
    from pipelines.proposals.desk import Desk
    from pipelines.proposals.model import Proposal
    from pipelines.proposals.watching import Watched

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="The proposal's id.")]
proposals = typer.Typer(no_args_is_help=True, add_completion=False, help="Look at proposals; approve, reject, apply and roll them back.")
_LISTED = ("id", "status", "cluster", "namespace", "what", "author", "proposed", "needs", "risks")


@proposals.command("list", epilog="Example: hindcast policy proposals list --as ada@example.com --output json")
def list_proposals(
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    output: OutputOption = Format.TABLE,
    file: FileOption = None,
    user: AsOption = None,
    groups: GroupOption = None,
) -> None:
    """List the proposals for namespaces that are the user's, the newest first."""
    from datetime import UTC, datetime

    from pipelines.proposals import store
    from warehouse.questions.proposal_questions import ProposalEvents

    answer = open_door(config_path, lake_url, "policy proposals").answer(principal(user, groups), ProposalEvents())
    now = datetime.now(UTC)
    rows = [
        {
            "id": one.id,
            "status": one.status(now).value,
            "cluster": one.cluster,
            "namespace": one.namespace,
            "what": one.title,
            "author": one.author,
            "proposed": f"{one.time:%Y-%m-%dT%H:%M:%SZ}",
            "needs": one.needs.value,
            "risks": str(len(one.judgement.about.get("risks", ()))),
        }
        for one in store.proposals_of(answer.rows)
    ]
    write_rows(pa.Table.from_pylist(rows, schema=pa.schema([(name, pa.string()) for name in _LISTED])), output, file)


@proposals.command("show", epilog="Example: hindcast policy proposals show 3f2a9c0d1e4b --as ada@example.com")
def show(
    proposal: IdArgument,
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    output: Annotated[Format, typer.Option("--output", "-o", help="table, or json for everything that is recorded.")] = Format.TABLE,
    user: AsOption = None,
    groups: GroupOption = None,
) -> None:
    """Show a proposal: its difference to what is in force, checks, simulation, risks and history."""
    from datetime import UTC, datetime

    from pipelines.proposals import handing_over, store
    from warehouse.questions.proposal_questions import ProposalEvents, ProposedEdges

    door, who = open_door(config_path, lake_url, "policy proposals"), principal(user, groups)
    found = store.proposals_of(door.answer(who, ProposalEvents(proposal=proposal)).rows)
    if not found:
        raise ProposalError(f"there is no proposal {proposal} that you may see")
    one = found[0]
    edges = door.answer(who, ProposedEdges(proposal=proposal, judgement=one.judgement.number)).rows.to_pylist()
    if output is Format.JSON:
        typer.echo(json.dumps(_as_json(one, edges), default=str, ensure_ascii=False))
        return
    typer.echo(f"{one.id}  {one.status(datetime.now(UTC)).value}  {one.cluster}  {one.title}  by {one.author}")
    typer.echo(f"  judged as {one.judged}")
    for check in one.checks():
        mark = {True: "ok", False: "refused", None: "not checked"}[check.is_met]
        typer.echo(f"  {check.check}: {mark}: {check}")
    for risk in one.judgement.about.get("risks", ()):
        typer.echo(f"  risk: {risk}")
    typer.echo(handing_over.patch(one))
    for edge in edges:
        typer.echo(
            f"  {edge['change']}: {_end(edge, 'source')} to {_end(edge, 'destination')} {_port(edge)}, {counted(edge['flows'], 'flow')}"
        )
    for entry in one.entries:
        more = f": {entry.detail}" if entry.detail else ""
        typer.echo(f"{entry.time:%Y-%m-%d %H:%M:%S} UTC  {entry.event.value} by {entry.actor}{more}")


def _as_json(one: Proposal, edges: list[dict[str, Any]]) -> dict[str, Any]:
    from dataclasses import asdict
    from datetime import UTC, datetime

    return {
        "id": one.id,
        "status": one.status(datetime.now(UTC)).value,
        "cluster": one.cluster,
        "namespace": one.namespace,
        "author": one.author,
        "needs": one.needs.value,
        "digest": one.digest,
        "judged": one.judged,
        "entries": [asdict(entry) for entry in one.entries],
        "edges": edges,
    }


def _end(edge: dict[str, Any], side: str) -> str:
    inside = "/".join(part for part in (edge[f"{side}_namespace"], edge[f"{side}_workload_name"]) if part)
    parts = (edge[f"{side}_entity"], inside, edge[f"{side}_dns_name"] or edge[f"{side}_cidr"])
    return " ".join(part for part in parts if part) or "?"


def _port(edge: dict[str, Any]) -> str:
    return "/".join(str(part) for part in (edge["destination_port"], edge["l4_protocol"]) if part is not None)


@proposals.command("judge", epilog="Example: hindcast policy proposals judge 3f2a9c0d1e4b --as ada@example.com")
def judge(
    proposal: IdArgument, user: UserOption, config_path: ConfigOption = None, lake_url: LakeOption = None, groups: GroupOption = None
) -> None:
    """Check and simulate a proposal of yours again, against what is in force now. Approvals from before do not count any more."""
    from pipelines.proposals import steps

    desk, one = _opened(proposal, user, groups, config_path, lake_url)
    with messages.status("judging"):
        made = steps.judge_again(desk, one)
    say(made, desk)
    if made.is_refused:
        raise typer.Exit(1)


@proposals.command("approve", epilog="Example: hindcast policy proposals approve 3f2a9c0d1e4b --judged 9b1c77e0a2d4 --as ada@example.com")
def approve(
    proposal: IdArgument,
    user: UserOption,
    judged: Annotated[str, typer.Option("--judged", help="The judgement that you looked at, as `show` prints it.")],
    comment: Annotated[str, typer.Option("--comment", help="What to record with the approval.")] = "",
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    groups: GroupOption = None,
) -> None:
    """Approve what somebody else proposed: exactly the bytes, object versions and findings of the judgement that you looked at."""
    from pipelines.proposals import steps

    desk, one = _opened(proposal, user, groups, config_path, lake_url)
    _say_status(desk, steps.approve(desk, one, comment, judged=judged))


@proposals.command(
    "reject", epilog="Example: hindcast policy proposals reject 3f2a9c0d1e4b --reason 'use the shared one' --as ada@example.com"
)
def reject(
    proposal: IdArgument,
    user: UserOption,
    reason: Annotated[str, typer.Option("--reason", help="Why, for its author.")],
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    groups: GroupOption = None,
) -> None:
    """Reject a proposal, or withdraw your own."""
    from pipelines.proposals import steps

    desk, one = _opened(proposal, user, groups, config_path, lake_url)
    _say_status(desk, steps.reject(desk, one, reason))


@proposals.command("apply", epilog="Example: hindcast policy proposals apply 3f2a9c0d1e4b --as ada@example.com --group checkout")
def apply(
    proposal: IdArgument, user: UserOption, config_path: ConfigOption = None, lake_url: LakeOption = None, groups: GroupOption = None
) -> None:
    """Apply a proposal that is ready, as this user and groups: the cluster's own RBAC decides whether they may."""
    from pipelines.proposals import applying

    desk, one = _opened(proposal, user, groups, config_path, lake_url)
    _say_status(desk, applying.apply(desk, one))


@proposals.command("roll-back", epilog="Example: hindcast policy proposals roll-back 3f2a9c0d1e4b --as ada@example.com --group checkout")
def roll_back(
    proposal: IdArgument,
    user: UserOption,
    even_if_changed: Annotated[
        bool, typer.Option("--even-if-changed", help="Also if somebody changed an object since; that change is then lost.")
    ] = False,
    reason: Annotated[str, typer.Option("--reason", help="What to record about it.")] = "",
    accept: Annotated[
        str | None, typer.Option("--accept", help="What it would deny and you accept: the word that the command names when it refuses.")
    ] = None,
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    groups: GroupOption = None,
) -> None:
    """Put back what an applied proposal changed: a new object is deleted, a changed or deleted one is applied as it was.

    It is tried on the traffic since then first. What it would deny is listed, and has to be accepted with --accept.
    """
    from pipelines.proposals import rolling_back
    from warehouse.errors import RollBackDeniesError

    desk, one = _opened(proposal, user, groups, config_path, lake_url)
    try:
        done = rolling_back.roll_back(desk, one, even_if_changed=even_if_changed, detail=reason, accepted=accept)
    except RollBackDeniesError as error:
        for edge in rolling_back.judge(desk, one).denied:
            row = edge.row()
            typer.echo(f"  denied: {_end(row, 'source')} to {_end(row, 'destination')} {_port(row)}, {counted(edge.flows, 'flow')}")
        raise ProposalError(f"{error}. To roll back all the same: --accept {error.judged}") from error
    _say_status(desk, done)


@proposals.command("hand-over", epilog="Example: hindcast policy proposals hand-over 3f2a9c0d1e4b --as ada@example.com --git")
def hand_over(
    proposal: IdArgument,
    user: UserOption,
    git: Annotated[bool, typer.Option("--git", help="Push a commit on a new branch of the repository in proposals.git.")] = False,
    file: Annotated[Path | None, typer.Option("--file", help="File for the patch, instead of standard output.")] = None,
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    groups: GroupOption = None,
) -> None:
    """Hand a proposal that is ready over to a GitOps repository, as a patch or as a commit, instead of applying it."""
    from pipelines.proposals import handing_over

    desk, one = _opened(proposal, user, groups, config_path, lake_url)
    if git:
        _say_status(desk, handing_over.hand_over_commit(desk, one))
        return
    done, text = handing_over.hand_over_patch(desk, one)
    write_text(text, file)
    messages.print(f"{done.id} {done.status(desk.now).value}", markup=False, style="dim")


@proposals.command("watch", epilog="Example: hindcast policy proposals watch")
def watch(
    proposal: Annotated[
        str | None, typer.Argument(metavar="ID", help="One proposal, as the user; all that are being watched if absent.")
    ] = None,
    user: AsOption = None,
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    groups: GroupOption = None,
) -> None:
    """List the flows that an applied proposal drops. Without ID, look at all of them, and roll back where the configuration says so.

    Exit code 1 if anything is dropped that the proposal's simulation had not announced, or if it could not be told of a proposal.
    """
    from pipelines.proposals import store, watching, watching_all

    desk = open_desk(config_path, lake_url, named(user or "", groups), "policy proposals watch")
    if proposal is not None:
        one = store.visible_one(desk, proposal) if user else store.one(desk.lake, proposal)
        found = watching.watch(desk, one, principal(user, groups))
        _say_watched(one, found)
        if found.unannounced or not found.is_judged:
            raise typer.Exit(1)
        return
    is_well = True
    for looked in watching_all.look_at_all(desk):
        _say_watched(looked.proposal, looked.watched)
        is_well = is_well and looked.watched.is_judged and not looked.watched.unannounced
        if looked.is_rolled_back:
            typer.echo(f"{looked.proposal.id}: rolled back")
        if looked.failure:
            messages.print(f"{looked.proposal.id}: cannot be rolled back: {looked.failure}", markup=False, style="red")
    if not is_well:
        raise typer.Exit(1)


def _say_watched(one: Proposal, found: Watched) -> None:
    if not found.is_judged:
        messages.print(f"{one.id}: not judged: {'; '.join(found.notes)}", markup=False, style="red")
        return
    typer.echo(f"{one.id}: {found.in_words} dropped because of it until {found.until:%H:%M:%S} UTC")
    for edge in found.drops:
        row = edge.row()
        said = "" if edge in found.unannounced else ", as announced"
        typer.echo(f"  {_end(row, 'source')} to {_end(row, 'destination')} {_port(row)}, {counted(edge.flows, 'flow')}{said}")
    if found.uncertain:
        messages.print(f"of {len(found.uncertain):,} more dropped edges it cannot be told", markup=False, style="yellow")
    for note in found.notes:
        messages.print(note, markup=False, style="yellow")


def _opened(proposal: str, user: str, groups: list[str] | None, config_path: Path | None, lake_url: str | None) -> tuple[Desk, Proposal]:
    from pipelines.proposals import store

    desk = open_desk(config_path, lake_url, named(user, groups), "policy proposals")
    return desk, store.visible_one(desk, proposal)


def _say_status(desk: Desk, one: Proposal) -> None:
    typer.echo(f"{one.id}  {one.status(desk.now).value}  {one.cluster}  {one.title}")

"""`hindcast policy propose`: proposes a change of policies, with checks and a simulation."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hindcast.console import ConfigOption, LakeOption, messages
from hindcast.policy_simulate import TakesPairs, identity_of
from hindcast.query_options import GroupOption
from warehouse.errors import ConfigError
from warehouse.wording import counted

if TYPE_CHECKING:
    from pipelines.policy.reading import Document
    from pipelines.proposals.desk import Desk
    from pipelines.proposals.judging import Judged
    from pipelines.proposals.steps import Made
    from warehouse.access.principals import Principal

UserOption = Annotated[str, typer.Option("--as", help="The user who does it, within what ownership.grants allows.")]


def open_desk(config_path: Path | None, lake_url: str | None, who: Principal, command: str) -> Desk:
    """Open what acting on proposals, or on changes of blueprints, as a principal needs. Raises ConfigError, LakeError."""
    from hindcast.console import lake_settings
    from pipelines.proposals.desk import Desk
    from warehouse import config
    from warehouse.lake.tables import Lake
    from warehouse.questions.door import Door

    settings = config.load_config(config_path)
    lake = Lake.open(lake_settings(config_path, lake_url))
    return Desk(settings=settings, lake=lake, door=Door(lake, settings.ownership, settings.rollups, purpose=f"hindcast {command}"), who=who)


def named(user: str, groups: list[str] | None) -> Principal:
    """Return the principal of a user who has to be named: an empty name is nobody, and not the operator."""
    from warehouse.access.principals import Principal

    return Principal(user=user, groups=frozenset(groups or ()))


def propose(
    cluster: Annotated[str, typer.Option("--cluster", help="Cluster in which the policies are to change.")],
    user: UserOption,
    files: Annotated[list[str] | None, typer.Argument(help="Files or folders of policies; - reads standard input.")] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option(
            "--remove", metavar="KIND NS/NAME", help="Policy to delete; repeatable. Without NS/ for the kinds of a whole cluster."
        ),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why, for those who approve it.")] = "",
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    groups: GroupOption = None,
) -> None:
    """Propose a change of policies: checked, tried on recorded traffic, and stored until it is approved and applied.

    Policies of several namespaces become a proposal for each. Exit code 1 if one is refused.
    """
    from pipelines.proposals import reading, steps

    desk = open_desk(config_path, lake_url, named(user, groups), "policy propose")
    asked = reading.read(_read(files or []), [identity_of(text) for text in remove or ()])
    is_refused = False
    for group in asked:
        with messages.status("judging"):
            made = steps.propose(desk, cluster, group, reason)
        say(made, desk)
        is_refused = is_refused or made.is_refused
    if is_refused:
        raise typer.Exit(1)


command = typer.Typer(add_completion=False)
"""The command itself, which reads the two words of --remove."""
command.command(
    "propose", cls=TakesPairs, epilog="Example: hindcast policy propose web.yaml --cluster prod-eu-1 --as ada@example.com --group checkout"
)(propose)


def _read(files: list[str]) -> list[Document]:
    from hindcast.policy_files import read_policies
    from pipelines.policy.documents import read_documents

    found: list[Document] = []
    for name in files:
        found.extend(read_documents(sys.stdin.read(), "standard input") if name == "-" else read_policies(Path(name)))
    if files and not found:
        raise ConfigError(f"{', '.join(files)}: there is no manifest")
    return found


def say(made: Made, desk: Desk) -> None:
    """Print a proposal's id, and what was found about it."""
    proposal = made.proposal
    status = proposal.status(desk.now)
    typer.echo(f"{proposal.id}  {status.value}  {proposal.cluster}  {proposal.title}")
    say_judged(made.judged)
    if not made.is_refused:
        needs = "It needs no approval." if proposal.needs.value == "nobody" else f"It needs the approval of {proposal.needs.value}."
        messages.print(f"{needs} `hindcast policy proposals show {proposal.id}` shows it in full.", markup=False, style="dim")


def say_judged(judged: Judged) -> None:
    """Print checks, the simulation's sums, and risks."""
    from pipelines.replay.outcomes import Change

    marks = {True: ("ok", "green"), False: ("refused", "red"), None: ("not checked", "yellow")}
    for check in judged.checks:
        mark, style = marks[check.is_met]
        messages.print(f"{check.check}: {mark}: {check}", markup=False, style=style)
    if judged.result is not None:
        counts = {change: judged.result.count(change) for change in Change}
        texts = (
            f"{change.value.replace('_', ' ')} {counted(flows, 'flow')} on {counted(edges, 'edge')}"
            for change, (flows, edges) in counts.items()
        )
        messages.print("simulation: " + " · ".join(texts), markup=False)
        for note in judged.result.notes:
            messages.print(note, markup=False, style="yellow")
    for risk in judged.risks:
        messages.print(f"risk: {risk}", markup=False, style="yellow")

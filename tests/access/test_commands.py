"""Every command that answers, as every kind of person: it prints what the oracle says. A command that is not listed fails a test."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow.parquet as pq
import pytest
import typer.main
from seen_by_people import DAY, START, Seen, keyed, tokens
from typer.testing import CliRunner

from hindcast.cli import app
from hindcast.lazy import Deferred
from warehouse.access.principals import Principal

SINCE_UNTIL = ["--since", START.isoformat(), "--until", (START + 6 * DAY).isoformat()]
COMMANDS = {
    "flows": ["flows", *SINCE_UNTIL, "-n", "100000"],
    "edges": ["edges", *SINCE_UNTIL, "-n", "100000"],
    "sql": ["sql", "SELECT * FROM flows", *SINCE_UNTIL, "--limit", "100000"],
    "status": ["status"],
    "access log": ["access", "log"],
    "blueprint drift": ["blueprint", "drift"],
    "blueprint matrix": ["blueprint", "matrix"],
    "findings list": ["findings", "list"],
    "policy proposals list": ["policy", "proposals", "list"],
    "policy simulate": ["policy", "simulate", "-", *SINCE_UNTIL],
    "policy audit": ["policy", "audit", "--no-record", *SINCE_UNTIL],
    "policy recommend": ["policy", "recommend", "NAMESPACE", "--cluster", "c1", *SINCE_UNTIL],
    "policy explain": [
        "policy",
        "explain",
        "--source",
        "NAMESPACE/web",
        "--destination",
        "NAMESPACE/api",
        "--port",
        "80",
        "--at",
        (START + DAY).isoformat(),
        "--cluster",
        "c1",
    ],
}
FINDS = ("blueprint drift", "policy audit", "policy explain")
"""Commands whose exit code says whether something was found."""
OWN_NAMESPACE = {"paula": "payments", "sina": "shop"}
"""A namespace of each user, for commands that ask about one."""
CANDIDATE = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: candidate, namespace: %s}
spec: {endpointSelector: {}, ingress: [{fromEntities: [all]}]}
"""
CONFIGURATION = {
    "config history": (["config", "history", "Namespace", "shop", "--cluster", "c1"], 0, 99),
    "config at": (["config", "at", (START + 3.5 * DAY).isoformat(), "--cluster", "c1"], 3.5, 3.5),
    "config diff": (["config", "diff", (START + DAY).isoformat(), (START + 3.5 * DAY).isoformat(), "--cluster", "c1", "--full"], 1, 3.5),
}
"""Commands that show versions of objects, those in force between two days."""
ACT = (
    "policy propose",
    *(f"findings {name}" for name in ("accept", "reopen", "history")),
    *(f"blueprint changes {name}" for name in ("list", "show", "watch", "go-on", "stop", "roll-back", "hand-over")),
    *(f"policy proposals {name}" for name in ("show", "judge", "approve", "reject", "apply", "roll-back", "hand-over", "watch")),
)
"""Commands that act on a proposal, a finding or a blueprint's change as somebody; tests/pipelines/proposals, tests/pipelines/evidence and
tests/peers/test_central.py ask them as owners, strangers and auditors."""
ANSWER_NOBODY = {
    "airflow": "runs a program on the lake's own files",
    "capacity": "for who operates the lake: it counts a fleet's flows and shows none",
    "check": "looks at the configuration",
    "collect": "writes only",
    "import": "writes only",
    "dashboard": "runs the dashboard, whose pages ask the door",
    "demo": "runs everything on this machine",
    "token create": "for who operates the lake; users make theirs on the page Access",
    "token list": "for who operates the lake",
    "token revoke": "for who operates the lake",
    "serve": "runs a server, whose calls ask the door: tests/api",
    "simulate": "knows no lake",
    "maintain compact": "for who operates the lake",
    "maintain rollup": "for who operates the lake",
    "maintain retain": "for who operates the lake",
    "maintain erase": "for who operates the lake",
    "maintain vacuum": "for who operates the lake",
    "maintain checkpoint": "for who operates the lake",
    "maintain statistics": "for who operates the lake",
    "config snapshot": "writes only",
    "alerts check": "looks at files",
    "alerts run": "for who operates the lake",
    "alerts list": "for who operates the lake",
    "alerts test": "for who operates the lake; each rule sees what its subject may see",
    "config compact": "for who operates the lake",
    "blueprint validate": "looks at files",
    "blueprint edit": "looks at files",
    "policy test": "looks at files",
    "blueprint templates": "looks at files",
    "blueprint library": "looks at files",
    "blueprint schema": "looks at files",
    "blueprint compare": "looks at files",
    "blueprint plan": "for who operates the clusters",
    "blueprint publish": "for who operates the clusters",
    "blueprint revert": "for who operates the clusters",
    "findings publish": "for who operates the clusters",
    "access explain": "for who administers ownership; shows grants, no flow",
    "access who": "for who administers ownership; shows grants, no flow",
    "access test": "for who administers ownership; shows grants, no flow",
    **{
        f"report {name}": "for who operates the lake; what is made for a subject is tested in test_reports.py"
        for name in ("fleet", "owner", "segmentation", "access", "changes")
    },
    "report verify": "for who operates the lake",
}


def commands() -> Iterator[tuple[str, set[str]]]:
    """Every command with its options."""

    def walk(command: Any, name: str) -> Iterator[tuple[str, set[str]]]:
        command = command.command() if isinstance(command, Deferred) else command
        for part, below in getattr(command, "commands", {}).items():
            yield from walk(below, f"{name} {part}".strip())
        if not hasattr(command, "commands"):
            yield name, {option for parameter in command.params for option in parameter.opts}

    yield from walk(typer.main.get_command(app), "")


def test_every_command_is_listed_and_those_that_answer_take_as() -> None:
    for name, options in commands():
        answers = name in COMMANDS or name in CONFIGURATION or name in ACT
        assert answers != (name in ANSWER_NOBODY), f"{name}: a command without a test: add it to COMMANDS"
        assert ("--as" in options) == (answers or name == "serve"), name


@pytest.mark.parametrize("who", ["nora", "olga", "red", "blue", "sina", "otto", "rita"])
@pytest.mark.parametrize("command", CONFIGURATION)
def test_versions_of_a_time_are_shown_to_who_owned_their_namespace_then(
    command: str, who: str, world: Any, person: Callable[[str], Principal]
) -> None:
    arguments, begin, end = CONFIGURATION[command]
    how = [] if command == "config at" else ["--output", "json"]
    _, _, printed = run(world, person(who), *arguments, *how)
    assert tokens(printed) <= world.manifests(who, begin, end)
    if command == "config at":
        on_c1 = {f"manifest~{number}" for number in range(5)}
        assert tokens(printed) == world.manifests(who, begin, end) & on_c1


def run(world: Any, who: Principal, *arguments: str) -> tuple[int, str, bytes]:
    asked = [] if who.is_operator else ["--as", who.user, *(part for group in sorted(who.groups) for part in ("--group", group))]
    own = OWN_NAMESPACE.get(who.user, "shop")
    done = CliRunner().invoke(
        app, [*(one.replace("NAMESPACE", own) for one in arguments), "--config", str(world.config_file), *asked], input=CANDIDATE % own
    )
    return done.exit_code, str(done.exception or ""), done.stdout_bytes


FORMATS = {
    "flows": ["compact", "table", "json", "jsonpb", "csv", "parquet"],
    "status": ["table", "json", "csv", "parquet"],
    "policy simulate": ["table", "json", "csv"],
    "policy audit": ["table", "json", "sarif"],
    "policy recommend": ["yaml", "json"],
    "policy explain": ["text", "json"],
}
CASES = [(command, how) for command in COMMANDS for how in FORMATS.get(command, ["table", "json", "csv", "parquet"])]


@pytest.mark.parametrize("who", ["payments", "sina"])
@pytest.mark.parametrize(("command", "how"), CASES)
def test_every_command_prints_what_the_oracle_allows(
    command: str, how: str, who: str, world: Any, seen: Callable[[str], Seen], person: Callable[[str], Principal]
) -> None:
    code, error, printed = run(world, person(who), *COMMANDS[command], "--output", how)
    # Nobody has read this world's configuration, so an audit says so.
    assert error in ("", "1") or (command == "policy audit" and error.startswith("there is no configuration history that you may see"))
    assert code == (1 if command == "blueprint drift" and seen(who).drift else 0) or (command in FINDS[1:] and code in (1, 2))
    rows: Any = printed.decode(errors="replace")
    if how == "parquet":
        rows = pq.read_table(io.BytesIO(printed)).to_pylist()
    elif how == "json" and command not in ("policy recommend", "policy explain"):
        rows = [json.loads(line) for line in rows.split("\n") if line]  # SQL in it may hold other ends of lines
    elif how == "csv":
        rows = list(csv.DictReader(io.StringIO(rows)))
    if command == "access log":  # there one reads again what one has asked
        return
    foreign = tokens(rows) - seen(who).tokens
    # A table's cells are cut where they are long.
    assert not {token for token in foreign if how != "table" or not any(own.startswith(token) for own in seen(who).tokens)}
    if command in ("flows", "sql"):
        told = {token for token in tokens(rows) if token.startswith("uuid-")}
        if how in ("json", "jsonpb", "csv", "parquet"):
            assert told == set(keyed(seen(who).flows))
        elif how == "compact":
            assert len(rows.splitlines()) == len(seen(who).flows)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_denies_who_owns_nothing(command: str, world: Any, person: Callable[[str], Principal]) -> None:
    code, error, printed = run(world, person("eve"), *COMMANDS[command])
    assert code == 1
    assert "eve owns no namespace" in error
    assert not tokens(printed)


def test_a_file_that_is_exported_holds_no_more(
    world: Any, seen: Callable[[str], Seen], person: Callable[[str], Principal], tmp_path: Any
) -> None:
    for how in ("json", "csv", "parquet"):
        file = tmp_path / f"out.{how}"
        code, _, _ = run(world, person("nora"), *COMMANDS["sql"], "--output", how, "--file", str(file))
        assert code == 0
        content = pq.read_table(file).to_pylist() if how == "parquet" else file.read_text()
        assert {token for token in tokens(content) if token.startswith("uuid-")} == set(keyed(seen("nora").flows))
        assert not tokens(content) - seen("nora").tokens

"""`hindcast token`: personal tokens, by which other tools sign in to `hindcast serve`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hindcast.console import ConfigOption, LakeOption, lake_settings, messages
from hindcast.output import Format, OutputOption, write_rows
from warehouse import config
from warehouse.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from warehouse.lake.tables import Lake

token = typer.Typer(no_args_is_help=True, help="Make, list and revoke personal tokens, by which other tools sign in.")


@token.callback()
def _commands() -> None:
    """Make, list and revoke personal tokens, by which other tools sign in."""


@token.command("create", epilog="Example: hindcast token create --user ada@example.com --group payments --name laptop --expires 30d")
def create(
    user: Annotated[str, typer.Option("--user", help="The user on whose behalf the token's bearer asks.")],
    groups: Annotated[list[str] | None, typer.Option("--group", help="A group of the user; repeatable.")] = None,
    name: Annotated[str, typer.Option("--name", help="What the token is called in lists.")] = "hubble",
    expires: Annotated[str, typer.Option("--expires", help="How long it is valid, e.g. 12h or 30d; 366d at most.")] = "30d",
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
) -> None:
    """Make a token and print it, once: only a hash of it is stored."""
    from warehouse.access.principals import Principal
    from warehouse.records import tokens

    try:
        lifetime = config.parse_duration(expires)
    except ValueError as error:
        raise ConfigError(f"--expires: {error}") from error
    who = Principal(user=user, groups=frozenset(groups or ()))
    made, text = tokens.create(_lake(config_path, lake_url), who, name=name, lifetime=lifetime, changed_by="operator")
    messages.print(f"token {made.id} of {made.user}, valid until {made.expires:%Y-%m-%d %H:%M} UTC; it is not shown again:", markup=False)
    typer.echo(text)


@token.command("list", epilog="Example: hindcast token list --user ada@example.com")
def list_tokens(
    user: Annotated[str | None, typer.Option("--user", help="Only tokens of this user.")] = None,
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    output: OutputOption = Format.TABLE,
) -> None:
    """List the tokens that are not revoked, the newest first."""
    import pyarrow as pa

    from warehouse.records import tokens
    from warehouse.schema import TOKENS

    names = ["id", "user", "groups", "name", "time", "expires", "changed_by"]
    found = tokens.listed(_lake(config_path, lake_url), user=user)
    rows = [{name: getattr(one, name) for name in names} for one in found]
    write_rows(pa.Table.from_pylist(rows, schema=pa.schema([TOKENS.schema.field(name) for name in names])), output)


@token.command("revoke", epilog="Example: hindcast token revoke 3f0c2a9be1d47788")
def revoke(
    identifier: Annotated[str, typer.Argument(help="The token's id, as listed.")],
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
) -> None:
    """Revoke a token: from now on it is refused."""
    from warehouse.records import tokens

    ended = tokens.revoke(_lake(config_path, lake_url), identifier, changed_by="operator")
    typer.echo(f"token {ended.id} of {ended.user} is revoked")


def _lake(config_path: Path | None, lake_url: str | None) -> Lake:
    from warehouse.lake.tables import Lake

    return Lake.open(lake_settings(config_path, lake_url))

"""Commands that are imported only when they are run, so that each command starts fast.

A group knows of each command its name and what its help says first; the command's module knows the rest.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


@dataclass(frozen=True)
class Entry:
    """A command in a group."""

    name: str
    target: str
    """The command's location: `module:name` of a function or a typer.Typer."""
    help: str
    """The first sentence of its help, for the group's list."""
    example: str | None = None


class Deferred(TyperCommand):
    """Placeholder in a group for a command that is imported when it is run."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(entry.name, help=entry.help)
        self._entry = entry

    def command(self) -> Any:
        """Import and return the command itself."""
        module, _, name = self._entry.target.partition(":")
        target = getattr(importlib.import_module(module), name)
        if isinstance(target, typer.Typer):
            return typer.main.get_command(target)
        alone = typer.Typer(add_completion=False)
        alone.command(self._entry.name, epilog=self._entry.example and f"Example: {self._entry.example}")(target)
        return typer.main.get_command(alone)

    def make_context(self, *arguments: Any, **more: Any) -> Any:
        """Return the context in which the command itself runs or prints its help."""
        return self.command().make_context(*arguments, **more)


def group(*entries: Entry, text: str) -> typer.Typer:
    """Return a group of such commands; `text` is its help."""
    return typer.Typer(cls=_class(entries), no_args_is_help=True, add_completion=False, help=text, callback=lambda: None)


def _class(entries: Sequence[Entry]) -> type[TyperGroup]:
    class Group(TyperGroup):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            for entry in entries:
                self.add_command(Deferred(entry))

    return Group

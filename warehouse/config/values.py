"""Value types of the configuration (durations, times, names, selectors), and reading of secrets."""

from __future__ import annotations

import os
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from warehouse.config.selectors import Selector
from warehouse.errors import ConfigError

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 365 * 86400}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdwy])")


def parse_duration(text: str | timedelta) -> timedelta:
    """Turn `90s`, `1h30m`, `30d` or `3y` (365 days each) into a timedelta; raises ValueError."""
    if isinstance(text, timedelta):
        return text
    parts = _DURATION.findall(text) if isinstance(text, str) else []
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is not a duration: write a number and a unit (ms, s, m, h, d, w, y), e.g. 90s, 1h30m or 30d")
    return timedelta(seconds=sum(float(number) * (0.001 if unit == "ms" else _UNITS[unit]) for number, unit in parts))


Duration = Annotated[timedelta, pydantic.BeforeValidator(parse_duration)]
_CLUSTER_NAME = r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
ClusterName = Annotated[str, Field(pattern=_CLUSTER_NAME)]


def check_cluster_name(name: str) -> None:
    """Raise ConfigError unless `name` is a valid cluster name; it is used as a folder name in the lake."""
    if not re.match(_CLUSTER_NAME, name):
        raise ConfigError(
            f"cluster name {name!r}: use 1 to 63 letters, digits, dots, dashes and underscores, a letter or digit at both ends"
        )


class Section(BaseModel):
    """A section of the file: immutable; unknown keys are rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def parse_moment(given: Any) -> datetime | None:
    """Parse a time, UTC if it has no zone: `2026-03-02`, `2026-03-02T14:00Z`. Raises ValueError."""
    if given is None or isinstance(given, datetime):
        moment = given
    elif isinstance(given, date):
        moment = datetime(given.year, given.month, given.day)  # noqa: DTZ001
    else:
        try:
            moment = datetime.fromisoformat(str(given))
        except ValueError as error:
            raise ValueError(f"{given!r} is not a time like 2026-03-02 or 2026-03-02T14:00Z") from error
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)


Moment = Annotated[datetime, pydantic.BeforeValidator(parse_moment)]


def parse_selector(text: str) -> str:
    """Check a label selector and return it unchanged; raises ValueError."""
    Selector.parse(text)
    return text


LabelSelector = Annotated[str, pydantic.AfterValidator(parse_selector)]


def read_secret(file: Path | None, variable: str | None) -> str:
    """Return the secret in a file or an environment variable; raises ConfigError naming what is missing, never the value."""
    if file is not None:
        try:
            return file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigError(f"{file}: the secret cannot be read: {error.strerror}") from error
    if variable is not None and variable in os.environ:
        return os.environ[variable]
    raise ConfigError(f"the environment variable {variable} is not set")


def environment(**more: str) -> dict[str, str]:
    """Return the environment for a child process, with additions."""
    return {**os.environ, **more}

"""Reports: zones of the segmentation report, files of one's own reports, and schedules."""

from __future__ import annotations

import re
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from warehouse.config.delivery import DeliveryName
from warehouse.config.values import Duration, Section

ZONE_OTHER, ZONE_OUTSIDE = "other", "outside"
"""The zones of namespaces in no zone, and of what has no namespace and no zone."""
READY_REPORTS = ("fleet", "owner", "segmentation", "access", "changes")
"""The reports that are ready."""
REPORT_FORMATS = ("html", "csv", "json", "parquet", "oscal")
OWNERS = "owners"
"""Stands for each subject with a grant of the role namespace-owner."""
_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(TCP|UDP|SCTP))?")
_CRON = re.compile(r"[0-9A-Za-z*/,\-]+( [0-9A-Za-z*/,\-]+){4}")
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]


class Zone(Section):
    """A zone of the network. Names may contain * and ?."""

    name: Name
    clusters: tuple[str, ...] = ("*",)
    namespaces: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    """DNS names, or entities such as kube-apiserver, of what has no namespace."""

    def holds(self, cluster: str, namespace: str | None, name: str | None) -> bool:
        """Whether an end of a flow is in the zone."""
        patterns, value = (self.namespaces, namespace) if namespace is not None else (self.names, name or "")
        return _among(cluster, self.clusters) and _among(value, patterns)


class Allowed(Section):
    """What may go from one zone to another."""

    source: str
    destination: str
    ports: tuple[str, ...] = ()
    """`443`, `443/TCP`, `8000-8100/TCP`; all if there are none."""
    reason: str = ""

    @model_validator(mode="after")
    def _ports_are_ports(self) -> Self:
        for port in self.ports:
            found = _PORT.fullmatch(port)
            if not found or int(found[2] or found[1]) > 65535 or int(found[2] or found[1]) < int(found[1]):
                raise ValueError(f"{port!r} is not a port: write 443, 443/TCP or 8000-8100/TCP")
        return self

    def covers(self, port: int | None, protocol: str | None) -> bool:
        """Whether the rule allows a port of a protocol; without a port only a rule for all ports does."""
        for written in self.ports:
            found = _PORT.fullmatch(written)
            if found and port is not None and int(found[1]) <= port <= int(found[2] or found[1]) and found[3] in (None, protocol):
                return True
        return not self.ports

    def in_words(self) -> str:
        """Return what it allows, for people."""
        return (", ".join(self.ports) or "any port") + (f" ({self.reason})" if self.reason else "")


class Segmentation(Section):
    """Zones, and what is allowed between them; everything else is not. Traffic within a zone is not looked at."""

    zones: tuple[Zone, ...] = Field(min_length=1)
    """An end belongs to the first zone that holds it."""
    allowed: tuple[Allowed, ...] = ()

    @model_validator(mode="after")
    def _known_zones(self) -> Self:
        names = [zone.name for zone in self.zones]
        for name in names:
            if names.count(name) > 1 or name in (ZONE_OTHER, ZONE_OUTSIDE):
                raise ValueError(f"the name {name!r} is taken: each zone needs a different one, and other and outside are Hindcast's own")
        for rule in self.allowed:
            for name in (rule.source, rule.destination):
                if name not in (*names, ZONE_OTHER, ZONE_OUTSIDE):
                    raise ValueError(f"there is no zone {name!r}; the zones are {', '.join((*names, ZONE_OTHER, ZONE_OUTSIDE))}")
        return self

    def zone_of(self, cluster: str, namespace: str | None, name: str | None) -> str:
        """Return the zone of an end of a flow."""
        for zone in self.zones:
            if zone.holds(cluster, namespace, name):
                return zone.name
        return ZONE_OUTSIDE if namespace is None else ZONE_OTHER

    def between(self, source: str, destination: str) -> list[Allowed]:
        """Return the rules for a pair of zones."""
        return [rule for rule in self.allowed if (rule.source, rule.destination) == (source, destination)]

    def allows(self, source: str, destination: str, port: int | None, protocol: str | None) -> bool:
        """Whether some rule for a pair of zones allows a port."""
        return any(rule.covers(port, protocol) for rule in self.between(source, destination))


class Schedule(Section):
    """A report that is made at regular times, recorded in the lake and delivered."""

    name: Name
    report: str
    """fleet, owner, segmentation, access, changes, or the name of a report of your own."""
    cron: str
    """Five fields, in UTC: `0 6 * * 1` is Monday at six."""
    window: Duration
    subjects: tuple[str, ...] = ()
    """For whom it is made, one report each: users and `group:NAME`, or `owners` for each namespace owner; the platform if empty."""
    formats: tuple[Literal["html", "csv", "json", "parquet", "oscal"], ...] = ("html", "csv", "json")
    deliver_to: tuple[DeliveryName, ...] = ()
    """Names of `deliveries`. A report goes only to targets whose readers may see all of it."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not _CRON.fullmatch(self.cron):
            raise ValueError(f"cron {self.cron!r} must have five fields, such as 0 6 * * 1")
        if self.report == "owner" and not self.subjects:
            raise ValueError("the report owner is made for someone: give subjects, or [owners] for each namespace owner")
        if not self.formats:
            raise ValueError("give at least one format")
        return self


WEEKLY = Schedule(name="weekly", report="fleet", cron="0 6 * * 1", window=timedelta(days=7))
"""What is made every week if the configuration has no schedule of that name."""


class Reports(Section):
    """What the reports need to know, and when they are made."""

    segmentation: Segmentation | None = None
    files: tuple[Path, ...] = ()
    """Reports of your own, one YAML file each; names may contain * and ?. The file's name without .yaml is the report's."""
    schedules: tuple[Schedule, ...] = ()

    @property
    def every_schedule(self) -> tuple[Schedule, ...]:
        """The schedules, with the weekly one."""
        return self.schedules if any(one.name == WEEKLY.name for one in self.schedules) else (WEEKLY, *self.schedules)

    @model_validator(mode="after")
    def _unique_names(self) -> Self:
        names = [schedule.name for schedule in self.schedules]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"schedules: the name {name!r} is used {names.count(name)} times")
        return self


def _among(value: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(value, pattern.replace("[", "[[]")) for pattern in patterns)

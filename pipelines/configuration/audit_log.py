"""Reads who changed what, and when, from an API server's audit log: JSON lines of audit.k8s.io events. It writes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import structlog

from pipelines.configuration.kinds import BY_NAME, moment
from pipelines.configuration.recording import Change
from warehouse import config

log = structlog.stdlib.get_logger(__name__)

_WRITES, _DELETIONS = frozenset({"create", "update", "patch"}), frozenset({"delete", "deletecollection"})
_LATENESS = timedelta(seconds=2)
"""The server logs a request a moment after completing it, and its clock may differ from ours."""


class AuditLog:
    """An audit log, read when the first change is looked up. An unreadable log and malformed lines count as no information;
    a warning is logged with their number."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._changes: dict[tuple[str, str | None, str | None], list[tuple[datetime, str, bool]]] | None = None

    @classmethod
    def of(cls, settings: config.Kubernetes) -> AuditLog:
        """Return the log that the configuration names, or an empty one if it names none."""
        return cls(settings.audit_log)

    def find(
        self, kind: str, namespace: str | None, name: str, earliest: datetime | None, latest: datetime, deletion: bool
    ) -> Change | None:
        """Return the last change (or the last deletion) of an object within a time span, or None if the log has none."""
        if self._path is None or kind not in BY_NAME:
            return None
        if self._changes is None:
            self._changes = self._read(self._path)
        resource = "/".join(BY_NAME[kind].resource)
        candidates = [*self._changes.get((resource, namespace, name), ()), *self._changes.get((resource, namespace, None), ())]
        for at, user, is_deletion in sorted(candidates, reverse=True):
            if at <= latest + _LATENESS and (earliest is None or at >= earliest) and is_deletion == deletion:
                return Change(at=min(at, latest), by=user, source="audit")
        return None

    def _read(self, path: Path) -> dict[tuple[str, str | None, str | None], list[tuple[datetime, str, bool]]]:
        changes: dict[tuple[str, str | None, str | None], list[tuple[datetime, str, bool]]] = {}
        wanted = {"/".join(kind.resource) for kind in BY_NAME.values()}
        bad = 0
        try:
            for event in _events(path):
                if event is None:
                    bad += 1
                    continue
                place, at, user, is_deletion = event
                if place[0] in wanted:
                    changes.setdefault(place, []).append((at, user, is_deletion))
        except OSError as error:
            log.warning("the audit log cannot be read", path=str(path), error=str(error))
        if bad:
            log.warning("the audit log has lines that are not audit events", path=str(path), lines=bad)
        return changes


def _events(path: Path) -> Iterator[tuple[tuple[str, str | None, str | None], datetime, str, bool] | None]:
    """Yield completed writes: object (without a name for a whole collection), time, user, deletion or not. None for a bad line."""
    with path.open("rb") as lines:
        for line in lines:
            if b'"ResponseComplete"' not in line:
                continue  # most of the log is other stages and reads, which are not worth parsing
            try:
                event = json.loads(line)
                verb = event["verb"]
                if verb not in _WRITES and verb not in _DELETIONS:
                    continue
                about = event.get("objectRef") or {}
                if event["responseStatus"]["code"] >= 300 or about.get("subresource"):
                    continue
                at, resource = moment(event["stageTimestamp"]), about["resource"]
                namespace = about.get("namespace") if resource != "namespaces" else about.get("name")
                # A request on a whole collection, and one that creates an object by `generateName`, has no name.
                place = (f"{about.get('apiGroup', '')}/{resource}", namespace, about.get("name"))
                yield None if at is None else (place, at, event["user"]["username"], verb in _DELETIONS)
            except (ValueError, KeyError, TypeError, AttributeError):
                yield None

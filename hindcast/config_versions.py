"""`hindcast config history`: shows every version of one object."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import pyarrow as pa
import typer

from hindcast.config_history import ClustersOption, RecordedOption
from hindcast.console import ConfigOption, LakeOption
from hindcast.output import FileOption, Format, OutputOption, write_rows
from hindcast.query_options import AsOption, GroupOption, moment, open_door, principal
from warehouse.errors import HindcastError

if TYPE_CHECKING:
    from pipelines.configuration.differences import Row

_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_TIME = pa.timestamp("us", tz="UTC")
_HISTORY = pa.schema(
    [
        ("cluster", pa.string()),
        ("valid_from", _TIME),
        ("valid_to", _TIME),
        ("valid_from_source", pa.string()),
        ("changed_by", pa.string()),
        ("ended_how", pa.string()),
        ("ended_by", pa.string()),
        ("changed", pa.list_(pa.string())),
        ("hash", pa.string()),
        ("uid", pa.string()),
        ("recorded", _TIME),
    ]
)


class _NotThereError(HindcastError):
    """There is no record of the requested object."""


def history(
    kind: Annotated[str, typer.Argument(help="Kind, e.g. CiliumNetworkPolicy or cnp.")],
    name: Annotated[str, typer.Argument(help="NAMESPACE/NAME, or NAME for a cluster-scoped object.")],
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    cluster: ClustersOption = None,
    since: Annotated[str | None, typer.Option("--since", help="Only versions in force since then: an age or a time.")] = None,
    recorded: RecordedOption = None,
    user: AsOption = None,
    group: GroupOption = None,
    output: OutputOption = Format.TABLE,
    file: FileOption = None,
) -> None:
    """Show every version of an object: when it was in force, who made it, and what changed."""
    from pipelines.configuration import kinds
    from pipelines.configuration.differences import compare_manifests
    from warehouse.engine import Window
    from warehouse.questions.record_questions import Configuration
    from warehouse.schema import CONFIG_COVERAGE

    now = datetime.now(UTC)
    door, who = open_door(config_path, lake_url, "config history"), principal(user, group)
    kind_name = kinds.named(kind)
    namespace, _, short = name.rpartition("/") if kind_name != "Namespace" else (name, "", name)
    begin = moment(since, "--since", now=now) if since else _LONG_AGO
    question = Configuration(
        window=Window(since=begin, until=now + timedelta(days=1)),
        tables=(kinds.TABLE_OF[kind_name],),
        clusters=tuple(cluster or ()),
        kinds=(kind_name,),
        namespaces=(namespace,) if namespace else (),
        names=(short,),
        recorded=moment(recorded, "--recorded", now=now) if recorded else None,
    )
    found = door.answer(who, question)
    rows: list[Row] = [row for row in found.rows.to_pylist() if (row["namespace"] or "") == namespace]
    if not rows:
        hint = "" if door.clusters(who, of=CONFIG_COVERAGE) else ": no cluster has been read yet, run hindcast config snapshot"
        raise _NotThereError(f"no {kind_name} {name} is recorded" + (f" of cluster {', '.join(cluster)}" if cluster else "") + hint)
    told = []
    before: Row | None = None
    for row in rows:
        same = before is not None and before["cluster"] == row["cluster"]
        changes = list(compare_manifests(json.loads(before["manifest"]), json.loads(row["manifest"]))) if same and before else []
        told.append(
            {
                **{column: row[column] for column in _HISTORY.names if column in row},
                "hash": row["hash"][:12],
                "changed": [change.path for change in changes] if same else ["first seen"],
            }
        )
        before = row
    write_rows(pa.Table.from_pylist(told, schema=_HISTORY), output, file)

"""Removes labels from the columns that auditors read (see warehouse.access.rules). Pure.

An auditor who also owns a namespace may read the labels of that namespace; the caller decides for which rows and sides.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from warehouse.access import rules
from warehouse.access.rules import Reveals
from warehouse.schema import Table

HIDDEN = "(labels are hidden)"
"""Replaces labels and label selectors in an object."""
_KEYS = re.compile(r"(^|[.\[])([a-z]*labels?|[a-z]*selectors?|[a-z]*matchexpressions|annotations)($|[.\[\]])", re.IGNORECASE)
"""Matches a key, or a path into an object, below which there are labels. Annotations often repeat the whole object as text."""
_BELOW_LABELS = r"(?i)((?:labels?|selectors?|matchexpressions|annotations))[.\[][^\s,;]*"
_LABEL = r"[\w./:-]+=[\w.-]+"
"""Matches a label, or anything that looks like one, in text written by users."""


def without_labels(table: Table, column: str) -> str:
    """Return the SQL for a column without its labels."""
    reveals, quoted = rules.rule_of(table, column).reveals, f'"{column}"'
    if reveals is Reveals.POLICIES:
        fields = "name := p.name, namespace := p.namespace, labels := NULL::VARCHAR[], revision := p.revision, kind := p.kind"
        return f"list_transform({quoted}, lambda p: struct_pack({fields}))"
    if reveals is Reveals.PATHS:
        cut = f"regexp_replace({{}}, '{_BELOW_LABELS}', '\\1', 'g')"
        if pa.types.is_list(table.schema.field(column).type):
            return f"list_transform({quoted}, lambda p: {cut.format('p')})"
        return cut.format(quoted)
    if reveals is Reveals.ASKED:
        return f"regexp_replace({quoted}, '{_LABEL}', '{HIDDEN}', 'g')"
    return "NULL"


def stripped(table: Table, rows: pa.Table, is_own: Callable[[Mapping[str, Any]], bool]) -> pa.Table:
    """Return the rows of a table without labels, except for rows the auditor owns. Other parts of objects are retained."""
    stripped_rows = rows.to_pylist()
    columns = [name for name in rows.column_names if rules.rule_of(table, name).reveals in rules.WITH_LABELS]
    for row in stripped_rows:
        if not is_own(row):
            for name in columns:
                row[name] = _stripped(rules.rule_of(table, name).reveals, row[name])
    return pa.Table.from_pylist(stripped_rows, schema=rows.schema)


def _stripped(reveals: Reveals, value: Any) -> Any:
    if value is None:
        return None
    if reveals is Reveals.PATHS:
        return [_cut(one) for one in value] if isinstance(value, list) else _cut(value)
    if reveals is Reveals.ASKED and not str(value).startswith("{"):
        return re.sub(_LABEL, HIDDEN, value)
    if reveals not in (Reveals.OBJECT, Reveals.ASKED):
        return None
    try:
        return json.dumps(_object(json.loads(value)), sort_keys=True)
    except ValueError:
        return None  # without valid JSON it is impossible to tell where labels are


def _object(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: HIDDEN if _KEYS.search(key) else _object(one) for key, one in value.items()}
    return [_object(one) for one in value] if isinstance(value, list) else value


def _cut(text: str) -> str:
    return re.sub(_BELOW_LABELS, r"\1", text)

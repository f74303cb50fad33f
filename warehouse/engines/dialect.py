"""What differs between engines: turns SQL written for DuckDB into SQL that Spark Connect servers run with the same result. Pure.

sqlglot does most of the translation. This module adds what it does not know, makes explicit what only DuckDB abbreviates (stars,
GROUP BY ALL, QUALIFY), and refuses any function of which it is not known that it means the same in both engines. A statement is
translated as a whole or not at all, so that no condition of a scope can be lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import sqlglot
from sqlglot import exp, transforms
from sqlglot.dialects.spark import Spark
from sqlglot.errors import ErrorLevel, SqlglotError
from sqlglot.optimizer.qualify import qualify

from warehouse.engine import MOST_LIMIT
from warehouse.engines import patterns
from warehouse.errors import QueryError
from warehouse.schema import Table

Columns = Mapping[str, Sequence[str]]
"""The columns of each relation that a statement may name."""
_FIRST_BUCKET_US = 946_857_600_000_000
"""The Monday at which DuckDB's buckets of time begin: 3 January 2000, in microseconds since 1970."""

_RENAMED = {
    "MAKE_TIMESTAMPTZ": "timestamp_micros",
    "EPOCH_US": "unix_micros",
    "ERROR": "raise_error",
}
"""Functions that have another name."""
_SAME = frozenset({"timestamp_micros", "unix_micros", "raise_error", "xxhash64", "named_struct", "pmod"})
"""Functions that this module writes, and that Spark understands."""
_KNOWN = (
    exp.And, exp.Or, exp.Case, exp.If, exp.Coalesce, exp.Cast, exp.TryCast, exp.Greatest, exp.Least,
    exp.Array, exp.ArrayContains, exp.ArrayFilter, exp.ArrayMin, exp.ArrayOverlaps, exp.ArraySize, exp.ArraySort,
    exp.ArrayToString, exp.Explode, exp.Transform,
    exp.Count, exp.Exists, exp.Max, exp.Min, exp.Sum, exp.AnyValue, exp.DenseRank, exp.RowNumber,
    exp.Chr, exp.ConcatWs, exp.Contains, exp.Lower, exp.MD5, exp.Left, exp.SplitPart, exp.StartsWith, exp.Trim,
)  # fmt: skip
"""Functions that sqlglot translates, and that mean the same in both: regular expressions do if `patterns` knows them."""
_OPTIONS: Mapping[type[exp.Expr], Mapping[str, str]] = {
    exp.RegexpLike: {},
    exp.RegexpExtract: {"group": "1"},
    exp.RegexpReplace: {"replacement": "", "modifiers": "g"},
}
"""The functions that take a regular expression, and with which options they mean the same."""
_PATTERNS = tuple(_OPTIONS)


class _Spark(Spark):
    """Spark's SQL as every Spark Connect server reads it: Sail takes IS NOT DISTINCT FROM for something else."""

    class Generator(Spark.Generator):  # type: ignore[misc, valid-type]
        TRANSFORMS: ClassVar[dict[Any, Any]] = {
            **Spark.Generator.TRANSFORMS,
            exp.NullSafeEQ: lambda self, node: self.binary(node, "<=>"),
            exp.NullSafeNEQ: lambda self, node: f"NOT ({self.binary(node, '<=>')})",
            exp.ArrayOverlaps: lambda self, node: self.func("arrays_overlap", node.this, node.expression),
        }


def translated(sql: str, columns: Columns) -> str:
    """Return a query for Spark with the same rows; each `?` becomes `:p0`, `:p1` and so on, in the order of the text.

    `columns` names every relation that the query may read. Raises QueryError if it cannot be translated faithfully.
    """
    try:
        tree = sqlglot.parse_one(_numbered(sql), dialect="duckdb")
        schema: dict[str, object] = {name: dict.fromkeys(names, "string") for name, names in columns.items()}
        tree = qualify(tree, schema=schema, dialect="duckdb", validate_qualify_columns=True, quote_identifiers=True)
        _refuse_unnamed(tree, columns)
        for select in list(tree.find_all(exp.Select)):
            _spell_out_groups(select)
            _drop_order(select)
        for together in reversed(list(tree.find_all(exp.SetOperation))):
            _spell_out_names(together)
        for limit in list(tree.find_all(exp.Limit)):
            if isinstance(limit.expression, exp.Literal) and int(limit.expression.name) > MOST_LIMIT:
                limit.pop()
        for cte in tree.find_all(exp.CTE):
            cte.set("materialized", None)
        tree = _each(_each(tree, _function), lambda node: transforms.eliminate_qualify(node) if isinstance(node, exp.Select) else node)
        _refuse_unknown(tree)
        return tree.sql(_Spark, unsupported_level=ErrorLevel.RAISE)
    except SqlglotError as error:
        raise QueryError(f"the engine cannot answer this: its SQL cannot be translated ({str(error).splitlines()[0]})") from error


def definition(sql: str) -> tuple[str, str, bool] | None:
    """Return the name, the query and whether it is a table, of a statement that creates a temporary table or view; None for others."""
    words = sql.split(None, 1)
    if not words or words[0].upper() != "CREATE":
        return None
    tree = sqlglot.parse_one(sql, dialect="duckdb")
    if not isinstance(tree, exp.Create) or tree.expression is None:
        raise QueryError("the engine creates nothing but temporary tables and views of queries")
    return tree.this.name, tree.expression.sql("duckdb"), tree.kind == "TABLE"


def _numbered(sql: str) -> str:
    """Return the text with `:p0`, `:p1`, ... in place of each `?`."""
    parts: list[str] = []
    end = number = 0
    for token in sqlglot.tokenize(sql, read="duckdb"):
        if token.token_type.name == "PLACEHOLDER":
            parts += [sql[end : token.start], f":p{number}"]
            end, number = token.end + 1, number + 1
    return "".join(parts) + sql[end:]


def _each(tree: exp.Expr, change: Callable[[exp.Expr], exp.Expr]) -> exp.Expr:
    """Return the tree with each node changed, the innermost first."""
    for node in reversed(list(tree.walk())):
        changed = change(node)
        if changed is not node:
            if node is tree:
                tree = changed
            else:
                node.replace(changed)
    return tree


def _spell_out_groups(select: exp.Select) -> None:
    """Name the columns of GROUP BY ALL: all that are not aggregates."""
    group = select.args.get("group")
    if group is None or not group.args.get("all"):
        return
    keys = [column.unalias() for column in select.expressions if not _aggregates(column)]
    select.set("group", exp.Group(expressions=[key.copy() for key in keys if not isinstance(key, exp.Literal | exp.Null)]))


def _aggregates(column: exp.Expr) -> bool:
    """Whether a column of a query contains an aggregate that is not computed over a window."""
    for found in column.find_all(exp.AggFunc):
        around = found.parent
        while isinstance(around, exp.Filter | exp.Order | exp.WithinGroup):
            around = around.parent
        if not isinstance(around, exp.Window):
            return True
    return False


def _spell_out_names(together: exp.SetOperation) -> None:
    """Give both queries of UNION ALL BY NAME the same columns in the same order; null where one has none."""
    if not together.args.get("by_name"):
        return
    names = list(dict.fromkeys([*together.left.named_selects, *together.right.named_selects]))
    for side in ("this", "expression"):
        query = together.args[side]
        has = set(query.named_selects)
        columns = [exp.column(name, table="named", quoted=True) if name in has else exp.null().as_(name, quoted=True) for name in names]
        together.set(side, exp.select(*columns).from_(query.copy().subquery("named")))
    together.set("by_name", False)


def _drop_order(select: exp.Select) -> None:
    """Drop the order of a subquery without limit, which no engine promises to keep."""
    if select.args.get("order") is not None and select.args.get("qualify") is not None:
        raise QueryError("the engine cannot answer this: it does not keep an order together with QUALIFY")
    if select.args.get("order") is not None and select.args.get("limit") is None and select.parent is not None:
        select.set("order", None)


def _function(node: exp.Expr) -> exp.Expr:
    """Return the Spark form of a function call; other nodes are returned as they are."""
    if isinstance(node, exp.ArgMin):  # DuckDB ignores rows where either is null; the value decides between equal keys
        value, key = node.this, node.expression
        both = exp.and_(*(exp.not_(exp.Is(this=one.copy(), expression=exp.Null())) for one in (value, key)))
        pair = _call("named_struct", exp.Literal.string("key"), key.copy(), exp.Literal.string("value"), value.copy())
        least = exp.Filter(this=exp.Min(this=pair), expression=exp.Where(this=both))
        return exp.Dot(this=exp.Paren(this=least), expression=exp.to_identifier("value", quoted=True))
    if isinstance(node, exp.Window) and isinstance(node.this, exp.Filter):  # Sail has no FILTER over a window
        total, condition = node.this.this, node.this.expression.this
        total.set("this", exp.Case(ifs=[exp.If(this=condition, true=total.this)]))
        node.set("this", total)
        return node
    if isinstance(node, exp.DateBin):
        return _bucket(node)
    if isinstance(node, _PATTERNS) and isinstance(node.expression, exp.Literal):
        # A removal makes an owner's own names no evidence that a peer is to be hidden: where fewer match, more is hidden.
        pattern = patterns.portable(node.expression.name, boundaries=isinstance(node, exp.RegexpReplace))
        node.set("expression", exp.Literal.string(pattern))
        return node
    if not isinstance(node, exp.Anonymous):
        return node
    name, given = node.name.upper(), node.expressions
    if name in _RENAMED:
        return _call(_RENAMED[name], *given)
    if name == "HASH":  # a single value is its own key; Spark's hash of several differs, but only within one statement
        only: exp.Expr = given[0]
        if len(given) == 1:
            return only
        # Spark's hash passes over null, so that ('a', null) and (null, 'a') would be the same.
        return _call("xxhash64", *(exp.Coalesce(this=exp.cast(one, "string"), expressions=[exp.Literal.string("\x01")]) for one in given))
    return node


def _bucket(node: exp.DateBin) -> exp.Expr:
    """Return the start of the bucket of a time."""
    epoch = _call("timestamp_micros", exp.Literal.number(0))
    width = _call("unix_micros", exp.Add(this=epoch, expression=node.this))
    moment = _call("unix_micros", node.expression)
    since = exp.Paren(this=exp.Sub(this=moment, expression=exp.Literal.number(_FIRST_BUCKET_US)))
    return _call("timestamp_micros", exp.Sub(this=moment.copy(), expression=_call("pmod", since, width)))


def _call(name: str, *arguments: exp.Expr) -> exp.Anonymous:
    return exp.Anonymous(this=name, expressions=list(arguments))


def _refuse_unnamed(tree: exp.Expr, columns: Columns) -> None:
    """Raise QueryError for a relation that the connection has not been given."""
    named = {*columns, *(cte.alias for cte in tree.find_all(exp.CTE))}
    for table in tree.find_all(exp.Table):
        if table.name not in named:
            raise QueryError(f"the engine cannot answer this: it has no relation {table.name or table.sql('duckdb')}")


def _refuse_unknown(tree: exp.Expr) -> None:
    """Raise QueryError for a function that is not known to mean the same."""
    for call in tree.find_all(exp.Func):
        if not _is_known(call):
            name = call.name if isinstance(call, exp.Anonymous) else call.sql_name()
            raise QueryError(f"the engine cannot answer this: it may take {name.lower()} for something else")


def _is_known(call: exp.Func) -> bool:
    if isinstance(call, exp.Anonymous):
        return call.name in _SAME
    if isinstance(call, exp.ArrayAgg):  # Spark leaves out nulls and loses the order; lists of distinct values here have neither
        return isinstance(call.this, exp.Distinct)
    if isinstance(call, _PATTERNS):
        has = {name: value.name for name, value in call.args.items() if isinstance(value, exp.Literal)}
        more = {
            name: has.get(name) for name, value in call.args.items() if isinstance(value, exp.Expr) and name not in ("this", "expression")
        }
        return "expression" in has and more == _OPTIONS[type(call)]
    return isinstance(call, _KNOWN)


def with_constants(table: Table, values: Mapping[str, str]) -> list[str]:
    """Return the Spark expressions for all columns of a table, of which some have the same value in every row."""
    types = {name: "DATE" if name == "date" else "STRING" for name in values}
    return [
        f"CAST({exp.Literal.string(values[name]).sql(_Spark)} AS {types[name]}) AS `{name}`" if name in values else f"`{name}`"
        for name in table.schema.names
    ]


def value_of(value: Any) -> Any:
    """Return a parameter's value as Spark takes it: tuples become lists."""
    return list(value) if isinstance(value, tuple) else value

"""A query in DuckDB's dialect put into Spark's words, or refused where Spark would answer otherwise.

sqlglot writes the text; it raises nothing where Spark lacks a function, or has another one under the same name, and it leaves out in
silence what it cannot say. So only what was tried on both engines passes (`tests/spark/` holds the trial): a kind of node with the
parts that were tried, and operands whose types meet alike. Everything else is named with its line and a remedy. No Spark is needed for
that. Differences that can be said away are: division, case of letters, rounding down and up, averages, counts, QUALIFY.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import sqlglot
from pyiceberg.schema import Schema
from sqlglot import ErrorLevel, exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.optimizer.annotate_types import TypeAnnotator, annotate_types
from sqlglot.optimizer.qualify import qualify

from platform_resources.engines.spark import RESERVED
from platform_resources.engines.sql import parse_query
from platform_resources.engines.tracing import function_name
from platform_resources.engines.types import duck_type
from platform_resources.errors import PlatformError, Problem

CODE = "sql-not-portable"

_INTEGERS = frozenset({exp.DataType.Type.TINYINT, exp.DataType.Type.SMALLINT, exp.DataType.Type.INT, exp.DataType.Type.BIGINT})
_FLOATS = frozenset({exp.DataType.Type.FLOAT, exp.DataType.Type.DOUBLE})
_TEXTS = frozenset({exp.DataType.Type.VARCHAR, exp.DataType.Type.TEXT, exp.DataType.Type.CHAR, exp.DataType.Type.NCHAR})
_ZONED = frozenset({exp.DataType.Type.TIMESTAMPTZ})
_BYTES = frozenset({exp.DataType.Type.BINARY, exp.DataType.Type.VARBINARY})
_LISTS = frozenset({exp.DataType.Type.ARRAY, exp.DataType.Type.LIST})
_UNORDERED = "It gives another value from run to run unless the rows are ordered: use min, max, or a row_number() with an ORDER BY."

_KNOWN: Mapping[type[exp.Expr], frozenset[str]] = {
    kind: frozenset(parts.split())
    for parts, kinds in {
        # the shape of a query
        "with_ expressions distinct from_ joins where group having qualify order limit offset": (exp.Select,),
        "with_ this expression distinct order limit offset": (exp.Union, exp.Except, exp.Intersect),
        "this on using side kind method": (exp.Join,),
        "this db alias": (exp.Table,),
        "this alias": (exp.Subquery, exp.CTE, exp.Alias),
        "this columns": (exp.TableAlias,),
        "this table": (exp.Column,),
        "this quoted": (exp.Identifier,),
        "this is_string": (exp.Literal,),
        "this desc nulls_first": (exp.Ordered,),
        "expressions all": (exp.Group,),
        "expressions alias": (exp.Unnest,),
        "expressions": (exp.With, exp.Order, exp.Distinct, exp.Struct, exp.Tuple),
        "expression": (exp.Limit, exp.Offset),
        "this partition_by order spec over": (exp.Window,),
        "kind start start_side end end_side": (exp.WindowSpec,),
        "this expressions nested": (exp.DataType,),
        "this kind": (exp.ColumnDef,),
        "this unit": (exp.Interval, exp.TimestampTrunc, exp.DateTrunc),
        "": (exp.Star, exp.Null, exp.RowNumber, exp.Rank, exp.DenseRank),
        # of one part: clauses, operators, values, aggregates and windows
        "this": (
            exp.From, exp.Where, exp.Having, exp.Qualify, exp.Paren, exp.Boolean, exp.DataTypeParam, exp.Var, exp.Exists, exp.Not, exp.Neg,
            exp.Abs, exp.Floor, exp.Ceil, exp.Lower, exp.Length, exp.MD5,
            exp.Year, exp.Month, exp.Day, exp.Hour, exp.Minute, exp.Second, exp.Quarter, exp.DayOfYear, exp.WeekOfYear, exp.LastDay,
            exp.Sum, exp.Avg, exp.Min, exp.Max, exp.CountIf, exp.LogicalAnd, exp.LogicalOr, exp.FirstValue, exp.LastValue, exp.Ntile,
        ),
        # of two
        "this expression": (
            exp.And, exp.Or, exp.Is, exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.NullSafeEQ, exp.NullSafeNEQ,
            exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv, exp.Mod, exp.Escape, exp.Filter, exp.Dot, exp.PropertyEQ, exp.Nullif,
            exp.StartsWith, exp.EndsWith, exp.Contains, exp.Left, exp.Right, exp.Extract, exp.RegexpLike,
        ),
        # of more
        "this ifs default": (exp.Case,), "this true false": (exp.If,), "this low high": (exp.Between,), "this to": (exp.Cast,),
        "this expression safe": (exp.DPipe,), "this expression negate": (exp.Like,), "this expressions query": (exp.In,),
        "this expressions": (exp.Coalesce,), "this expressions ignore_nulls": (exp.Greatest, exp.Least),
        "this expression replacement": (exp.Replace,), "this substr": (exp.StrPosition,), "expressions safe coalesce": (exp.Concat,),
        "this start length": (exp.Substring,), "this position": (exp.Trim,), "this decimals": (exp.Round,), "this format": (exp.TimeToStr,),
        "this expression replacement modifiers single_replace": (exp.RegexpReplace,),
        "this expression unit date_part_boundary": (exp.DateDiff,),
        "this big_int": (exp.Count,), "this offset default": (exp.Lag, exp.Lead),
    }.items()
    for kind in kinds
}  # fmt: skip
"""The clauses, operators and functions that both engines take alike, nulls, time zone UTC and Unicode included, each with the parts that
were tried; one that has a part beyond these is refused."""

Kind: TypeAlias = Any
"""A type in sqlglot's words: a member of its enumeration `DataType.Type`, which type checkers do not see as one."""
_Fault = tuple[str, str]
"""What is different, and the remedy."""


def _kind(node: exp.Expr | None) -> Kind | None:
    """The type of an expression as far as sqlglot can tell."""
    kind = node.type.this if node is not None and node.type is not None else None
    return None if kind in (exp.DataType.Type.UNKNOWN, exp.DataType.Type.VARIANT) else kind


def _divides(node: exp.Expr) -> _Fault | None:
    """A division by zero is infinite, null or an error, by engine and type: the divisor must not be one."""
    divisor = node.expression.unnest()
    if exp.DataType.Type.FLOAT in (_kind(node.this), _kind(divisor)):
        return "a float (32 bits) is divided as a float in DuckDB", "Cast the float to double."
    if isinstance(divisor, exp.Nullif):
        return None
    try:
        if isinstance(divisor, exp.Literal) and not divisor.is_string and float(divisor.this) != 0:
            return None
    except ValueError:
        pass
    return "dividing by zero is infinite or null in DuckDB and an error in Spark", f"Divide by nullif({divisor.sql('duckdb')}, 0)."


def _whole_division(node: exp.Expr) -> _Fault | None:
    if isinstance(node, exp.IntDiv) and not {_kind(node.this), _kind(node.expression.unnest())} <= {*_INTEGERS, None}:
        return "// of anything but integers differs", "Write floor(a / b), or cast both sides to bigint."
    return _divides(node)


def _casts(node: exp.Expr) -> _Fault | None:  # noqa: PLR0911 - one return per difference
    to, source = node.args["to"].this, _kind(node.this)
    exact = _INTEGERS | _TEXTS | {exp.DataType.Type.BOOLEAN, exp.DataType.Type.NULL}
    shown = node.this.sql("duckdb")
    if isinstance(node, exp.TryCast):
        return "TRY_CAST takes other texts for numbers and times", "Test the text first, and use CAST."
    if to in _INTEGERS and not _is_whole(node.this) and source not in exact:
        if source is None:
            return f"the type of {shown} cannot be told, and a cast to an integer rounds in DuckDB and cuts in Spark", _told(shown)
        return "a cast to an integer rounds in DuckDB and cuts in Spark", f"Say which: CAST(floor({shown}) AS BIGINT), or round."
    if to in _TEXTS:
        return _written(node.this)
    if to == exp.DataType.Type.DECIMAL and source in _FLOATS | {None}:
        return "a double becomes a decimal by another rounding", "Compute in decimals, or cast to double."
    if to in _KNOWN_TARGETS:
        return None
    return f"a cast to {node.args['to'].sql('duckdb')} is not known to be alike", "Cast to a type that contracts have."


def _is_whole(node: exp.Expr) -> bool:
    """Whether a number has no fraction whatever its type."""
    if isinstance(node, exp.Paren | exp.Neg):
        return _is_whole(node.this)
    if isinstance(node, exp.Mul | exp.Add | exp.Sub):
        return _is_whole(node.left) and _is_whole(node.right)
    return _kind(node) in _INTEGERS or (isinstance(node, exp.Floor | exp.Ceil | exp.Round) and node.args.get("decimals") is None)


def _written(value: exp.Expr) -> _Fault | None:
    """A value that becomes a text."""
    kind, shown = _kind(value), value.sql("duckdb")
    if isinstance(value.unnest(), exp.Null):
        return None
    if kind is None:
        return f"the type of {shown} cannot be told, and not every type is written as text alike", _told(shown)
    if kind in _FLOATS | _ZONED | _LISTS | _NESTED | _BYTES:
        return f"{shown} is written as text in another form", "Cast what the text is to hold: a decimal, a date, a timestamp."
    return None


def _joins_texts(node: exp.Expr) -> _Fault | None:
    return _written(node.this) or _written(node.expression)


_NESTED = frozenset({exp.DataType.Type.STRUCT, exp.DataType.Type.MAP, exp.DataType.Type.JSON})
_KNOWN_TARGETS = (
    _INTEGERS
    | _FLOATS
    | _TEXTS
    | _ZONED
    | {
        exp.DataType.Type.DECIMAL, exp.DataType.Type.DATE, exp.DataType.Type.TIMESTAMP, exp.DataType.Type.TIMESTAMPNTZ,
        exp.DataType.Type.BOOLEAN,
    }
)  # fmt: skip


def _told(shown: str) -> str:
    return f"Cast {shown} to its type first."


def _rounds_up_or_down(node: exp.Expr) -> _Fault | None:
    if _kind(node.this) not in _FLOATS | _INTEGERS | {exp.DataType.Type.DECIMAL}:
        return "the type of the argument cannot be told", _told(node.this.sql("duckdb"))
    return None


def _rounds(node: exp.Expr) -> _Fault | None:
    if node.args.get("decimals") is not None and _kind(node.this) != exp.DataType.Type.DECIMAL:
        return "rounding a double to digits differs in the last of them", "Round a decimal: round(CAST(x AS DECIMAL(18, 4)), 2)."
    return None


def _substring(node: exp.Expr) -> _Fault | None:
    for name in ("start", "expression") if not isinstance(node, exp.Substring) else ("start", "length"):
        given = node.args.get(name)
        if given is not None and not (isinstance(given, exp.Literal) and given.this.isdigit() and (name != "start" or int(given.this) > 0)):
            return "positions that are zero or negative count otherwise", "Give whole numbers, positions from 1."
    return None


def _indexes(node: exp.Expr) -> _Fault | None:
    kind = _kind(node.this)
    if kind == exp.DataType.Type.STRUCT:
        return "a struct is not indexed in Spark", "Name the field: s.name."
    if kind == exp.DataType.Type.MAP:
        return "a missing key is an error in Spark", "Keep the map out of the query, or use a function in Python."
    if kind in _TEXTS:
        return "a text is not indexed in Spark", "Write substring(s, 1, 1)."
    return "an index past the end of a list is null in DuckDB and an error in Spark", "Unnest the list, or use a function in Python."


def _adds(node: exp.Expr) -> _Fault | None:
    """Numbers are alike; with dates and times only an interval is."""
    kinds = [_kind(node.this), _kind(node.expression)]
    numbers = _INTEGERS | _FLOATS | {exp.DataType.Type.DECIMAL, exp.DataType.Type.NULL}
    if isinstance(node.expression, exp.Interval) or set(kinds) <= numbers:
        return _interval(kinds[0]) if isinstance(node.expression, exp.Interval) else None
    if None in kinds:
        side = node.this if kinds[0] is None else node.expression
        return f"the type of {side.sql('duckdb')} cannot be told, and dates add up otherwise", _told(side.sql("duckdb"))
    return "dates and times add up and subtract to other types", "Add an INTERVAL, or use date_diff('day', a, b)."


def _interval(kind: Kind | None) -> _Fault | None:
    if kind == exp.DataType.Type.DATE:
        return "a date and an interval are a timestamp in DuckDB and a date in Spark", "Cast the date to timestamp first."
    return None


def _differs(node: exp.Expr) -> _Fault | None:
    unit = str(node.args.get("unit") or "day").strip("'").lower()
    kinds = {_kind(node.this), _kind(node.expression)}
    if unit == "day" and kinds <= {exp.DataType.Type.DATE}:
        return None
    return "date_diff counts boundaries in DuckDB and whole units in Spark", "Use date_diff('day', a, b) of two dates."


def _truncates(node: exp.Expr) -> _Fault | None:
    unit = str(node.args.get("unit") or "").strip("'").lower()
    if unit not in ("year", "quarter", "month", "week", "day", "hour", "minute", "second"):
        return f"date_trunc to {unit} is not known to be alike", "Truncate to a year, quarter, month, week, day, hour, minute or second."
    return None


def _extracts(node: exp.Expr) -> _Fault | None:
    part = str(node.this).lower()
    if part in ("year", "quarter", "month", "day", "hour", "minute"):
        return None
    return f"extract({part}) has another value or type", "Extract a year, quarter, month, day, hour or minute."


_SAFE_PATTERN = re.compile(r"(?:[\w \-/:,;#@%&=<>~'\"!]|\\[.dw/+*?()|\[\]{}\-]|[\^*+?|()]|\[\^?[\w \-/:.]+\]|\{\d+(,\d*)?\})*")


def _matches(node: exp.Expr) -> _Fault | None:
    pattern = node.expression
    literal = isinstance(pattern, exp.Literal) and pattern.is_string and _SAFE_PATTERN.fullmatch(pattern.this) and "(?" not in pattern.this
    if not literal:
        return (
            "the engines' regular expressions differ in ., $, \\b, \\s, classes and flags",
            "Use LIKE, or a literal pattern without these.",
        )
    if isinstance(node, exp.RegexpReplace):
        modifiers = node.args.get("modifiers")
        if modifiers is None or modifiers.this != "g" or re.search(r"[\\$]", node.args["replacement"].this):
            return "regexp_replace replaces the first match in DuckDB and all in Spark", "Give 'g' as the fourth argument."
        if re.match(pattern.this, ""):
            return "matches of no letter at all stand at other places", "Give a pattern that matches a letter at least: a+ instead of a*."
    return None


def _of_text(node: exp.Expr) -> _Fault | None:
    """Functions that both a text and a list may be given to, and that differ for a list."""
    for given in (node.this, *node.expressions):
        if isinstance(given, exp.Expr) and _kind(given) not in _TEXTS | {exp.DataType.Type.NULL}:
            shown = given.sql("duckdb")
            return (
                f"it is alike for texts only, and {shown} is a list or cannot be told",
                f"Unnest a list; cast {shown} to varchar if it is one.",
            )
    return None


def _likens(node: exp.Expr) -> _Fault | None:
    pattern = node.expression
    escaped = isinstance(node.parent, exp.Escape)
    if isinstance(pattern, exp.Literal) and pattern.is_string and (escaped or "\\" not in pattern.this):
        return None
    return "a backslash in a pattern escapes in Spark and is a letter in DuckDB", "Give a literal pattern, with ESCAPE where one is needed."


def _orders(node: exp.Expr) -> _Fault | None:
    values = (node.this, *(node.args.get(name) for name in ("expression", "low", "high")), *node.expressions)
    if any(_kind(value) in _LISTS | _NESTED for value in values):
        return "nulls inside of lists and structs are compared and ordered otherwise", "Compare and order by their fields."
    return None


def _pairs(node: exp.Expr) -> _Fault | None:
    if isinstance(node.parent, exp.Distinct) and isinstance(node.parent.parent, exp.Count):
        return None
    return "tuples are compared and ordered otherwise", "Write one comparison for each column, or one column after the other."


def _explodes(node: exp.Expr) -> _Fault | None:
    return "rows made by unnest() in SELECT stand otherwise in Spark", "Put it into FROM: CROSS JOIN unnest(l) AS u(x)."


def _latest(node: exp.Expr) -> _Fault | None:
    return "rows whose value is null count in Spark and do not in DuckDB", "Use row_number() OVER (... ORDER BY ... DESC NULLS LAST) = 1."


def _any(node: exp.Expr) -> _Fault | None:
    return "it takes any row", _UNORDERED


def _collects(node: exp.Expr) -> _Fault | None:
    return "Spark leaves nulls out and keeps no order", "Aggregate to numbers, texts or times, or use a function in Python."


def _unnests(node: exp.Expr) -> _Fault | None:
    join, alias = node.parent, node.args.get("alias")
    if (
        not isinstance(join, exp.Join)
        or alias is None
        or len(alias.columns) != 1
        or not isinstance(node.expressions[0], exp.Column | exp.Dot)
    ):
        return "lists unnest otherwise than column by column", "Write CROSS JOIN unnest(l) AS u(x), with l a column."
    if join.side:
        return "rows without elements are lost in Spark", "Use CROSS JOIN unnest(l) AS u(x), and UNION ALL the rows without elements."
    if join.args.get("on") or join.args.get("using") or join.kind not in ("", "CROSS"):
        return "the condition of the join is lost in Spark", "Use CROSS JOIN unnest(l) AS u(x), and WHERE."
    joins = join.parent.args["joins"] if join.parent else []
    if not all(isinstance(later.this, exp.Unnest) for later in joins[joins.index(join) :]):
        return "Spark unnests after all joins", "Unnest last, or in a subquery."
    if len(node.expressions) != 1 or node.args.get("offset"):
        return "several lists, or positions, unnest otherwise", "Unnest one list, without ordinality."
    return None


def _contains(node: exp.Expr) -> _Fault | None:
    if node.args.get("field") is not None or node.args.get("unnest") is not None:
        return "whether a list holds a value is null in Spark where the list has a null", "Unnest the list."
    if node.args.get("query") is not None and not _is_conjunct(node):
        return "IN (SELECT ...) as a value is false in Spark where it is null", "Say it as a condition of WHERE of its own, or by a join."
    return _orders(node)


def _is_conjunct(node: exp.Expr) -> bool:
    """Whether a condition, or its contrary, is one of those that WHERE asks to hold all."""
    parent = node.parent
    while isinstance(parent, exp.Paren | exp.Not):
        parent = parent.parent
    while isinstance(parent, exp.Paren | exp.And):
        parent = parent.parent
    return isinstance(parent, exp.Where) and isinstance(parent.parent, exp.Select)


def _selects(node: exp.Expr) -> _Fault | None:
    """QUALIFY is said by a subquery, which what is done after it would come before."""
    if node.args.get("qualify") and any(node.args.get(name) for name in ("distinct", "limit", "offset")):
        return "DISTINCT and LIMIT beside QUALIFY come before it in Spark", "Put the query with QUALIFY into a subquery."
    return None


def _joins(node: exp.Expr) -> _Fault | None:
    method, kind = node.args.get("method") or "", node.args.get("kind") or ""
    if method not in ("", "NATURAL") or kind not in ("", "INNER", "OUTER", "CROSS", "SEMI", "ANTI"):
        return f"Spark has no {method or kind} JOIN", "Join on a condition; number the rows for a position."
    return None


def _names_columns(node: exp.Expr) -> _Fault | None:
    if node.args.get("columns") and isinstance(node.parent, exp.Table):
        return "columns of a product are not named anew in Spark", "Name them in a subquery: (SELECT id AS a FROM ...) AS q."
    return None


_RANKS = (exp.RowNumber, exp.Rank, exp.DenseRank, exp.Ntile, exp.Lag, exp.Lead, exp.FirstValue, exp.LastValue)


def _windows(node: exp.Expr) -> _Fault | None:
    if isinstance(node.this, exp.Filter) or node.this.find(exp.Distinct):
        return "Spark has neither FILTER nor DISTINCT over a window", "Write CASE inside, or aggregate in a subquery."
    if isinstance(node.this, _RANKS) and not node.args.get("order"):
        return "rows without an order have another number in each run", "Give the window an ORDER BY."
    return None


def _frames(node: exp.Expr) -> _Fault | None:
    if str(node.args.get("kind")).upper() not in ("ROWS", "RANGE"):
        return "Spark has no frame of GROUPS", "Use ROWS or RANGE."
    return None


def _distinguishes(node: exp.Expr) -> _Fault | None:
    parent = node.parent
    if isinstance(parent, exp.Avg) and not {_kind(value) for value in node.expressions} <= _INTEGERS | _FLOATS:
        return "the average of distinct decimals is rounded", "Average over SELECT DISTINCT in a subquery."
    if not isinstance(parent, exp.Select | exp.Count | exp.Sum | exp.Avg | exp.Min | exp.Max):
        return "DISTINCT here is not known to be alike", "Aggregate over SELECT DISTINCT in a subquery."
    return None


_SPAN = re.compile(r"-?\d+|(?:year|month|week|day|hour|minute|second|millisecond|microsecond)s?", re.IGNORECASE)


def _spans(node: exp.Expr) -> _Fault | None:
    """A length of time, added to a time or bounding a frame."""
    words = f"{node.this.name} {node.args.get('unit') or ''}".split() if isinstance(node.this, exp.Literal) else [""]
    if not all(_SPAN.fullmatch(word) for word in words):
        return "Spark takes whole years to microseconds in a literal", "Write INTERVAL 3 MONTH, or date_trunc."
    if not isinstance(node.parent, exp.Add | exp.Sub | exp.WindowSpec):
        return "an interval is a value of another kind", "Add it to a timestamp."
    return None


_COMPARISONS = (exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.NullSafeEQ, exp.NullSafeNEQ)
_MEETING = (
    *_COMPARISONS, exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv, exp.Mod, exp.Between, exp.Coalesce, exp.Nullif, exp.Greatest, exp.Least,
    exp.Lag, exp.Lead,
)  # fmt: skip


def _meeting(node: exp.Expr) -> Iterator[list[exp.Expr | None]]:
    """The values that an engine brings to one type, those of one type together."""
    if isinstance(node, exp.SetOperation):
        yield from ([one.unalias(), other.unalias()] for one, other in zip(node.this.selects, node.expression.selects, strict=False))
    elif isinstance(node, exp.Case):
        yield [node.args.get("default"), *(branch.args["true"] for branch in node.args["ifs"])]
        yield [node.this, *(branch.this for branch in node.args["ifs"])] if node.this else []
    elif isinstance(node, exp.If) and not isinstance(node.parent, exp.Case):
        yield [node.args["true"], node.args.get("false")]
    elif isinstance(node, exp.In):
        query = node.args.get("query")
        yield [node.this, *node.expressions, *(one.unalias() for one in (query.unnest().selects if query else ()))]
    elif isinstance(node, _MEETING):
        yield [node.this, *(node.args.get(name) for name in ("expression", "low", "high", "default")), *node.expressions]


def _meets(node: exp.Expr) -> _Fault | None:
    """Values of several types that come together: each engine has its own way of bringing some of them to one.

    Asked when all else is known: types can be told only of what is.
    """
    for given in _meeting(node):
        values = [value for value in given if value is not None and not isinstance(value.unnest(), exp.Null)]
        kinds = {_kind(value) for value in values}
        unknown = next((value.sql("duckdb") for value in values if _kind(value) is None), "")
        if unknown and len(values) > 1:
            return f"the type of {unknown} cannot be told, and types come together otherwise", _told(unknown)
        if exp.DataType.Type.FLOAT in kinds and not kinds <= _FLOATS:
            return "a float (32 bits) meets other numbers as a float in DuckDB and as a double in Spark", "Cast the float to double."
        if kinds & (_NESTED | _LISTS) and len({value.type.sql() for value in values if value.type}) > 1:
            return "lists and structs of several types become one in another way", "Give them the same fields of the same types."
        literal = not isinstance(node, exp.SetOperation) and all(
            isinstance(value.unnest(), exp.Literal) for value in values if _kind(value) in _TEXTS
        )
        if kinds & _TEXTS and not kinds <= _TEXTS and not literal:
            return "a text meets other values as a text in DuckDB and as a number in Spark", "Cast one of them."
    return None


def _writes_time(node: exp.Expr) -> _Fault | None:
    form = node.args.get("format")
    if isinstance(form, exp.Literal) and re.fullmatch(r"(?:%[YmdHMS]|[\-:/ ._])*", form.this):
        return None
    return "its format may be written otherwise", "Use %Y, %m, %d, %H, %M and %S alone, in a literal."


def _samples(node: exp.Expr) -> _Fault | None:
    return "a sample is another one in each run", "Choose rows by a condition on their columns."


def _reads(node: exp.Expr) -> _Fault | None:
    if node.name not in RESERVED:
        return None
    return "Iceberg keeps that name for itself there and gives no such column", "Read another column, or let the product run on DuckDB."


_RULES: Mapping[type[exp.Expr], Callable[[exp.Expr], _Fault | None]] = {
    exp.Div: _divides, exp.IntDiv: _whole_division, exp.Mod: _divides, exp.Cast: _casts, exp.TryCast: _casts,
    exp.Floor: _rounds_up_or_down, exp.Ceil: _rounds_up_or_down, exp.Round: _rounds, exp.Substring: _substring, exp.Left: _substring,
    exp.Right: _substring, exp.Bracket: _indexes, exp.Add: _adds, exp.Sub: _adds, exp.DateDiff: _differs, exp.TimestampTrunc: _truncates,
    exp.DateTrunc: _truncates, exp.Extract: _extracts, exp.RegexpLike: _matches, exp.RegexpReplace: _matches,
    exp.Length: _of_text, exp.Contains: _of_text, exp.Concat: _of_text, exp.DPipe: _joins_texts, exp.Like: _likens,
    **dict.fromkeys((*_COMPARISONS, exp.Between, exp.Greatest, exp.Least, exp.Nullif, exp.Case, exp.Ordered, exp.Min, exp.Max), _orders),
    exp.Tuple: _pairs, exp.Explode: _explodes, exp.ArgMax: _latest, exp.ArgMin: _latest,
    exp.AnyValue: _any, exp.First: _any, exp.Last: _any, exp.ArrayAgg: _collects, exp.GroupConcat: _collects, exp.Unnest: _unnests,
    exp.TableSample: _samples, exp.In: _contains, exp.TimeToStr: _writes_time, exp.Select: _selects, exp.Join: _joins,
    exp.TableAlias: _names_columns, exp.Window: _windows, exp.WindowSpec: _frames, exp.Distinct: _distinguishes, exp.Interval: _spans,
    exp.Column: _reads,
}  # fmt: skip
_REMEDIES: Mapping[str, str] = {
    "quantile_cont": "Compute it in Python, or let the product run on DuckDB.",
    "time_bucket": "Use date_trunc.",
    "hash": "Use md5(), which is the same everywhere; Spark's hash() is another function.",
    "epoch_ms": "Store the timestamp itself.",
    "upper": "Use lower(): letters such as ß have another upper case in Spark.",
    "ilike": "Use lower(x) LIKE '...'.",
    "median": "Compute it in Python, or let the product run on DuckDB.",
    "sqrt": "Compute it in Python: of a negative number it is an error in DuckDB and NaN in Spark.",
    "reverse": "Compute it in Python: DuckDB keeps letters and their accents together, Spark does not.",
    "distinct on": "It keeps whichever row comes first: use row_number() and QUALIFY.",
    "with recursive": "Unroll it, or use a function in Python.",
    "window alias": "Write the window out where it is used.",
    "select windows": "Write the window out where it is used.",
    "union by_name": "Name the columns of both sides, in one order.",
    "isnan": "Compare with the value that the product means.",
}
_KEEP = "Say it by functions that both engines have (docs/transforms.md), or let the product run on DuckDB."


def portability_problems(text: str, schemas: Mapping[str, Schema], file: str) -> list[Problem]:
    """What keeps a query from being run on Spark, each with its line; [] for one that gives the same rows there.

    Args:
        text: the query, which DuckDB has accepted.
        schemas: the inputs' columns by `domain.product`.
        file: as problems show it.
    """
    tree = parse_query(text, file=file)
    try:
        analysed = _analysed(tree, schemas)
        problems = dict.fromkeys(_problems(analysed, file, _fault)) or dict.fromkeys(_problems(analysed, file, _meets))
        if not problems:
            _spark_text(analysed, {})
    except Exception as error:  # noqa: BLE001 - sqlglot raises many kinds; whatever it cannot analyse or say is not known to be alike
        said = str(error).strip().split("\n", maxsplit=1)[0].rstrip(".") or type(error).__name__
        return [Problem(file, 1, CODE, f"The query cannot be said in Spark's words: {said}.", "Write it in plainer SQL.")]
    for token in sqlglot.tokenize(text, read="duckdb"):
        if token.text == "~":  # sqlglot reads it as regexp_matches, which it is not
            said = "Spark answers ~ otherwise than DuckDB: it matches a part of the text there, the whole here."
            problems[Problem(file, token.line, CODE, said, "Use LIKE, or regexp_matches(), which finds a part in both.")] = None
    return sorted(problems)


def to_spark(text: str, names: Mapping[str, str], schemas: Mapping[str, Schema], *, file: str = "") -> str:
    """The query in Spark's words, its inputs by the names given for `domain.product`.

    Raises:
        PlatformError: `sql-not-portable` with the first reason.
    """
    problems = portability_problems(text, schemas, file)
    if problems:
        first = problems[0]
        raise PlatformError(CODE, first.message, first.remedy, file=first.file, line=first.line)
    return _spark_text(_analysed(parse_query(text, file=file), schemas), names)


def _spark_text(analysed: exp.Expr, names: Mapping[str, str]) -> str:
    """A query without problems as Spark's text; what sqlglot knows to be lost on the way it raises as an `UnsupportedError`."""
    tree = _all_said_alike(analysed)
    for table in list(tree.find_all(exp.Table)):
        name = names.get(f"{table.db}.{table.name}") if table.db else None
        if name is not None:
            alias = table.alias or table.name
            table.replace(exp.alias_(exp.to_table(name), alias, table=True, quoted=True))
    return str(tree.sql(dialect="spark", identify=True, comments=False, unsupported_level=ErrorLevel.RAISE))


def _problems(tree: exp.Expr, file: str, judge: Callable[[exp.Expr], _Fault | None]) -> Iterator[Problem]:
    line = 1
    for node in tree.walk():
        line = int(next((inner.meta["line"] for inner in node.walk() if inner.meta.get("line")), line))
        fault = judge(node)
        if fault is not None:
            said, remedy = fault
            yield Problem(file, line, CODE, f"Spark answers {_shown(node)} otherwise than DuckDB: {said}.", remedy)


def _fault(node: exp.Expr) -> _Fault | None:
    rule = _RULES.get(type(node))
    return (rule(node) if rule is not None else None) or _unknown(node)


def _unknown(node: exp.Expr) -> _Fault | None:
    name = (function_name(node) if isinstance(node, exp.Func) else type(node).key).lower()
    known = _KNOWN.get(type(node))
    if known is None:
        return "it is not among what is known to be alike", _REMEDIES.get(name, _KEEP)
    for part, value in node.args.items():
        if part not in known and value not in (None, False, []):
            return f"its {part.strip('_')} is not among what is known to be alike", _REMEDIES.get(f"{name} {part}", _KEEP)
    return None


def _shown(node: exp.Expr) -> str:
    text = node.sql("duckdb").replace("\n", " ")
    return text if len(text) <= 60 else f"{text[:57]}..."


_CAPITALS, _SMALL = "İΣ", "iσ"
"""Letters whose small one Spark takes from the letters around. All others are alike, but for the 27 that came with Unicode 16."""
_SPACES = " \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
"""What DuckDB trims: Unicode's space separators (category Zs). Spark trims the first of them alone."""


def _all_said_alike(tree: exp.Expr) -> exp.Expr:
    """The query so that Spark gives what DuckDB gives; from the leaves up, so that what stands inside of a said node is said, too."""
    for node in reversed(list(tree.walk())):
        said = _said_alike(node)
        if said is not node:
            said.type = node.type
            tree = said if node is tree else tree
            node.replace(said)
    return tree


def _said_alike(node: exp.Expr) -> exp.Expr:  # noqa: PLR0911 - one return per difference
    """One node so that Spark gives what DuckDB gives."""
    double = "DOUBLE"
    if isinstance(node, exp.Div):  # DuckDB divides as doubles whatever the types; Spark has a scale of its own for decimals
        return exp.Div(this=exp.cast(node.this, double), expression=exp.cast(node.expression, double), typed=True, safe=False)
    if isinstance(node, exp.Avg):
        return exp.Avg(this=exp.cast(node.this, double)) if not isinstance(node.this, exp.Distinct) else node
    if isinstance(node, exp.CountIf):  # of no rows null in DuckDB, 0 in Spark
        return exp.Sum(this=exp.If(this=node.this.copy(), true=exp.Literal.number(1), false=exp.Literal.number(0)))
    if isinstance(node, exp.Lower):
        return exp.Lower(this=exp.func("TRANSLATE", node.this, exp.Literal.string(_CAPITALS), exp.Literal.string(_SMALL)))
    if isinstance(node, exp.Trim):
        return exp.Trim(this=node.this, expression=exp.Literal.string(_SPACES), position=node.args.get("position") or "BOTH")
    if isinstance(node, exp.Floor | exp.Ceil) and _kind(node.this) in _FLOATS:  # a long in Spark, a double in DuckDB
        return exp.cast(node, double)
    if isinstance(node, exp.Select) and node.args.get("qualify"):
        return _qualified_by_subquery(node)
    return node


def _qualified_by_subquery(select: exp.Select) -> exp.Select:
    """QUALIFY as a column of a subquery, where its names mean what they mean in QUALIFY; sqlglot's own way takes aliases for columns."""
    inner = select.copy()
    inner.select(exp.alias_(inner.args["qualify"].this, _KEPT), copy=False).set("qualify", None)
    columns = (exp.column(name, quoted=True) for name in select.named_selects)
    return exp.select(*columns).from_(inner.subquery("__all")).where(exp.column(_KEPT))


_KEPT = "__kept"


def _annotate_literal(annotator: TypeAnnotator, node: exp.Expr) -> exp.Expr:
    """1.5 is a decimal, 1.5e0 a double; sqlglot takes both for doubles."""
    annotated: exp.Expr = DuckDB.EXPRESSION_METADATA[exp.Literal]["annotator"](annotator, node)
    if not node.is_string and re.fullmatch(r"\d*\.\d*", node.this):
        annotated.type = exp.DataType(
            this=exp.DataType.Type.DECIMAL,
            expressions=[
                exp.DataTypeParam(this=exp.Literal.number(size)) for size in (len(node.this) - 1, len(node.this.partition(".")[2]))
            ],
        )
    return annotated


def _annotate_rounding(annotator: TypeAnnotator, node: exp.Expr) -> exp.Expr:
    """A decimal rounds to a decimal."""
    annotated: exp.Expr = DuckDB.EXPRESSION_METADATA[type(node)]["annotator"](annotator, node)
    if _kind(node.this) == exp.DataType.Type.DECIMAL:
        annotated.type = node.this.type
    return annotated


_TYPES: dict[type[exp.Expr], Any] = {
    **DuckDB.EXPRESSION_METADATA,
    exp.Literal: {"annotator": _annotate_literal},
    **{kind: {"annotator": _annotate_rounding} for kind in (exp.Floor, exp.Ceil)},
    **{kind: {"returns": exp.DataType.Type.VARCHAR} for kind in (exp.Left, exp.Right, exp.Replace, exp.RegexpReplace)},
}
"""How sqlglot tells the type of an expression, more exactly."""


def _analysed(tree: exp.Query, schemas: Mapping[str, Schema]) -> exp.Expr:
    """A copy with every column qualified and every expression's type, as far as it can be told."""
    mapping: dict[str, Any] = {}
    for identifier, schema in schemas.items():
        domain, _, product = identifier.partition(".")
        mapping.setdefault(domain, {})[product] = {field.name: duck_type(field.field_type) for field in schema.fields}
    qualified = qualify(
        tree.copy(), schema=mapping, dialect="duckdb", validate_qualify_columns=False, quote_identifiers=False, identify=False
    )
    return annotate_types(qualified, schema=mapping, expression_metadata=_TYPES, dialect="duckdb")


def spark_quoted(name: str) -> str:
    """An identifier in Spark's SQL."""
    return "`" + name.replace("`", "``") + "`"

"""A query in DuckDB's dialect put into Spark's words, or refused where Spark would answer otherwise.

sqlglot writes the text; it raises nothing where Spark lacks a function, or has another one under the same name. So only what was
tried on both engines passes (`tests/spark/` holds the trial), everything else is named with its line and a remedy. No Spark is
needed for that. Differences that can be said away are: division, case of letters, rounding down and up, averages.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import sqlglot
from pyiceberg.schema import Schema
from sqlglot import ErrorLevel, exp
from sqlglot.optimizer.annotate_types import annotate_types
from sqlglot.optimizer.qualify import qualify

from platform_resources.engines.sql import parse_query
from platform_resources.engines.tracing import function_name
from platform_resources.engines.types import duck_type
from platform_resources.errors import PlatformError, Problem

CODE = "sql-not-portable"

_INTEGERS = frozenset({exp.DataType.Type.TINYINT, exp.DataType.Type.SMALLINT, exp.DataType.Type.INT, exp.DataType.Type.BIGINT})
_FLOATS = frozenset({exp.DataType.Type.FLOAT, exp.DataType.Type.DOUBLE})
_TEXTS = frozenset({exp.DataType.Type.VARCHAR, exp.DataType.Type.TEXT, exp.DataType.Type.CHAR, exp.DataType.Type.NCHAR})
_ZONED = frozenset({exp.DataType.Type.TIMESTAMPTZ})
_LISTS = frozenset({exp.DataType.Type.ARRAY, exp.DataType.Type.LIST})
_UNORDERED = "It gives another value from run to run unless the rows are ordered: use min, max, or a row_number() with an ORDER BY."

# Clauses, operators and functions that both engines take alike, nulls, time zone UTC and Unicode included.
_ALIKE: frozenset[type[exp.Expr]] = frozenset(
    {
        # the shape of a query
        exp.Select, exp.From, exp.Join, exp.Where, exp.Group, exp.Having, exp.Order, exp.Ordered, exp.Limit, exp.Offset, exp.Qualify,
        exp.With, exp.CTE, exp.TableAlias, exp.Alias, exp.Column, exp.Identifier, exp.Star, exp.Subquery, exp.Union, exp.Except,
        exp.Intersect, exp.Distinct, exp.Table, exp.Paren, exp.Tuple, exp.Literal, exp.Null, exp.Boolean, exp.Window, exp.WindowSpec,
        exp.Filter, exp.Dot, exp.DataType, exp.DataTypeParam, exp.ColumnDef, exp.Var, exp.Exists, exp.Interval, exp.Struct, exp.PropertyEQ,
        # operators
        exp.Case, exp.If, exp.And, exp.Or, exp.Not, exp.Is, exp.Between, exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE,
        exp.NullSafeEQ, exp.NullSafeNEQ, exp.Neg, exp.Mul, exp.DPipe, exp.Escape,
        # values
        exp.Coalesce, exp.Nullif, exp.Greatest, exp.Least, exp.Abs,
        exp.Replace, exp.StartsWith, exp.EndsWith, exp.StrPosition,
        exp.Year, exp.Month, exp.Day, exp.Hour, exp.Minute, exp.Second, exp.Quarter, exp.DayOfYear, exp.WeekOfYear, exp.LastDay, exp.MD5,
        # aggregates and windows
        exp.Count, exp.Sum, exp.Avg, exp.CountIf, exp.LogicalAnd, exp.LogicalOr,
        exp.RowNumber, exp.Rank, exp.DenseRank, exp.Lag, exp.Lead, exp.FirstValue, exp.LastValue, exp.Ntile,
    }
)  # fmt: skip

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
    shown = node.this.sql("duckdb")
    if isinstance(node, exp.TryCast):
        return "TRY_CAST takes other texts for numbers and times", "Test the text first, and use CAST."
    whole = isinstance(node.this, exp.Floor | exp.Ceil | exp.Round) and node.this.args.get("decimals") is None
    if to in _INTEGERS and not whole and source not in _INTEGERS | _TEXTS | {exp.DataType.Type.BOOLEAN, exp.DataType.Type.NULL}:
        if source is None:
            return f"the type of {shown} cannot be told, and a cast to an integer rounds in DuckDB and cuts in Spark", _told(shown)
        return "a cast to an integer rounds in DuckDB and cuts in Spark", f"Say which: CAST(floor({shown}) AS BIGINT), or round."
    if to in _TEXTS and (source in _FLOATS | _ZONED | _LISTS or source in _NESTED):
        return "this type is written as text in another form", "Cast what the text is to hold: a decimal, a date, a timestamp."
    if to in _TEXTS and source is None:
        return f"the type of {shown} cannot be told, and not every type is written as text alike", _told(shown)
    if to == exp.DataType.Type.DECIMAL and source in _FLOATS | {None}:
        return "a double becomes a decimal by another rounding", "Compute in decimals, or cast to double."
    if to in _KNOWN_TARGETS:
        return None
    return f"a cast to {node.args['to'].sql('duckdb')} is not known to be alike", "Cast to a type that contracts have."


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
    if node.args.get("decimals") is not None:
        return "Spark has no second argument here", "Scale, round and scale back."
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


_SAFE_PATTERN = re.compile(r"(?:[\w \-/:,;#@%&=<>~'\"!]|\\[.dw/+*?()|\[\]{}\-]|[\^*+?.|()]|\[\^?[\w \-/:.]+\]|\{\d+(,\d*)?\})*")


def _matches(node: exp.Expr) -> _Fault | None:
    pattern = node.expression
    literal = isinstance(pattern, exp.Literal) and pattern.is_string and _SAFE_PATTERN.fullmatch(pattern.this) and "(?" not in pattern.this
    if not literal:
        return "the engines' regular expressions differ in $, \\b, \\s, classes and flags", "Use LIKE, or a literal pattern without these."
    if isinstance(node, exp.RegexpReplace):
        modifiers = node.args.get("modifiers")
        if modifiers is None or modifiers.this != "g" or re.search(r"[\\$]", node.args["replacement"].this):
            return "regexp_replace replaces the first match in DuckDB and all in Spark", "Give 'g' as the fourth argument."
    elif node.args.get("flag") is not None or node.args.get("parameters") is not None:
        return "flags of regular expressions differ", "Leave the flags out."
    return None


def _trims(node: exp.Expr) -> _Fault | None:
    if node.args.get("expression") is not None:
        return "trimming of given letters is written otherwise", "Trim spaces only."
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
    if _kind(node.this) in _LISTS | _NESTED:
        return "nulls inside of lists and structs have another order", "Take the extreme of a plain column."
    return None


def _explodes(node: exp.Expr) -> _Fault | None:
    return "rows made by unnest() in SELECT stand otherwise in Spark", "Put it into FROM: CROSS JOIN unnest(l) AS u(x)."


def _latest(node: exp.Expr) -> _Fault | None:
    if node.args.get("count") is not None:
        return "Spark has no third argument here", "Use row_number() and QUALIFY."
    return "rows whose value is null count in Spark and do not in DuckDB", "Use row_number() OVER (... ORDER BY ... DESC NULLS LAST) = 1."


def _any(node: exp.Expr) -> _Fault | None:
    return "it takes any row", _UNORDERED


def _collects(node: exp.Expr) -> _Fault | None:
    return "Spark leaves nulls out and keeps no order", "Aggregate to numbers, texts or times, or use a function in Python."


def _unnests(node: exp.Expr) -> _Fault | None:
    join = node.find_ancestor(exp.Join)
    if join is not None and join.side:
        return "rows without elements are lost in Spark", "Use CROSS JOIN unnest(l) AS u(x), and UNION ALL the rows without elements."
    if len(node.expressions) != 1 or node.args.get("offset"):
        return "several lists, or positions, unnest otherwise", "Unnest one list, without ordinality."
    return None


def _contains(node: exp.Expr) -> _Fault | None:
    if node.args.get("field") is not None or node.args.get("unnest") is not None:
        return "whether a list holds a value is null in Spark where the list has a null", "Unnest the list."
    return None


def _writes_time(node: exp.Expr) -> _Fault | None:
    form = node.args.get("format")
    if isinstance(form, exp.Literal) and re.fullmatch(r"(?:%[YmdHMS]|[\-:/ ._])*", form.this):
        return None
    return "its format may be written otherwise", "Use %Y, %m, %d, %H, %M and %S alone, in a literal."


def _samples(node: exp.Expr) -> _Fault | None:
    return "a sample is another one in each run", "Choose rows by a condition on their columns."


_RULES: Mapping[type[exp.Expr], Callable[[exp.Expr], _Fault | None]] = {
    exp.Div: _divides, exp.IntDiv: _whole_division, exp.Mod: _divides, exp.Cast: _casts, exp.TryCast: _casts,
    exp.Floor: _rounds_up_or_down, exp.Ceil: _rounds_up_or_down, exp.Round: _rounds, exp.Substring: _substring, exp.Left: _substring,
    exp.Right: _substring, exp.Bracket: _indexes, exp.Add: _adds, exp.Sub: _adds, exp.DateDiff: _differs, exp.TimestampTrunc: _truncates,
    exp.DateTrunc: _truncates, exp.Extract: _extracts, exp.RegexpLike: _matches, exp.RegexpReplace: _matches,
    exp.Trim: _trims, exp.Length: _of_text, exp.Contains: _of_text, exp.Concat: _of_text, exp.Like: _likens, exp.Min: _orders,
    exp.Max: _orders, exp.Lower: lambda _: None, exp.Explode: _explodes, exp.ArgMax: _latest, exp.ArgMin: _latest,
    exp.AnyValue: _any, exp.First: _any, exp.Last: _any, exp.ArrayAgg: _collects, exp.GroupConcat: _collects, exp.Unnest: _unnests,
    exp.TableSample: _samples, exp.In: _contains, exp.TimeToStr: _writes_time,
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
    except Exception as error:  # noqa: BLE001 - sqlglot raises many kinds; whatever it cannot analyse is not known to be alike
        said = str(error).strip().split("\n", maxsplit=1)[0] or type(error).__name__
        return [Problem(file, 1, CODE, f"The query cannot be analysed for Spark: {said}.", "Write it in plainer SQL.")]
    problems = dict.fromkeys(_problems(analysed, file))
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
    tree = _analysed(parse_query(text, file=file), schemas).transform(_said_alike)
    for table in list(tree.find_all(exp.Table)):
        name = names.get(f"{table.db}.{table.name}") if table.db else None
        if name is not None:
            alias = table.alias or table.name
            table.replace(exp.alias_(exp.to_table(name), alias, table=True, quoted=True))
    return str(tree.sql(dialect="spark", comments=False, unsupported_level=ErrorLevel.IGNORE))


def _problems(tree: exp.Expr, file: str) -> Iterator[Problem]:
    line = 1
    for node in tree.walk():
        line = int(next((inner.meta["line"] for inner in node.walk() if inner.meta.get("line")), line))
        fault = _fault(node)
        if fault is not None:
            said, remedy = fault
            yield Problem(file, line, CODE, f"Spark answers {_shown(node)} otherwise than DuckDB: {said}.", remedy)


def _fault(node: exp.Expr) -> _Fault | None:
    if isinstance(node, exp.Select) and _distinct_on(node):
        return "it keeps whichever row comes first", "Use row_number() and QUALIFY."
    rule = _RULES.get(type(node))
    if rule is not None:
        return rule(node)
    if type(node) in _ALIKE:
        return _recursive(node)
    name = function_name(node) if isinstance(node, exp.Func) else type(node).key
    return "it is not among what is known to be alike", _REMEDIES.get(name.lower(), _KEEP)


def _distinct_on(node: exp.Select) -> bool:
    distinct = node.args.get("distinct")
    return distinct is not None and distinct.args.get("on") is not None


def _recursive(node: exp.Expr) -> _Fault | None:
    if isinstance(node, exp.With) and node.args.get("recursive"):
        return "recursion is bounded in Spark", "Unroll it, or use a function in Python."
    if isinstance(node, exp.Group) and any(node.args.get(name) for name in ("rollup", "cube", "grouping_sets")):
        return "grouping sets are not known to be alike", "Write one query for each grouping, and UNION ALL."
    return None


def _shown(node: exp.Expr) -> str:
    text = node.sql("duckdb").replace("\n", " ")
    return text if len(text) <= 60 else f"{text[:57]}..."


_CAPITALS, _SMALL = "İΣ", "iσ"
"""Letters whose small one Spark takes from the letters around. All others are alike, but for the 27 that came with Unicode 16."""
_SPACES = " \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
"""What DuckDB trims: Unicode's space separators (category Zs). Spark trims the first of them alone."""


def _said_alike(node: exp.Expr) -> exp.Expr:
    """One node so that Spark gives what DuckDB gives."""
    double = "DOUBLE"
    if isinstance(node, exp.Div):  # DuckDB divides as doubles whatever the types; Spark has a scale of its own for decimals
        return exp.Div(this=exp.cast(node.this, double), expression=exp.cast(node.expression, double), typed=True, safe=False)
    if isinstance(node, exp.Avg):
        return exp.Avg(this=exp.cast(node.this, double)) if not isinstance(node.this, exp.Distinct) else node
    if isinstance(node, exp.Lower):
        return exp.Lower(this=exp.func("TRANSLATE", node.this, exp.Literal.string(_CAPITALS), exp.Literal.string(_SMALL)))
    if isinstance(node, exp.Trim):
        return exp.Trim(this=node.this, expression=exp.Literal.string(_SPACES), position=node.args.get("position") or "BOTH")
    if isinstance(node, exp.Floor | exp.Ceil) and _kind(node.this) in _FLOATS:  # a long in Spark, a double in DuckDB
        return exp.cast(node, double)
    return node


def _analysed(tree: exp.Query, schemas: Mapping[str, Schema]) -> exp.Expr:
    """A copy with every column qualified and every expression's type, as far as it can be told."""
    mapping: dict[str, Any] = {}
    for identifier, schema in schemas.items():
        domain, _, product = identifier.partition(".")
        mapping.setdefault(domain, {})[product] = {field.name: duck_type(field.field_type) for field in schema.fields}
    qualified = qualify(
        tree.copy(), schema=mapping, dialect="duckdb", validate_qualify_columns=False, quote_identifiers=False, identify=False
    )
    return annotate_types(qualified, schema=mapping, dialect="duckdb")


def spark_quoted(name: str) -> str:
    """An identifier in Spark's SQL."""
    return "`" + name.replace("`", "``") + "`"

"""Quality rules as SQL text: DuckDB expressions that measure, and the verdict on what was measured. Runs nothing."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from platform_resources.contracts.model import Check

_OBJECT = re.compile(r"\$?\{\s*(?:object|table|model|schema)\s*\}")
_MISSING: tuple[Any, ...] = (None, "")


def quoted(path: str) -> str:
    """A dotted column path as SQL: `"meta"."dt"`."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in path.split("."))


def literal(value: Any) -> str:
    """A Python value as a SQL literal."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int | float | Decimal):
        return str(value)
    text = value.isoformat() if isinstance(value, dt.date | dt.datetime) else str(value)
    return "'" + text.replace("'", "''") + "'"


def predicate_sql(check: Check) -> str:
    """SQL boolean of a null, missing or invalid check: true means the row is bad, never NULL. Columns quoted, nested ones dotted.

    A null is bad to nullValues, to missingValues unless its list omits null, and never to invalidValues.
    """
    column = quoted(check.column or "")
    if check.metric == "nullValues":
        return f"({column} IS NULL)"
    if check.metric == "missingValues":
        words = check.arguments.get("missingValues", _MISSING)
        terms = [f"{column} IS NULL"] if None in words else []
        terms += [f"coalesce({term}, FALSE)" for term in [among_sql(column, words)] if term]
        return "(" + (" OR ".join(terms) or "FALSE") + ")"
    if check.metric == "invalidValues":
        return "(" + (" OR ".join(_invalid(check.arguments, column)) or "FALSE") + ")"
    raise ValueError(f"{check.metric} has no row-wise predicate")


def _invalid(arguments: Mapping[str, Any], column: str) -> list[str]:
    text = f"CAST({column} AS VARCHAR)"
    terms = []
    if "validValues" in arguments:
        among = among_sql(column, arguments["validValues"])
        terms.append(f"NOT ({among})" if among else f"{column} IS NOT NULL")
    bounds = {"minimum": f"{column} <", "maximum": f"{column} >", "minLength": f"length({text}) <", "maxLength": f"length({text}) >"}
    terms += [f"{bounds[word]} {literal(arguments[word])}" for word in bounds if word in arguments]
    if "pattern" in arguments:  # like JSON Schema: found anywhere unless anchored
        terms.append(f"NOT regexp_matches({text}, {literal(arguments['pattern'])})")
    return [f"coalesce({term}, FALSE)" for term in terms]


def among_sql(column: str, words: Iterable[Any]) -> str:
    """SQL that a value is one of some words, NULL for a null; numbers compare by value, all else by its text. "" without a word."""
    numbers = [literal(word) for word in words if isinstance(word, int | float) and not isinstance(word, bool)]
    texts = [literal(str(word).lower() if isinstance(word, bool) else word) for word in words if isinstance(word, str | bool)]
    terms = [f"{column} IN ({', '.join(numbers)})"] if numbers else []
    terms += [f"CAST({column} AS VARCHAR) IN ({', '.join(texts)})"] if texts else []
    return " OR ".join(terms)


def aggregate_sql(check: Check) -> str:
    """One SELECT-list expression with the measured number, so that all checks of one scope run in one scan.

    rowCount: rows; null, missing, invalid: bad rows; duplicateValues: rows beyond the first of each value (nulls are no duplicates);
    sql: the rule's query as a scalar subquery, in which `{object}` still stands for the rows (`query_over` replaces it).
    """
    if check.metric == "rowCount":
        return "count(*)"
    if check.metric == "sql":
        return f"({check.query})"
    if check.metric == "duplicateValues":
        columns = [quoted(column) for column in check.columns]
        value = columns[0] if len(columns) == 1 else f"struct_pack({', '.join(f'k{i} := {c}' for i, c in enumerate(columns))})"
        present = " AND ".join(f"{column} IS NOT NULL" for column in columns)
        return f"(count(*) FILTER (WHERE {present}) - count(DISTINCT {value}) FILTER (WHERE {present}))"
    return f"count(*) FILTER (WHERE {predicate_sql(check)})"


def query_over(check: Check, relation: str) -> str:
    """The query of a sql check with `{object}` replaced by a relation (a name, or a parenthesised query)."""
    return _OBJECT.sub(lambda _: relation, check.query or "")


def measurement_sql(checks: tuple[Check, ...], relation: str) -> str:
    """One SELECT over a relation that measures many checks: column `rows`, then one column per check in order (`c0`, `c1`, ...)."""
    parts = ["count(*) AS rows"]
    for index, check in enumerate(checks):
        expression = f"({query_over(check, relation)})" if check.metric == "sql" else aggregate_sql(check)
        parts.append(f"{expression} AS c{index}")
    return f"SELECT {', '.join(parts)} FROM {relation}"  # noqa: S608 - the contract's own text


_VERDICTS: Mapping[str, Callable[[float, tuple[float, ...]], bool]] = {
    "mustBe": lambda value, bounds: value == bounds[0],
    "mustNotBe": lambda value, bounds: value != bounds[0],
    "mustBeGreaterThan": lambda value, bounds: value > bounds[0],
    "mustBeGreaterOrEqualTo": lambda value, bounds: value >= bounds[0],
    "mustBeLessThan": lambda value, bounds: value < bounds[0],
    "mustBeLessOrEqualTo": lambda value, bounds: value <= bounds[0],
    "mustBeBetween": lambda value, bounds: bounds[0] <= value <= bounds[1],
    "mustNotBeBetween": lambda value, bounds: not bounds[0] <= value <= bounds[1],
}


def passes(check: Check, measured: float, rows: int) -> bool:
    """Whether a measured number keeps the rule; with unit percent it is taken as a share of `rows` (no rows: 0 percent)."""
    value = measured if check.unit == "rows" else (100.0 * measured / rows if rows else 0.0)
    return _VERDICTS[check.operator](value, check.threshold)


def expectation(check: Check) -> str:
    """What the rule asks, in words: `nullValues of page_id must be 0 rows`."""
    words = re.sub(r"(?<!^)([A-Z])", lambda match: " " + match[1].lower(), check.operator)
    bounds = " and ".join(f"{bound:g}" for bound in check.threshold)
    unit = "" if check.metric == "sql" else f" {'percent' if check.unit == 'percent' else 'rows'}"
    subject = f" of {', '.join(check.columns)}" if check.columns else ""
    return f"{check.metric}{subject} {words} {bounds}{unit}"

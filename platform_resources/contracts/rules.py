"""Read `quality[]` into checks: names, thresholds, severity, scope, and arguments that fit the columns they speak of."""

from __future__ import annotations

import datetime as dt
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from pyiceberg.types import BinaryType, FixedType

from platform_resources.contracts.custom import read_custom
from platform_resources.contracts.findings import Findings, a, did_you_mean, show
from platform_resources.contracts.model import Check, Column, Scope
from platform_resources.contracts.yaml_source import DocumentPath

OPERATORS = (
    "mustBe", "mustNotBe", "mustBeGreaterThan", "mustBeGreaterOrEqualTo", "mustBeLessThan", "mustBeLessOrEqualTo", "mustBeBetween",
    "mustNotBeBetween",
)  # fmt: skip
SEVERITIES = ("error", "warning")
CHECK_NAME = re.compile(r"[A-Za-z0-9_]+")
BETWEEN = ("mustBeBetween", "mustNotBeBetween")

ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "rowCount": (),
    "nullValues": (),
    "missingValues": ("missingValues",),
    "invalidValues": ("validValues", "pattern", "minimum", "maximum", "minLength", "maxLength"),
    "duplicateValues": ("properties",),
    "sql": (),
}


class RuleReader:
    """Reads the rules of one contract; `is_stream` and `default_scope` decide what scope a rule without one has."""

    def __init__(self, columns: Mapping[str, Column], *, is_stream: bool, default_scope: Scope, findings: Findings) -> None:
        self.columns, self.is_stream, self.default_scope, self.findings = columns, is_stream, default_scope, findings
        self._names: dict[str, int] = {}

    def read(self, rules: Iterable[Mapping[str, Any]], path: DocumentPath, column: str | None = None) -> list[Check]:
        """The checks of one `quality` list; `column` is the dotted path it stands on, None for the table's."""
        checks = []
        for index, rule in enumerate(rules):
            check = self._check(rule, (*path, index), column)
            if check is not None:
                checks.append(check)
        return checks

    def _check(self, rule: Mapping[str, Any], path: DocumentPath, column: str | None) -> Check | None:
        kind = rule.get("type", "library")
        if kind == "text":
            return None  # words for people, nothing to run
        if kind == "custom":
            self.findings.error(
                "contract-check-unsupported",
                path,
                f"The check {rule.get('name', '')} is of type custom, which the platform does not run.",
                "Write it as type: sql, or as type: text if it is only for people.",
            )
            return None
        metric = "sql" if kind == "sql" else str(rule.get("metric"))
        custom = read_custom("check", rule, path, self.findings)
        name = self._name(rule, metric, column, path)
        operator, threshold = self._threshold(rule, name, path)
        if not self._subject_is_right(rule, metric, column, name, path):
            return None
        arguments = self._arguments(rule, metric, column, name, path)
        if arguments is None:
            return None
        columns = self._columns_of(arguments, metric, column, name, path)
        severity = self._severity(rule, name, path)
        return Check(
            name=name,
            metric=metric,
            column=column,
            columns=columns,
            arguments=arguments,
            query=" ".join(str(rule["query"]).split()) if metric == "sql" else None,
            operator=operator,
            threshold=threshold,
            unit=self._unit(rule, metric, name, path),
            severity=severity,
            scope=self._scope(custom, severity, name, path),
            dimension=rule.get("dimension"),
            description=" ".join(str(rule.get("description") or "").split()),
            line=self.findings.line(path),
        )

    def _name(self, rule: Mapping[str, Any], metric: str, column: str | None, path: DocumentPath) -> str:
        default = f"{column}_{metric}" if column else metric
        name = str(rule.get("name") or re.sub(r"\W", "_", default))
        if CHECK_NAME.fullmatch(name) is None:
            slug = re.sub(r"\W+", "_", name).strip("_").lower() or "rule"
            self.findings.error(
                "contract-check-name",
                (*path, "name"),
                f"The check name {name!r} holds a character that is not a letter, digit or underscore.",
                f"Call it {slug} and put the sentence in its description.",
            )
            return slug
        if name in self._names:
            self.findings.error(
                "contract-check-twice",
                path,
                f"The check name {name} is used twice, first on line {self._names[name]}.",
                "Give each check a name of its own.",
            )
        self._names.setdefault(name, self.findings.line(path))
        return name

    def _threshold(self, rule: Mapping[str, Any], name: str, path: DocumentPath) -> tuple[str, tuple[float, ...]]:
        given = [operator for operator in OPERATORS if operator in rule]
        if len(given) != 1:
            self.findings.error(
                "contract-check-threshold",
                path,
                f"The check {name} has {'no threshold' if not given else 'more than one threshold'}.",
                f"Give exactly one of {', '.join(OPERATORS)}.",
            )
            return "mustBe", (0,)
        operator, value = given[0], rule[given[0]]
        values = value if operator in BETWEEN else [value]  # the standard lets mustBe hold anything
        if not all(_is_number(v) for v in values):
            self.findings.error(
                "contract-check-threshold",
                (*path, operator),
                f"The check {name} has the threshold {show(value)}, which is no number.",
                "Give the number of rows, or of percent with unit: percent.",
            )
            return operator, (0,)
        if len(values) == 2 and values[0] > values[1]:
            self.findings.error(
                "contract-check-threshold",
                (*path, operator),
                f"The check {name} has the bounds {values[0]} and {values[1]} in the wrong order.",
                "Put the lower bound first.",
            )
        return operator, tuple(values)

    def _subject_is_right(self, rule: Mapping[str, Any], metric: str, column: str | None, name: str, path: DocumentPath) -> bool:
        if metric in ("nullValues", "missingValues", "invalidValues") and column is None:
            self.findings.error(
                "contract-check-column",
                path,
                f"The check {name} measures {metric}, which needs a column.",
                "Move it to the quality of that column.",
            )
            return False
        if metric == "rowCount" and column is not None:
            self.findings.error(
                "contract-check-column", path, f"The check {name} measures rowCount on a column.", "Move it to the quality of the schema."
            )
            return False
        if column is not None and metric != "sql" and self._is_repeated(column):
            self._refuse_repeated(name, column, path)
            return False
        return metric != "sql" or self._query_is_right(rule, name, path)

    def _query_is_right(self, rule: Mapping[str, Any], name: str, path: DocumentPath) -> bool:
        query = str(rule.get("query") or "")
        if not re.search(r"[{$]\{?\s*(object|table|model|schema)\s*\}", query):
            self.findings.error(
                "contract-check-query",
                (*path, "query"),
                f"The query of the check {name} does not read {{object}}, the rows it is to judge.",
                "Write it as select count(*) from {object} where ...",
            )
            return False
        return True

    def _is_repeated(self, column: str) -> bool:
        """Whether a column stands inside a list or map, so that a row has many of its values."""
        parts = column.split(".")
        parents = (self.columns.get(".".join(parts[:depth])) for depth in range(1, len(parts)))
        return any(parent is not None and not parent.fields for parent in parents)

    def _refuse_repeated(self, name: str, column: str, path: DocumentPath) -> None:
        self.findings.error(
            "contract-check-nested",
            path,
            f"The check {name} is on {column}, which is inside a list or map.",
            "Write it as type: sql on the table, e.g. with list_filter.",
        )

    def _arguments(self, rule: Mapping[str, Any], metric: str, column: str | None, name: str, path: DocumentPath) -> dict[str, Any] | None:
        """The rule's arguments, or the column's own bounds in their place; None when one of them does not fit."""
        arguments = dict(rule.get("arguments") or {})
        for word in arguments:
            if word not in ARGUMENTS[metric]:
                self.findings.error(
                    "contract-check-argument",
                    (*path, "arguments", word),
                    f"The check {name} has the argument {word}, which {metric} does not take.",
                    did_you_mean(word, ARGUMENTS[metric], otherwise=None) if ARGUMENTS[metric] else "Remove it.",
                )
        if metric == "invalidValues" and not arguments and column is not None and column in self.columns:
            declared = self.columns[column]
            options = ("pattern", "minimum", "maximum", "minLength", "maxLength")
            arguments = {word: declared.options[word] for word in options if word in declared.options}
            if declared.enum:
                arguments["validValues"] = list(declared.enum)
            if not arguments:
                self.findings.error(
                    "contract-check-argument",
                    path,
                    f"The check {name} does not say which values are valid, and the column {column} has no enum or bounds.",
                    "Give arguments: {validValues: [...]} or {pattern: ...}.",
                )
        faults = {
            word: _FITS[word](value, self.columns.get(column or "")) for word, value in arguments.items() if word in ARGUMENTS[metric]
        }
        for word, fault in faults.items():
            if fault is not None:
                subject = f"the {word} {show(arguments[word])}" + (f" of {column}" if column else "")
                self.findings.error(
                    "contract-check-argument", (*path, "arguments", word), f"The check {name} has {subject}, {fault[0]}.", fault[1]
                )
        return None if any(faults.values()) else arguments

    def _columns_of(self, arguments: Mapping[str, Any], metric: str, column: str | None, name: str, path: DocumentPath) -> tuple[str, ...]:
        if metric != "duplicateValues":
            return (column,) if column else ()
        columns = tuple(arguments.get("properties") or ((column,) if column else ()))
        if not columns:
            self.findings.error(
                "contract-check-column",
                path,
                f"The check {name} measures duplicateValues of no column.",
                "Give arguments: {properties: [...]}, or move it to a column.",
            )
        for part in columns:
            if part not in self.columns:
                self.findings.error(
                    "contract-check-column",
                    (*path, "arguments"),
                    f"The check {name} speaks of the column {part}, which the contract does not declare.",
                    did_you_mean(part, self.columns, otherwise="Name a declared column."),
                )
            elif part != column and self._is_repeated(part):
                self._refuse_repeated(name, part, (*path, "arguments"))
        return columns

    def _severity(self, rule: Mapping[str, Any], name: str, path: DocumentPath) -> Literal["error", "warning"]:
        severity = rule.get("severity", "error")
        if severity not in SEVERITIES:
            self.findings.error(
                "contract-check-severity",
                (*path, "severity"),
                f"The check {name} has the severity {severity}, which decides nothing.",
                "Use error (blocks publication) or warning.",
            )
            return "error"
        return "warning" if severity == "warning" else "error"

    def _unit(self, rule: Mapping[str, Any], metric: str, name: str, path: DocumentPath) -> Literal["rows", "percent"]:
        unit = rule.get("unit", "rows")
        if unit not in ("rows", "percent"):
            self.findings.error(
                "contract-check-unit", (*path, "unit"), f"The check {name} has the unit {show(unit)}.", "Use rows or percent."
            )
        if unit == "percent" and metric in ("rowCount", "sql"):
            self.findings.error(
                "contract-check-unit",
                (*path, "unit"),
                f"The check {name} measures {metric} in percent, which has no whole to be a part of.",
                "Use rows.",
            )
        return "percent" if unit == "percent" else "rows"

    def _scope(self, custom: Mapping[str, Any], severity: str, name: str, path: DocumentPath) -> Scope:
        scope: Scope = custom.get("scope", self.default_scope)
        if self.is_stream and scope == "table" and severity == "error":
            self.findings.error(
                "contract-check-scope",
                path,
                f"The check {name} has table scope on a stream, which runs by cadence and cannot block.",
                "Give it severity: warning, or the scope commit.",
            )
        return scope


# ---- what an argument may be: a clause that says why it does not fit, and the remedy ---------------------------------------------------

_Fault = tuple[str, str] | None
_TIMES: Mapping[str, tuple[re.Pattern[str], Callable[[str], object], str]] = {
    "date": (re.compile(r"\d{4}-\d\d-\d\d"), dt.date.fromisoformat, "2024-01-31"),
    "time": (re.compile(r"\d\d:\d\d:\d\d(\.\d{1,6})?"), dt.time.fromisoformat, "13:30:00"),
    "timestamp": (
        re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)?)?"),
        dt.datetime.fromisoformat,
        "2024-01-31T13:30:00Z",
    ),
}


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _is_time(value: Any, logical: str) -> bool:
    """Whether a text is a date, time or timestamp as DuckDB and ISO 8601 both write it."""
    shape, parse, _ = _TIMES[logical]
    if not isinstance(value, str) or shape.fullmatch(value) is None:
        return False
    try:
        parse(value)
    except ValueError:
        return False
    return True


def _is_text(column: Column) -> bool:
    return column.is_json or (column.logical_type == "string" and not isinstance(column.type, BinaryType | FixedType))


def _words(value: Any, column: Column | None, *, besides: tuple[str, ...] = ()) -> _Fault:
    """A list of single values of the column's type; null, and the words `besides`, fit any column."""
    if not isinstance(value, list):
        return "which is no list", "Write it in brackets, e.g. [a, b]."
    for word in value:
        if word is None or word in besides or column is None:
            continue
        fits, remedy = _single(word, column)
        if not fits:
            return f"but {show(word)} is no value of {a(column.physical_type or column.logical_type)} column", remedy
    return None


def _single(word: Any, column: Column) -> tuple[bool, str]:
    logical = column.logical_type
    if _is_text(column):
        return isinstance(word, str), "Put it in quotes."
    if logical in ("integer", "number"):
        return _is_number(word), "Write a number, without quotes."
    if logical == "boolean":
        return isinstance(word, bool), "Write true or false."
    if logical == "date":
        return _is_time(word, logical), f"Write e.g. '{_TIMES[logical][2]}'."
    if logical in _TIMES:
        return False, "Use minimum and maximum."
    return False, "Write the rule as type: sql."


def _bound(value: Any, column: Column | None) -> _Fault:
    """A number or a time, as the column is."""
    logical = column.logical_type if column is not None and not column.is_json else "string"
    if column is None or (logical in ("integer", "number") and _is_number(value)) or (logical in _TIMES and _is_time(value, logical)):
        return None
    if logical in ("integer", "number"):
        return "which is no number", "Write a number, without quotes."
    if logical in _TIMES:
        return f"which is no {logical}", f"Write e.g. '{_TIMES[logical][2]}'."
    return f"but {a(logical)} has no order to bound", "Use validValues, pattern, minLength or maxLength." if _is_text(
        column
    ) else "Remove it."


def _length(value: Any, column: Column | None) -> _Fault:
    if column is not None and not _is_text(column):
        return f"but {a(column.physical_type or column.logical_type)} has no length", "Write the rule as type: sql."
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        return "which is no length", "Write a whole number of characters."
    return None


def _pattern(value: Any, column: Column | None) -> _Fault:
    if column is not None and not _is_text(column):
        return f"but {a(column.physical_type or column.logical_type)} is no text", "Write the rule as type: sql."
    if not isinstance(value, str):
        return "which is no regular expression", "Put it in quotes."
    import pyarrow.compute as pc  # 40 ms of import that a contract without a pattern never needs

    try:
        pc.match_substring_regex("", value)  # RE2, as in DuckDB, which knows less than the gate's ECMA 262
    except ValueError as error:
        reason = " ".join(str(error).removeprefix("Invalid regular expression: ").split()).rstrip(".")[:80]
        return f"which is no regular expression of RE2 ({reason})", "Write it without lookaround and back-references, or as type: sql."
    return None


def _names(value: Any, _: Column | None) -> _Fault:
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return None
    return "which is no list of columns", "Write e.g. properties: [shop, day]."


_FITS: Mapping[str, Callable[[Any, Column | None], _Fault]] = {
    "validValues": _words, "missingValues": lambda value, column: _words(value, column, besides=("",)), "pattern": _pattern,
    "minimum": _bound, "maximum": _bound, "minLength": _length, "maxLength": _length, "properties": _names,
}  # fmt: skip

"""Read `quality[]` into checks: names, thresholds, severity, scope, and the columns they speak of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from platform_resources.contracts.custom import read_custom
from platform_resources.contracts.findings import Findings, did_you_mean, show
from platform_resources.contracts.model import Check, Column, Scope
from platform_resources.contracts.yaml_source import DocumentPath

OPERATORS = (
    "mustBe", "mustNotBe", "mustBeGreaterThan", "mustBeGreaterOrEqualTo", "mustBeLessThan", "mustBeLessOrEqualTo", "mustBeBetween",
    "mustNotBeBetween",
)  # fmt: skip
SEVERITIES = ("error", "warning")
CHECK_NAME = re.compile(r"[A-Za-z0-9_]+")
COLUMN_METRICS = ("nullValues", "missingValues", "invalidValues", "duplicateValues")

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
        values = value if isinstance(value, list) else [value]
        if any(isinstance(v, bool) or not isinstance(v, int | float) for v in values):
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
        if column is not None and metric != "sql" and {"element", "key", "value"} & set(self._steps_through_lists(column)):
            self.findings.error(
                "contract-check-nested",
                path,
                f"The check {name} is on {column}, which is inside a list or map.",
                "Write it as type: sql on the table, e.g. with list_filter.",
            )
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

    def _steps_through_lists(self, column: str) -> Iterable[str]:
        parts = column.split(".")
        for depth in range(1, len(parts)):
            parent = self.columns.get(".".join(parts[:depth]))
            if parent is not None and not parent.fields:
                yield parts[depth]

    def _arguments(self, rule: Mapping[str, Any], metric: str, column: str | None, name: str, path: DocumentPath) -> dict[str, Any]:
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
        return arguments

    def _columns_of(self, arguments: Mapping[str, Any], metric: str, column: str | None, name: str, path: DocumentPath) -> tuple[str, ...]:
        if metric != "duplicateValues":
            return (column,) if column else ()
        columns = tuple(str(part) for part in arguments.get("properties") or ((column,) if column else ()))
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

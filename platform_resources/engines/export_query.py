"""The query beside the contract of a product that publishes a dump: it gives the dump's rows, not the table's, and is judged by those."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import duckdb

from platform_resources.contracts.findings import did_you_mean
from platform_resources.contracts.iceberg import table_definition
from platform_resources.contracts.model import Contract
from platform_resources.contracts.publications import EXPORT_COLUMNS
from platform_resources.contracts.registry import Registry
from platform_resources.engines.duck import create_empty_tables, offline_session
from platform_resources.engines.sql import bind, quadratic_joins, refusal, shown_path, term_lines
from platform_resources.engines.transform import Transform
from platform_resources.engines.types import mismatch
from platform_resources.errors import Problem

_LISTED = "docs/how-to/publish.md lists the columns"


def check_export(transform: Transform, contract: Contract, registry: Registry) -> list[Problem]:
    """Every problem of the query of a dump.

    Codes: those of reading and binding a query, `export-not-sql`, `export-not-public`, `export-column-missing`, `export-column-unknown`,
    `sql-type-mismatch`, and the warning `sql-quadratic-join`.
    """
    where = shown_path(transform.path, registry)
    if transform.kind != "sql" or contract.engine != "duckdb":
        said = "a function in Python" if transform.kind != "sql" else f"computed by {contract.engine}"
        return [Problem(where, 0, "export-not-sql", f"The rows of {contract.key} are {said}.", "Give them by a query that runs on DuckDB.")]
    for key in transform.inputs:
        if (readers := registry.get(key).readers) is not None:
            said = f"{key} may be read by {' and '.join(readers)} only, but what {contract.key} publishes is for everybody."
            return [Problem(where, 0, "export-not-public", said, "Publish from a product that everybody may read.")]
    text = transform.text or ""
    with offline_session() as con:
        create_empty_tables(con, {registry.get(key).identifier: table_definition(registry.get(key)).schema for key in transform.inputs})
        try:
            relation = bind(con, text)
        except duckdb.Error as error:
            return [*transform.warnings, refusal(error, text, where)]
        warnings = [*transform.warnings, *quadratic_joins(con, text, where)]
        return [*warnings, *_held_to_export(relation.columns, relation.types, where, term_lines(text))]


def _held_to_export(names: Sequence[str], types: Sequence[Any], where: str, lines: Mapping[str, int]) -> list[Problem]:
    given = {name.lower(): kind for name, kind in zip(names, types, strict=True)}
    problems = []
    for name, column in EXPORT_COLUMNS.items():
        if name in given:
            fault = (mismatch(given[name], column.type, name) or "").replace("the contract", "a dump")
            if fault:
                problems.append(Problem(where, lines.get(name, 0), "sql-type-mismatch", f"{fault}.", "Cast it in the query."))
        elif column.required:
            said = f"The query does not give {name}, which a dump is made of: {column.meaning}"
            problems.append(
                Problem(where, 0, "export-column-missing", said, "Add it to the query; docs/how-to/publish.md lists the columns.")
            )
    for name in given.keys() - EXPORT_COLUMNS.keys():
        remedy = did_you_mean(name, EXPORT_COLUMNS, otherwise=f"Leave it out; {_LISTED}.")
        said = f"The query gives {name}, which no dump has."
        problems.append(Problem(where, lines.get(name, 0), "export-column-unknown", said, remedy))
    return problems

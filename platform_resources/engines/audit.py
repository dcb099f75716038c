"""The audit of a staged write: every check of one scope in one scan, before anything is published. Verdicts are `contracts.quality`'s."""

# ruff: noqa: S608 - SQL is put together here from quoted names and the platform's own texts
from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from platform_resources.contracts.iceberg import table_definition
from platform_resources.contracts.model import ROW_WISE_METRICS, Check, Contract, Scope
from platform_resources.contracts.quality import measurement_sql, passes, predicate_sql, query_over, quoted
from platform_resources.engines.duck import create_empty_tables, offline_session, qualified_name, store_fault, store_faults_told
from platform_resources.errors import Problem
from platform_resources.lakehouse.staging import StagedWrite

SAMPLE_ROWS = 5
IDENTITY_COLUMNS = 6  # of a product without any key
PLACE = ("_topic", "_partition", "_offset")  # of a stream's row in the log
DELIVERY = ("_file_name", "_line")  # of a landed row
_NO_VALUE = "The query gave no value."
_SCOPES: tuple[Scope, ...] = ("commit", "partition", "table")


@dataclass(frozen=True)
class CheckOutcome:
    """What one check said: the measured number out of `rows` rows in scope, up to five offending rows, or why it could not run.

    A check that could not run has not passed. Sample rows hold what tells the row from others (the primary key, the event's id and
    offset) and the checked columns, personal data masked; of a product that names its readers all but the place in the log or file is,
    since whoever looks at a check's result sees them.
    """

    check: Check
    passed: bool
    measured: float
    rows: int
    sample: tuple[Mapping[str, Any], ...] = ()
    error: str | None = None


@store_faults_told()
def audit(con: duckdb.DuckDBPyConnection, staged: StagedWrite, contract: Contract, *, skip: Collection[str] = ()) -> list[CheckOutcome]:
    """Evaluate every check of a contract but those named in `skip` on a staged write, in the contract's order.

    Checks of a user that fail to run are outcomes, not errors. `con` is a session of `duck.connect`.
    """
    outcomes: dict[int, CheckOutcome] = {}
    for scope in _SCOPES:
        wanted = [(index, check) for index, check in enumerate(contract.checks) if check.scope == scope and check.name not in skip]
        if wanted:
            relation = _view(con, staged, scope)
            found = audit_relation(con, relation, [check for _, check in wanted], contract)
            outcomes.update(zip([index for index, _ in wanted], found, strict=True))
    return [outcomes[index] for index in sorted(outcomes)]


def _view(con: duckdb.DuckDBPyConnection, staged: StagedWrite, scope: Scope) -> str:
    """A view of one scope's rows, so that a query of the user may name them more than once."""
    name = f"__audit_{scope}"
    con.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT * FROM {staged.audit_relation(con, scope=scope)}")
    return name


def audit_relation(con: duckdb.DuckDBPyConnection, relation: str, checks: Sequence[Check], contract: Contract) -> list[CheckOutcome]:
    """Evaluate checks on any relation (a name usable in FROM): one scan for all but the sql checks, which run by themselves."""
    scanned = [check for check in checks if check.metric != "sql"]
    measured, rows, errors = _measure(con, relation, scanned)
    outcomes = {}
    for check in checks:
        if check.metric == "sql":
            value, error = _run_query(con, relation, check)
        else:
            value, error = measured.get(check.name, 0.0), errors.get(check.name)
        passed = error is None and passes(check, value, rows)
        sample = () if passed or error is not None else _sample(con, relation, check, contract)
        outcomes[check.name] = CheckOutcome(check, passed, value, rows, sample, error)
    return [outcomes[check.name] for check in checks]


def unfit_checks(contract: Contract) -> list[Problem]:
    """Checks of a contract that DuckDB cannot run, for `sdp check`; most are refused earlier, when the contract is read.

    Each runs over one row of nulls: binding alone does not see that a text is no date. A query without a value is no fault here.
    """
    with offline_session() as con:
        con.execute("SET errors_as_json = false")
        create_empty_tables(con, {contract.identifier: table_definition(contract).schema})
        con.execute(f"INSERT INTO {qualified_name(contract.identifier)} DEFAULT VALUES")
        con.execute(f"CREATE TEMP VIEW __audit AS SELECT * FROM {qualified_name(contract.identifier)}")
        outcomes = audit_relation(con, "__audit", contract.checks, contract)
    return [
        Problem(
            str(contract.path),
            outcome.check.line,
            "contract-check-unfit",
            f"The check {outcome.check.name} cannot run: {outcome.error}",
            "Mend its query; it reads {object} alone." if outcome.check.metric == "sql" else "Mend its arguments.",
        )
        for outcome in outcomes
        if outcome.error is not None and outcome.error != _NO_VALUE
    ]


def _measure(con: duckdb.DuckDBPyConnection, relation: str, checks: Sequence[Check]) -> tuple[dict[str, float], int, dict[str, str]]:
    """Measured numbers by check name, the number of rows, and what kept a check from being measured."""
    try:
        row = con.execute(measurement_sql(tuple(checks), relation)).fetchone() or (0,)
        return {check.name: float(value) for check, value in zip(checks, row[1:], strict=True)}, int(row[0]), {}
    except duckdb.Error as error:
        if not checks or store_fault(error) is not None:
            raise  # the relation itself cannot be read: no fault of a check
        if len(checks) == 1:
            rows = int((con.execute(measurement_sql((), relation)).fetchone() or (0,))[0])
            return {}, rows, {checks[0].name: _sentence(error)}
    measured: dict[str, float] = {}
    errors: dict[str, str] = {}
    rows = 0
    for check in checks:  # one faulty check spoils the common scan: each by itself tells which
        values, rows, faults = _measure(con, relation, [check])
        measured.update(values)
        errors.update(faults)
    return measured, rows, errors


def _run_query(con: duckdb.DuckDBPyConnection, relation: str, check: Check) -> tuple[float, str | None]:
    try:
        row = con.execute(f"SELECT ({query_over(check, relation)}\n)").fetchone()
        value = row[0] if row else None
        return (0.0, _NO_VALUE) if value is None else (float(value), None)
    except duckdb.Error as error:
        if store_fault(error) is not None:
            raise
        return 0.0, _sentence(error)
    except (TypeError, ValueError):
        return 0.0, f"The query gave {value!r}, which is no number."


def _sentence(error: duckdb.Error) -> str:
    return str(error).split("\n", maxsplit=1)[0].strip().rstrip(".") + "."


def _sample(con: duckdb.DuckDBPyConnection, relation: str, check: Check, contract: Contract) -> tuple[Mapping[str, Any], ...]:
    """Up to five offending rows of a null, missing, invalid or duplicate check; () where rows cannot be told or may not be."""
    columns = list(dict.fromkeys((*_identity(contract), *check.columns, *([check.column] if check.column else []))))
    if check.metric == "duplicateValues":
        names = ", ".join(quoted(column) for column in check.columns)
        text = f"SELECT {names}, count(*) AS rows FROM {relation} GROUP BY {names} HAVING count(*) > 1 ORDER BY ALL LIMIT {SAMPLE_ROWS}"
        columns = [*check.columns, "rows"]
    elif check.metric in ROW_WISE_METRICS:
        text = f"SELECT {', '.join(quoted(column) for column in columns)} FROM {relation} WHERE {predicate_sql(check)} LIMIT {SAMPLE_ROWS}"
    else:
        return ()
    try:
        rows = con.execute(text).fetchall()
    except duckdb.Error:
        return ()  # the verdict stands without its illustration
    if contract.readers is not None and not {*PLACE, *DELIVERY} & set(columns):
        return ()  # nothing could be shown
    shown = (*PLACE, *DELIVERY) if contract.readers is not None else columns
    masked = {column for column in columns if column not in shown or _is_personal(contract, column)}
    return tuple({column: "***" if column in masked else value for column, value in zip(columns, row, strict=True)} for row in rows)


def _identity(contract: Contract) -> tuple[str, ...]:
    """Columns by which the owner finds a row: the primary key, a stream's event id and place in the log, else the first plain ones."""
    if contract.is_stream:
        event = contract.primary_key or ((contract.dedupe_key,) if contract.has_column(contract.dedupe_key) else ())
        return (*event, *PLACE)
    if contract.lands:
        return (*contract.primary_key, *DELIVERY)
    plain = tuple(column.name for column in contract.columns if not column.children())
    return contract.primary_key or contract.incremental_key or plain[:IDENTITY_COLUMNS]


def _is_personal(contract: Contract, path: str) -> bool:
    steps = path.split(".")
    prefixes = [".".join(steps[: length + 1]) for length in range(len(steps))]
    return any(contract.has_column(prefix) and contract.column(prefix).is_pii for prefix in prefixes)

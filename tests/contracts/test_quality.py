"""Quality rules as SQL, run on DuckDB against rows made for them."""

from __future__ import annotations

from typing import Any

import duckdb
import pytest

from platform_resources.contracts.model import Check
from platform_resources.contracts.quality import expectation, measurement_sql, passes, predicate_sql
from tests.contracts.conftest import Read, sound

ROWS = """(VALUES
    (1, 'enwiki', {'id': 'a'}, 5), (2, NULL, {'id': 'a'}, 50), (3, '', {'id': NULL}, NULL), (4, 'de''wiki', {'id': 'b'}, -1)
) AS t(n, wiki, meta, size)"""


def measured(check: Check) -> float:
    row = duckdb.sql(measurement_sql((check,), ROWS)).fetchone()
    assert row is not None and row[0] == 4
    return float(row[1])


@pytest.mark.parametrize(
    ("check", "bad"),
    [
        (Check("c", "rowCount"), 4),
        (Check("c", "nullValues", "wiki", ("wiki",)), 1),
        (Check("c", "nullValues", "meta.id", ("meta.id",)), 1),
        (Check("c", "missingValues", "wiki", ("wiki",)), 2),
        (Check("c", "missingValues", "wiki", ("wiki",), {"missingValues": ["", "enwiki"]}), 2),
        (Check("c", "invalidValues", "wiki", ("wiki",), {"validValues": ["enwiki", "de'wiki"]}), 1),
        (Check("c", "invalidValues", "wiki", ("wiki",), {"pattern": "wiki$"}), 1),
        (Check("c", "invalidValues", "size", ("size",), {"minimum": 0, "maximum": 10}), 2),
        (Check("c", "invalidValues", "wiki", ("wiki",), {"maxLength": 6}), 1),
        (Check("c", "invalidValues", "size", ("size",), {"validValues": [5, 50]}), 1),
        (Check("c", "duplicateValues", "meta.id", ("meta.id",)), 1),
        (Check("c", "duplicateValues", None, ("meta.id", "size")), 0),
        (Check("c", "sql", query="select count(*) from {object} where n > 2"), 2),
    ],
)
def test_a_check_counts_the_bad_rows(check: Check, bad: int) -> None:
    assert measured(check) == bad


def test_all_checks_of_a_scope_run_in_one_select() -> None:
    checks = (Check("a", "rowCount"), Check("b", "nullValues", "wiki"), Check("c", "sql", query="select max(n) from ${table}"))
    assert duckdb.sql(measurement_sql(checks, ROWS)).fetchone() == (4, 4, 1, 4)


def test_a_predicate_is_never_null_so_no_row_escapes() -> None:
    for arguments in ({"validValues": ["x"]}, {"pattern": "x"}, {"minimum": 3}):
        sql = predicate_sql(Check("c", "invalidValues", "size", arguments=arguments))
        assert duckdb.sql(f"select count(*) from {ROWS} where ({sql}) is null").fetchone() == (0,)


@pytest.mark.parametrize(
    ("operator", "threshold", "good", "bad"),
    [
        ("mustBe", (3,), 3, 4), ("mustNotBe", (3,), 4, 3), ("mustBeGreaterThan", (3,), 4, 3), ("mustBeGreaterOrEqualTo", (3,), 3, 2),
        ("mustBeLessThan", (3,), 2, 3), ("mustBeLessOrEqualTo", (3,), 3, 4), ("mustBeBetween", (3, 5), 5, 6),
        ("mustNotBeBetween", (3, 5), 6, 3),
    ],
)  # fmt: skip
def test_every_operator_judges(operator: str, threshold: tuple[float, ...], good: float, bad: float) -> None:
    check = Check("c", "rowCount", operator=operator, threshold=threshold)
    assert passes(check, good, 10) and not passes(check, bad, 10)


def test_percent_is_of_the_rows_in_scope() -> None:
    check = Check("c", "nullValues", "wiki", operator="mustBeLessThan", threshold=(5,), unit="percent")
    assert passes(check, 4, 100) and not passes(check, 5, 100) and passes(check, 0, 0)


def test_a_rule_without_arguments_takes_the_columns_own_bounds(read: Read, table: dict[str, Any]) -> None:
    shop = table["schema"][0]["properties"][1]
    shop |= {"enum": [{"value": "north"}], "logicalTypeOptions": {"maxLength": 9}, "quality": [{"metric": "invalidValues", "mustBe": 0}]}
    check = next(c for c in sound(read(table)).checks if c.metric == "invalidValues")
    assert dict(check.arguments) == {"validValues": ["north"], "maxLength": 9}
    assert (check.name, check.row_wise, check.blocking, check.scope) == ("shop_invalidValues", True, True, "partition")


def test_scopes_follow_how_the_product_is_written(read: Read, table: dict[str, Any], stream: dict[str, Any]) -> None:
    stream["schema"][0]["quality"] = [{"metric": "rowCount", "mustBeGreaterThan": 0, "severity": "warning"}]
    assert [(c.scope, c.blocking) for c in sound(read(stream)).checks] == [("commit", False)]
    table["schema"][0]["customProperties"] = [{"property": "incremental", "value": "key"}]
    assert [c.scope for c in sound(read(table)).checks] == ["table"]


def test_the_expectation_reads_as_a_sentence() -> None:
    assert expectation(Check("c", "nullValues", "a", ("a",), operator="mustBeLessOrEqualTo", threshold=(2,))) == (
        "nullValues of a must be less or equal to 2 rows"
    )

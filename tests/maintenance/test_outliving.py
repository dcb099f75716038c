"""A product that outlives its inputs keeps what was made of rows that have aged, and computes nothing from what is left of a partition."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from platform_resources.contracts.registry import Registry
from platform_resources.errors import PlatformError
from platform_resources.lakehouse.retention import Term, forget
from tests.engines.conftest import an_order, shop  # noqa: F401 - fixtures

DAILY = "select cast(orders.at as date) as day, count(*) as n from shop.orders group by day"
COLUMNS = """\
      - {name: day, logicalType: date, required: true, partitioned: true}
      - {name: n, logicalType: integer}
"""
NOW = datetime.now(UTC)
pytestmark = pytest.mark.folder_only("the project of the engines' suite")


@pytest.fixture
def settings(tmp_path: Any) -> Any:
    from platform_resources.config import Settings

    return Settings(home=tmp_path / "home")


def by_day(project: Any, text: str = DAILY, *, outlives: bool = True) -> None:
    more = "{property: outlivesInputs, value: true}" if outlives else ""
    project.totals(text, incremental="partition", more=more, properties=COLUMNS)


def age(project: Any, day: int, hour: int = 0) -> None:
    since = datetime(2026, 1, day, hour, tzinfo=UTC)
    assert forget(project.lakehouse, "shop.orders", Term(("at",), since), run_id=f"age-{day}", now=NOW).rows


def days(project: Any) -> dict[int, int]:
    return {day.day: count for day, count in project.rows()}


@pytest.fixture
def aged(shop: Any, an_order: Any) -> Any:  # noqa: F811
    """Orders of the days 1, 1, 10, 20; all computed, then those of before the 15th have aged."""
    by_day(shop)
    shop.put("orders", an_order(1, "a", day=1), an_order(2, "a", day=1), an_order(3, "a", day=10), an_order(4, "b", day=20))
    shop.derive()
    age(shop, 15)
    return shop


def test_what_was_made_of_aged_rows_stays(aged: Any) -> None:
    assert aged.derive().plan == "nothing"
    assert days(aged) == {1: 2, 10: 1, 20: 1}


def test_also_when_the_snapshot_it_covers_has_expired(aged: Any) -> None:
    late = NOW + timedelta(days=30)  # the patience with the product is over
    forget(aged.lakehouse, "shop.orders", Term(("at",), datetime(2026, 1, 15, tzinfo=UTC)), run_id="m", now=late)
    assert aged.derive().plan == "full"
    assert days(aged) == {1: 2, 10: 1, 20: 1}


def test_else_it_leaves_with_the_rows(shop: Any, an_order: Any) -> None:  # noqa: F811
    by_day(shop, outlives=False)
    shop.put("orders", an_order(1, "a", day=1), an_order(2, "b", day=20))
    shop.derive()
    age(shop, 15)
    shop.derive()
    assert days(shop) == {20: 1}


def test_a_late_row_does_not_make_an_aged_day_of_itself_alone(aged: Any, an_order: Any) -> None:  # noqa: F811
    aged.put("orders", an_order(5, "late", day=1))
    derived = aged.derive()
    assert (derived.plan, derived.reason) == ("nothing", "what changed is older than what the inputs keep, and stays as it was computed")
    aged.put("orders", an_order(6, "late", day=10), an_order(7, "new", day=20), an_order(8, "new", day=21))
    assert aged.derive().plan == "partition"
    assert days(aged) == {1: 2, 10: 1, 20: 2, 21: 1}


def test_a_day_of_which_only_some_hours_aged_is_not_computed_anew(shop: Any, an_order: Any) -> None:  # noqa: F811
    by_day(shop)
    noon = an_order(1, "a", day=15)
    morning = (*an_order(2, "a", day=15)[:-1], datetime(2026, 1, 15, 3, tzinfo=UTC))
    shop.put("orders", noon, morning, an_order(3, "a", day=16))
    shop.derive()
    age(shop, 15, hour=6)
    shop.put("orders", an_order(4, "a", day=15), an_order(5, "a", day=16))
    shop.derive()
    assert days(shop) == {15: 2, 16: 2}


@pytest.mark.parametrize("cause", ["the transform or the contract changed", "a recomputation was asked for"])
def test_computed_anew_only_later_days_change(aged: Any, cause: str) -> None:
    tenfold = "select cast(orders.at as date) as day, 10 * count(*) as n from shop.orders where shop <> 'gone' group by day"
    by_day(aged, tenfold)
    derived = aged.derive(recompute=cause.startswith("a recomputation"))
    assert (derived.plan, derived.reason) == ("full", f"{cause}; what was made of rows that have aged stays")
    assert days(aged) == {1: 2, 10: 1, 20: 10}


def test_computed_anew_a_later_day_without_rows_goes(aged: Any, an_order: Any) -> None:  # noqa: F811
    aged.put("orders", an_order(5, "a", day=22))
    aged.derive()
    by_day(aged, DAILY.replace("group", "where orders.at < timestamptz '2026-01-21 00:00:00Z' group"))
    aged.derive()
    assert days(aged) == {1: 2, 10: 1, 20: 1}


def test_a_named_partition_that_aged_is_refused(aged: Any) -> None:
    with pytest.raises(PlatformError, match="2026-01-10 of shop/totals is made of rows of which some have aged") as refused:
        aged.derive(partition="2026-01-10")
    assert refused.value.code == "partition-aged"
    assert aged.derive(partition="2026-01-20").plan == "partition"
    assert days(aged) == {1: 2, 10: 1, 20: 1}


@pytest.mark.parametrize(
    ("incremental", "columns"),
    [
        ("full", COLUMNS),
        ("partition", COLUMNS.replace("date", "string")),
        ("partition", COLUMNS + "      - {name: shop, logicalType: string, partitioned: true}\n"),
    ],
)
def test_it_needs_one_time_by_which_rows_are_told(shop: Any, incremental: str, columns: str) -> None:  # noqa: F811
    shop.totals(DAILY, incremental=incremental, more="{property: outlivesInputs, value: true}", properties=columns)
    assert "contract-outlives-inputs" in {problem.code for problem in Registry.load(shop.folder).problems}

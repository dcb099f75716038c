"""What maintenance of an input means for the products made from it (law 7)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from platform_resources.errors import PlatformError
from platform_resources.lakehouse.compaction import compact
from platform_resources.lakehouse.retention import Term, forget
from tests.engines.conftest import an_order, shop  # noqa: F401 - fixtures
from tests.engines.test_derivation import KEY, TOTALS

LIST = """\
      - {name: order_id, logicalType: integer}
      - {name: shop, logicalType: string}
"""
NOW = datetime.now(UTC)
pytestmark = pytest.mark.folder_only("the project of the engines' suite")


@pytest.fixture
def settings(tmp_path: Any) -> Any:
    from platform_resources.config import Settings

    return Settings(home=tmp_path / "home")


def _compact(project: Any) -> None:
    done = compact(project.lakehouse, "shop.orders", run_id="m", now=NOW + timedelta(days=1))
    assert done.files_after == 1


def _age(project: Any, since: datetime) -> None:
    assert forget(project.lakehouse, "shop.orders", Term(("at",), since), run_id="m", now=NOW).rows == 1


@pytest.mark.parametrize(("incremental", "plan"), [("append", "nothing"), ("key", "nothing"), ("full", "nothing")])
def test_a_compacted_input_changed_no_row(shop: Any, an_order: Any, incremental: str, plan: str) -> None:  # noqa: F811
    if incremental == "append":
        shop.totals("select order_id, shop from shop.orders", incremental="append", properties=LIST)
    else:
        shop.totals(TOTALS, **(KEY if incremental == "key" else {}))
    shop.put("orders", an_order(1, "a"))
    shop.put("orders", an_order(2, "b"))
    shop.derive()
    before = shop.rows()
    _compact(shop)
    assert shop.derivation().is_behind()  # by a snapshot, by no row
    assert shop.derive().plan == plan
    assert shop.rows() == before and not shop.derivation().is_behind()


def test_rows_that_aged_leave_what_is_computed_from_them_by_key(shop: Any, an_order: Any) -> None:  # noqa: F811
    shop.totals(TOTALS, **KEY)
    shop.put("orders", an_order(1, "a", day=1), an_order(2, "a", day=20), an_order(3, "b", day=20))
    shop.derive()
    _age(shop, datetime(2026, 1, 10, tzinfo=UTC))
    derived = shop.derive()
    assert (derived.plan, derived.reason) == ("key", "1 keys of shop/orders changed")
    assert [row[:2] for row in shop.rows()] == [("a", 1), ("b", 1)]
    assert forget(shop.lakehouse, "shop.orders", Term(("at",), datetime(2026, 1, 10, tzinfo=UTC)), run_id="m", now=NOW).waits_for == ()


def test_a_row_wise_product_keeps_what_aged_rows_gave_and_goes_on(shop: Any, an_order: Any) -> None:  # noqa: F811
    shop.totals("select order_id, shop from shop.orders", incremental="append", properties=LIST)
    shop.put("orders", an_order(1, "a", day=1), an_order(2, "a", day=20))
    shop.derive()
    _age(shop, datetime(2026, 1, 10, tzinfo=UTC))
    assert shop.derive().plan == "nothing"
    shop.put("orders", an_order(3, "c", day=21))
    derived = shop.derive()
    assert derived.plan == "append" and derived.staged.rows == 1
    assert shop.rows() == [(1, "a"), (2, "a"), (3, "c")]


@pytest.mark.parametrize("cause", ["the transform or the contract changed", "has expired"])
def test_a_row_wise_product_is_not_silently_computed_from_what_is_left(shop: Any, an_order: Any, cause: str) -> None:  # noqa: F811
    shop.totals("select order_id, shop from shop.orders", incremental="append", properties=LIST)
    shop.put("orders", an_order(1, "a", day=1), an_order(2, "a", day=20))
    shop.derive()
    _age(shop, datetime(2026, 1, 10, tzinfo=UTC))
    if cause == "has expired":
        late = NOW + timedelta(days=2)  # the patience with the product is over
        forget(shop.lakehouse, "shop.orders", Term(("at",), datetime(2026, 1, 10, tzinfo=UTC)), run_id="m", now=late)
    else:
        shop.totals("select order_id, upper(shop) as shop from shop.orders", incremental="append", properties=LIST)
    before = shop.rows()
    with pytest.raises(PlatformError, match=cause) as refused:
        shop.derive()
    assert refused.value.code == "append-input-shortened" and "from before 2026-01-10" in str(refused.value)
    assert shop.rows() == before == [(1, "a"), (2, "a")]
    assert shop.derive(recompute=True).plan == "full"
    assert [row[0] for row in shop.rows()] == [2]


def test_what_a_row_wise_product_forgets_itself_is_no_loss(shop: Any, an_order: Any) -> None:  # noqa: F811
    promise = (
        "      - {name: seen, logicalType: timestamp}\nslaProperties:\n  - {property: retention, value: 5, unit: d, element: totals.seen}\n"
    )
    shop.totals(
        "select order_id, shop, timestamptz '2026-11-20 00:00:00+00' as seen from shop.orders",
        incremental="append",
        properties=LIST + promise,
    )
    shop.put("orders", an_order(1, "a", day=1), an_order(2, "a", day=20))
    shop.derive()
    _age(shop, datetime(2026, 1, 10, tzinfo=UTC))
    shop.totals(
        "select order_id, upper(shop) as shop, timestamptz '2026-11-20 00:00:00+00' as seen from shop.orders",
        incremental="append",
        properties=LIST + promise,
    )
    assert shop.derive().plan == "full"

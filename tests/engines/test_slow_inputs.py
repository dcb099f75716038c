"""A product that begins from a monthly dump: declared slow, the dump does not hold the watermark back; optional, it is not waited for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from platform_resources.contracts.iceberg import table_definition
from platform_resources.lakehouse.staging import stage_empty
from platform_resources.lakehouse.stamp import Stamp
from tests.engines.conftest import ORDERS

JOINED = """\
select o.shop, count(*) as orders, cast(sum(o.amount * coalesce(r.rate, 1)) as decimal(38, 2)) as total
from shop.orders o left join shop.rates r on r.shop = o.shop group by o.shop
"""
NEW, OLD = datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)


def totals(shop: Any, slow: str) -> None:
    shop.totals(
        JOINED,
        incremental="key",
        more=f"{{property: incrementalKey, value: [shop]}}{slow and f', {{property: slowInputs, value: [{slow}]}}'}",
    )


@pytest.mark.parametrize(("slow", "watermark"), [("", OLD), ("shop/rates", NEW), ("shop/orders", OLD)])
def test_the_watermark_is_that_of_the_inputs_that_are_not_slow(slow: str, watermark: datetime, shop: Any, an_order: Any) -> None:
    totals(shop, slow)
    shop.put("orders", an_order(1, "a"))
    for name, at in (("orders", NEW), ("rates", OLD)):
        stage_empty(shop.lakehouse, table_definition(shop.contract(name)), Stamp(run_id=name, watermark=at)).commit()
    assert shop.derive().watermark == watermark


def test_a_slow_input_that_was_never_made_leaves_the_answer_known(shop: Any, an_order: Any) -> None:
    totals(shop, "shop/rates")
    shop.put("orders", an_order(1, "a"))
    stage_empty(shop.lakehouse, table_definition(shop.contract("orders")), Stamp(run_id="beat", watermark=NEW)).commit()
    assert shop.derive().watermark == NEW


def test_a_stream_is_refused_since_it_tells_by_itself_that_it_is_idle(shop: Any) -> None:
    stream = "[{property: source, value: stream}, {property: stream, value: orders}]"
    server = f"servers:\n  - {{server: events, type: custom, customProperties: {stream}}}\n"
    shop.write("orders", ORDERS, servers=server, custom="{property: eventTime, value: at}, {property: dedupeKey, value: order_id}")
    totals(shop, "shop/orders")
    [problem] = shop.problems()
    assert problem.code == "contract-slow-inputs" and "streams, whose age always counts: shop/orders" in problem.message


@pytest.mark.parametrize(("slow", "said"), [("shop/prices", "no inputs of it: shop/prices"), ("shop/orders, shop/rates", "all it has")])
def test_what_is_no_input_or_all_of_them_is_refused(slow: str, said: str, shop: Any) -> None:
    totals(shop, slow)
    [problem] = shop.problems()
    assert problem.code == "contract-slow-inputs" and said in problem.message and "shop/orders, shop/rates" in problem.remedy
    assert problem.file.endswith("totals.yaml")


def test_an_optional_input_is_taken_in_when_it_comes(shop: Any, an_order: Any) -> None:
    more = "{property: incrementalKey, value: [shop]}, {property: optionalInputs, value: [shop/rates]}"
    shop.totals(JOINED, incremental="key", more=more)
    assert shop.problems() == []
    shop.put("orders", an_order(1, "a"))
    shop.derive()
    assert not shop.derivation().is_behind()
    stage_empty(shop.lakehouse, table_definition(shop.contract("rates")), Stamp(run_id="rates")).commit()
    assert shop.derivation().is_behind()


@pytest.mark.parametrize(("optional", "said"), [("shop/prices", "no inputs of it: shop/prices"), ("shop/orders, shop/rates", "all it has")])
def test_what_is_no_input_or_all_of_them_cannot_be_optional(optional: str, said: str, shop: Any) -> None:
    shop.totals(
        JOINED, incremental="key", more=f"{{property: incrementalKey, value: [shop]}}, {{property: optionalInputs, value: [{optional}]}}"
    )
    [problem] = shop.problems()
    assert problem.code == "contract-optional-inputs" and said in problem.message and "shop/orders, shop/rates" in problem.remedy

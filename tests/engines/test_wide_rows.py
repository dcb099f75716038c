"""Rows that hold whole pages: what changed in them is found without comparing them, and what is computed comes in batches that fit."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import duckdb
import pytest

from platform_resources.engines.running import BATCH_ROWS, NESTED_BATCH_ROWS, run_transform

AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
TIERS = "select shop, count(*) as orders, cast(sum(customer.tier) as decimal(38, 2)) as total from shop.orders group by shop"
KEY: dict[str, Any] = {"incremental": "key", "more": "{property: incrementalKey, value: [shop]}"}


def an_order(number: int, shop: str, tier: int | None) -> tuple[Any, ...]:
    return number, shop, None if tier is None else {"name": "n", "tier": tier}, Decimal(1), AT


@pytest.mark.parametrize("strategy", ["copy-on-write", "merge-on-read"])
def test_a_change_inside_a_nested_value_is_a_change_and_the_same_again_is_none(strategy: str, shop: Any) -> None:
    shop.strategy = strategy
    shop.totals(TIERS, **KEY)
    shop.put("orders", *(an_order(number, "abcd"[number % 4], 1) for number in range(12)))
    shop.derive()
    for tier, reason in ((2, "1 keys of shop/orders changed"), (2, "no row of an input changed"), (None, "1 keys of shop/orders changed")):
        shop.put("orders", an_order(5, "b", tier), delete=[5])
        assert shop.derive().reason == reason
    assert shop.rows() == [(name, 3, Decimal(2 if name == "b" else 3)) for name in "abcd"]


N = "      - {name: n, logicalType: integer}\n"
LABELS = "      - {name: labels, logicalType: map, map: {key: {logicalType: string}, value: {logicalType: string}}}\n"
INNER = "{name: labels, logicalType: map, map: {key: {logicalType: string}, value: {logicalType: string}}}"
PAGE = f"      - {{name: page, logicalType: object, properties: [{INNER}]}}\n"


@pytest.mark.parametrize(
    ("columns", "properties", "most"),
    [
        ("", N, BATCH_ROWS),
        (", map {'a': 'b'} as labels", N + LABELS, NESTED_BATCH_ROWS),
        (", {'labels': map {'a': 'b'}} as page", N + PAGE, NESTED_BATCH_ROWS),
    ],
)
def test_a_result_comes_in_batches_that_hold_texts_too(columns: str, properties: str, most: int, shop: Any) -> None:
    rows = 3 * BATCH_ROWS
    shop.totals(f"select amount as n{columns} from shop.orders", properties=properties)
    derivation = shop.derivation()
    with duckdb.connect() as con:
        con.execute(f"create schema shop; create table shop.orders as select range as amount from range({rows})")
        sizes = [batch.num_rows for batch in run_transform(con, derivation.transform, {}, derivation.definition.schema)]
    assert sum(sizes) == rows and max(sizes) == most

"""Plans: what is recomputed after which change, and that each leaves the rows a full computation would leave."""

# ruff: noqa: E501 - sentences and transforms stand as a user reads them
from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from platform_resources.engines import derivation
from platform_resources.errors import PlatformError
from platform_resources.lakehouse import expiry
from platform_resources.lakehouse.catalog import PLATFORM_PROPERTIES
from platform_resources.lakehouse.reading import arrow_table
from platform_resources.lakehouse.staging import Fenced, publish, stage_append, stage_empty
from platform_resources.lakehouse.stamp import Stamp, read_position, read_watermark

TOTALS = "select shop, count(*) as orders, sum(amount) as total from shop.orders group by shop"
KEY: dict[str, Any] = {"incremental": "key", "more": "{property: incrementalKey, value: [shop]}, {property: writeMode, value: merge}"}
DAYS = """\
      - {name: day, logicalType: date, partitioned: true}
      - {name: orders, logicalType: integer}
"""
BY_DAY = 'select cast("at" as date) as day, count(*) as orders from shop.orders group by day'
BY_WEEKDAY_TIME = DAYS.replace(
    "logicalType: date, partitioned: true",
    "logicalType: timestamp, partitioned: true, customProperties: [{property: partitionTransform, value: day}]",
)
LIST = """\
      - {name: order_id, logicalType: integer}
      - {name: shop, logicalType: string}
"""
FILES = """\
servers:
  - {server: tests, type: custom, customProperties: [{property: source, value: platform}]}
"""
D = Decimal


def test_the_first_run_computes_everything_and_the_next_has_nothing_to_do(shop: Any, an_order: Any) -> None:
    shop.totals(TOTALS, **KEY)
    first = shop.put("orders", an_order(1, "a"), an_order(2, "b"))
    derivation = shop.derivation()
    assert derivation.is_behind()
    derived = shop.derive()
    assert (derived.plan, derived.reason) == ("full", "it was never computed")
    assert derived.position == {"shop/orders": first.snapshot_id}
    assert shop.rows() == [("a", 1, D("1.00")), ("b", 1, D("1.00"))]
    assert not derivation.is_behind()
    again = shop.derive()
    assert (again.plan, again.staged) == ("nothing", None)


def test_only_touched_keys_are_rewritten(shop: Any, an_order: Any) -> None:
    shop.totals(TOTALS, **KEY)
    shop.put("orders", an_order(1, "a"), an_order(2, "b"), an_order(3, None))
    shop.derive()
    shop.put("orders", an_order(4, "a"), an_order(5, None))
    derived = shop.derive()
    assert (derived.plan, derived.reason) == ("key", "2 keys of shop/orders changed")
    assert derived.staged is not None and derived.staged.rows == 2
    assert shop.rows() == [("a", 2, D("2.00")), ("b", 1, D("1.00")), (None, 2, D("2.00"))]


def test_a_key_without_rows_vanishes(shop: Any, an_order: Any) -> None:
    shop.totals(TOTALS, **KEY)
    shop.put("orders", an_order(1, "a"), an_order(2, "b"))
    shop.derive()
    shop.put("orders", delete=[2])
    assert shop.derive().plan == "key"
    assert shop.rows() == [("a", 1, D("1.00"))]


def test_a_rewritten_file_recomputes_only_the_rows_that_differ(shop: Any, an_order: Any) -> None:
    shop.totals(TOTALS, **KEY)
    shop.put("orders", *(an_order(number, "abcdefgh"[number % 8]) for number in range(40)))
    shop.derive()
    shop.put("orders", an_order(7, "h", "5.00"), delete=[7])
    assert shop.derive().reason == "1 keys of shop/orders changed"
    shop.put("orders", an_order(7, "h", "5.00"), delete=[7])
    derived = shop.derive()
    assert (derived.plan, derived.reason) == ("nothing", "no row of an input changed")


def test_a_run_without_changed_rows_commits_position_and_watermark_only(shop: Any, an_order: Any) -> None:
    shop.totals(TOTALS, **KEY)
    shop.put("orders", an_order(1, "a"))
    shop.derive()
    at = datetime(2026, 1, 5, tzinfo=UTC)
    from platform_resources.contracts.iceberg import table_definition

    beat = stage_empty(shop.lakehouse, table_definition(shop.contract("orders")), Stamp(run_id="beat", watermark=at)).commit()
    derived = shop.derive()
    assert (derived.plan, derived.watermark) == ("nothing", at)
    table = shop.lakehouse.table("shop.totals")
    assert read_position(table) == {"shop/orders": beat.snapshot_id}
    assert read_watermark(table) == at
    assert shop.rows() == [("a", 1, D("1.00"))]


def test_a_joined_input_is_traced_through_the_equality(shop: Any, an_order: Any) -> None:
    shop.totals(
        "select o.shop, count(*) as orders, sum(o.amount * coalesce(r.rate, 1)) as total\n"
        "from shop.orders o left join shop.rates r on r.shop = o.shop group by o.shop",
        properties=LIST.replace("order_id", "orders").replace("shop, logicalType: string", "shop, logicalType: string")
        + '      - {name: total, logicalType: number, physicalType: "decimal(38,2)"}\n', **KEY,
    )  # fmt: skip
    shop.put("orders", an_order(1, "a"), an_order(2, "b"))
    shop.derive()
    shop.put("rates", ("b", 3))
    derived = shop.derive()
    assert (derived.plan, derived.reason) == ("key", "1 keys of shop/rates changed")
    assert shop.rows() == [(1, "a", D("1.00")), (1, "b", D("3.00"))]


def test_an_untraceable_input_means_all_with_the_reason(shop: Any, an_order: Any) -> None:
    shop.totals(
        "select shop, count(*) as orders, sum(amount) * (select max(rate) from shop.rates) as total from shop.orders group by shop".replace(
            "sum(amount) * (select max(rate) from shop.rates)", "cast(sum(amount) * (select max(rate) from shop.rates) as decimal(38,2))"
        ),
        **KEY,
    )
    shop.put("orders", an_order(1, "a"), an_order(2, "b"))
    shop.put("rates", ("x", 2))
    shop.derive()
    shop.put("orders", an_order(3, "a"))
    assert shop.derive().plan == "key"
    shop.put("rates", ("y", 3))
    derived = shop.derive()
    assert (derived.plan, derived.reason) == (
        "full",
        "shop/rates changed and cannot be traced by shop: it is read in a subquery of an expression",
    )
    assert shop.rows() == [("a", 2, D("6.00")), ("b", 1, D("3.00"))]


def test_a_changed_query_recomputes_everything(shop: Any, an_order: Any) -> None:
    shop.totals(TOTALS, **KEY)
    shop.put("orders", an_order(1, "a"))
    shop.derive()
    shop.totals(TOTALS + " -- a comment changes nothing", **KEY)
    assert not shop.derivation().is_behind()
    shop.totals(TOTALS.replace("sum(amount)", "max(amount)::decimal(38,2)"), **KEY)
    assert shop.derivation().is_behind()
    derived = shop.derive()
    assert (derived.plan, derived.reason) == ("full", "the transform or the contract changed")


def test_an_expired_position_recomputes_and_says_so(shop: Any, an_order: Any) -> None:
    shop.totals(TOTALS, **KEY)
    first = shop.put("orders", an_order(1, "a"))
    shop.derive()
    shop.put("orders", an_order(2, "a"))
    table = shop.lakehouse.table("shop.orders")
    old = [snapshot.snapshot_id for snapshot in table.metadata.snapshots if snapshot.snapshot_id != table.metadata.current_snapshot_id]
    table.maintenance.expire_snapshots().by_ids(old).commit()
    derived = shop.derive()
    assert derived.plan == "full"
    assert derived.reason == f"what changed in shop/orders cannot be told: snapshot {first.snapshot_id} has expired"
    assert shop.rows() == [("a", 2, D("2.00"))]


@pytest.mark.parametrize("strategy", ["copy-on-write", "merge-on-read"])
def test_append_transforms_only_added_rows_and_refuses_changed_ones(shop: Any, an_order: Any, strategy: str) -> None:
    shop.strategy = strategy
    shop.totals(
        "select order_id, shop from shop.orders where shop <> 'x'",
        incremental="append",
        more="{property: writeMode, value: append}",
        properties=LIST,
    )
    shop.put("orders", an_order(1, "a"), an_order(2, "x"))
    shop.derive()
    shop.put("orders", an_order(3, "b"))
    derived = shop.derive()
    assert derived.plan == "append" and derived.staged.rows == 1
    assert shop.rows() == [(1, "a"), (3, "b")]
    shop.put("orders", delete=[1])
    with pytest.raises(PlatformError) as caught:
        shop.derive()
    assert caught.value.code == "append-input-rewritten"
    assert "rows of its input shop/orders were changed or deleted" in caught.value.message
    assert shop.derive(recompute=True).plan == "full"
    assert shop.rows() == [(3, "b")]


@pytest.mark.parametrize("strategy", ["copy-on-write", "merge-on-read"])
@pytest.mark.parametrize("properties", [DAYS, BY_WEEKDAY_TIME], ids=["date", "day(timestamp)"])
def test_only_touched_partitions_are_recomputed_and_emptied_ones_vanish(shop: Any, an_order: Any, properties: str, strategy: str) -> None:
    shop.strategy = strategy
    text = BY_DAY if properties is DAYS else BY_DAY.replace('cast("at" as date)', "date_trunc('day', \"at\")")
    shop.totals(text, incremental="partition", properties=properties)
    shop.put("orders", an_order(1, "a", day=1), an_order(2, "a", day=2), an_order(3, "a", day=3))
    shop.derive()
    shop.put("orders", an_order(4, "b", day=2))
    derived = shop.derive()
    assert (derived.plan, derived.reason) == ("partition", "1 partitions of shop/orders changed")
    shop.put("orders", delete=[3])
    assert shop.derive().plan == "partition"
    assert [(day.day, orders) for day, orders in shop.rows()] == [(1, 1), (2, 2)]


@pytest.mark.parametrize("incremental", ["partition", "full"])
def test_one_partition_recomputed_moves_no_position(shop: Any, an_order: Any, incremental: str) -> None:
    shop.totals(BY_DAY, incremental=incremental, properties=DAYS)
    first = shop.put("orders", an_order(1, "a", day=1), an_order(2, "a", day=2))
    shop.derive()
    shop.put("orders", an_order(3, "a", day=1), an_order(4, "a", day=2))
    derived = shop.derive(partition="2026-01-01")
    assert derived.plan == "partition"
    assert [orders for _, orders in shop.rows()] == [2, 1]
    assert read_position(shop.lakehouse.table("shop.totals")) == {"shop/orders": first.snapshot_id}
    assert shop.derivation().is_behind()
    shop.derive()
    assert [orders for _, orders in shop.rows()] == [2, 2]


@pytest.mark.parametrize("incremental", ["partition", "full"])
@pytest.mark.parametrize(("column", "kind"), [("shop", "string"), ('"at"', "timestamp")])
def test_the_partition_of_nulls_is_recomputed(shop: Any, an_order: Any, incremental: str, column: str, kind: str) -> None:
    properties = f"      - {{name: part, logicalType: {kind}, partitioned: true}}\n      - {{name: orders, logicalType: integer}}\n"
    query = f"select if(shop = 'a', {column}, null) as part, count(*) as orders from shop.orders group by part"
    shop.totals(query, incremental=incremental, properties=properties)
    shop.put("orders", an_order(1, "a"), an_order(2, None))
    shop.derive()
    shop.put("orders", an_order(3, None))
    assert shop.derive(partition="null").plan == "partition"
    assert {part is None: orders for part, orders in shop.rows()} == {True: 2, False: 1}


def test_a_row_wise_partition_recomputed_adds_no_row_twice(shop: Any, an_order: Any) -> None:
    shop.totals('select cast("at" as date) as day, order_id as orders from shop.orders', incremental="append",
                more="{property: writeMode, value: append}", properties=DAYS)  # fmt: skip
    shop.put("orders", an_order(1, "a"))
    shop.derive()
    shop.put("orders", an_order(2, "a"))
    shop.derive(partition="2026-01-01")
    shop.derive()
    assert [orders for _, orders in shop.rows()] == [1, 2]


def test_a_run_that_committed_stages_nothing_again(shop: Any, an_order: Any) -> None:
    shop.totals(TOTALS, **KEY)
    shop.put("orders", an_order(1, "a"))
    shop.derive(run_id="r")
    shop.put("orders", an_order(2, "a"))
    again = shop.derive(run_id="r")
    assert (again.staged, again.plan) == (None, "nothing") and again.committed is not None


def test_an_input_that_runs_away_is_read_as_it_was_pinned(shop: Any, an_order: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expiry, "KEEP", 5)
    monkeypatch.setattr(expiry, "_EVERY", 5)
    monkeypatch.setitem(PLATFORM_PROPERTIES, "write.metadata.previous-versions-max", "5")
    real = derivation.pin_inputs

    def slowly(*arguments: Any) -> Any:
        """Meanwhile the input has so many commits that neither the metadata file nor the snapshot is kept for others."""
        pinned = real(*arguments)
        table = pinned["shop/orders"].table
        definition = pinned["shop/orders"].definition
        row = arrow_table(table).slice(0, 1)
        for number in range(20):
            publish(stage_append(shop.lakehouse, definition, row, Stamp(f"o{number}")))
        assert not Path(table.metadata_location.removeprefix("file://")).exists()
        return pinned

    shop.totals(TOTALS, **KEY)
    for number in range(3):
        shop.put("orders", an_order(number, "a"))
    with monkeypatch.context() as patch:
        patch.setattr(derivation, "pin_inputs", slowly)
        assert shop.derive().plan == "full"
    assert shop.rows() == [("a", 3, D("3.00"))]
    assert shop.derive().plan == "key"  # its position stands, however many commits came
    assert shop.rows() == [("a", 23, D("23.00"))]


def test_two_runs_at_once_leave_one(shop: Any, an_order: Any) -> None:
    shop.totals(TOTALS, **KEY)
    shop.put("orders", an_order(1, "a"))
    one, other = (shop.derivation().stage(run_id=run_id) for run_id in "ab")
    one.staged.commit()
    with pytest.raises(Fenced):
        other.staged.restage()
    assert shop.rows() == [("a", 1, D("1.00"))]


def test_inputs_never_made_count_as_empty(shop: Any) -> None:
    shop.totals(TOTALS, **KEY)
    assert not shop.derivation().is_behind()
    assert shop.derive().position == {"shop/orders": None}
    assert shop.rows() == []


def test_an_input_that_lacks_a_new_column_reads_it_as_null(shop: Any, an_order: Any) -> None:
    shop.put("rates", ("a", 2))
    shop.write(
        "rates",
        (shop.domain / "rates.yaml").read_text().split("properties:\n", 1)[1] + "      - {name: more, logicalType: integer}\n",
        servers=FILES,
    )
    text = "select shop, rate as orders, cast(coalesce(more, 7) as decimal(38,2)) as total from shop.rates"
    shop.totals(text)
    shop.derive()
    assert shop.rows() == [("a", 2, D("7.00"))]


def test_a_failing_transform_is_told_in_a_sentence(shop: Any, an_order: Any) -> None:
    shop.totals("select shop, cast(shop as bigint) as orders, sum(amount) as total from shop.orders group by shop")
    shop.put("orders", an_order(1, "a"))
    with pytest.raises(PlatformError) as caught:
        shop.derive()
    assert caught.value.code == "transform-failed"
    assert "Could not convert string 'a' to INT64" in caught.value.message


PYTHON = """\
import duckdb
import polars as pl
import pyarrow as pa
from platform_resources import data_product

@data_product(inputs={{"orders": "shop/orders"}})
def totals(orders: {annotation}) -> {returns}:
    {body}
"""
TOTALS_TRACED = """\
      - {name: shop, logicalType: string, transformSourceObjects: [shop.orders.shop]}
      - {name: orders, logicalType: integer}
      - {name: total, logicalType: number, physicalType: "decimal(38,2)"}
"""
SAME = {
    "duckdb.DuckDBPyRelation": "orders.aggregate('shop, count(*) as orders, sum(amount) as total')",
    "pl.LazyFrame": "orders.group_by('shop').agg(orders=pl.len().cast(pl.Int64), total=pl.col('amount').sum().cast(pl.Decimal(38, 2)))",
    "pa.Table": "orders.group_by('shop').aggregate([('order_id', 'count'), ('amount', 'sum')]).rename_columns(['shop', 'orders', 'total'])",
    "pa.RecordBatchReader": "orders.read_all().group_by('shop').aggregate([('order_id', 'count'), ('amount', 'sum')]).rename_columns(['shop', 'orders', 'total']).to_reader()",
}


@pytest.mark.parametrize("annotation", SAME)
def test_a_function_gets_its_input_as_annotated(shop: Any, an_order: Any, annotation: str) -> None:
    text = PYTHON.format(annotation=annotation, returns=annotation, body=f"return {SAME[annotation]}")
    shop.totals(text, suffix="py", properties=TOTALS_TRACED, **KEY)
    shop.put("orders", an_order(1, "a"), an_order(2, "b"))
    assert shop.derive().plan == "full"
    shop.put("orders", an_order(3, "b"), an_order(4, None))
    assert shop.derive().plan == "key"
    assert shop.rows() == [("a", 1, D("1.00")), ("b", 2, D("2.00")), (None, 1, D("1.00"))]


def test_a_function_that_raises_is_told_with_its_line(shop: Any, an_order: Any) -> None:
    shop.totals(PYTHON.format(annotation="pa.Table", returns="pa.Table", body="return orders['nope']"), suffix="py")
    with pytest.raises(PlatformError) as caught:
        shop.derive()
    assert (caught.value.code, caught.value.line) == ("transform-failed", 8)
    assert caught.value.message.startswith("The transform failed: KeyError: ")


def test_a_function_that_returns_something_else_is_told(shop: Any, an_order: Any) -> None:
    shop.totals(PYTHON.format(annotation="pa.Table", returns="pl.LazyFrame", body="return orders"), suffix="py")
    with pytest.raises(PlatformError, match=r"totals returned pyarrow.Table, its annotation says polars.LazyFrame"):
        shop.derive()

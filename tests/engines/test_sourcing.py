"""source() and query(): one way to read, nothing but reading."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from platform_resources.contracts.iceberg import table_definition
from platform_resources.errors import PlatformError
from platform_resources.lakehouse.conforming import arrow_schema_of
from platform_resources.lakehouse.staging import stage_append
from platform_resources.lakehouse.stamp import Stamp
from platform_resources.sourcing import query, source
from tests.engines.conftest import FILES, ORDERS


def test_every_engine_reads_the_same_rows(shop: Any, an_order: Any) -> None:
    shop.put("orders", an_order(1, "a"), an_order(2, None))
    product = source("shop/orders", settings=shop.settings)
    arrow = product.arrow().sort_by("order_id").to_pylist()
    assert [row["shop"] for row in arrow] == ["a", None]
    assert product.duckdb().order("order_id").to_arrow_table().to_pylist() == arrow
    assert product.polars().sort("order_id").collect().to_dicts() == arrow


def test_a_product_is_read_as_it_was(shop: Any, an_order: Any) -> None:
    first = shop.put("orders", an_order(1, "a"))
    between = datetime.now(UTC)
    shop.put("orders", an_order(2, "b"))
    product = source("shop.orders", settings=shop.settings)
    for when in (first.snapshot_id, between, between.isoformat(), str(first.snapshot_id)):
        assert product.at(when).arrow().num_rows == product.at(when).polars().collect().height == 1
        assert product.at(when).duckdb().fetchall()[0][0] == 1
    assert product.arrow().num_rows == 2
    with pytest.raises(PlatformError, match="'yesterday' is neither a snapshot id, nor an ISO-8601 time, nor a branch or tag of shop"):
        product.at("yesterday").arrow()


def refuse(shop: Any, branch: str, *rows: Any, more: str = "") -> None:
    """Keep a write of orders on a branch, as a run does whose checks fail; `more` adds a column to the contract for it alone."""
    shop.write("orders", ORDERS + more, servers=FILES)
    definition = table_definition(shop.contract("orders"))
    names = [field.name for field in definition.schema.fields]
    data = pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema=arrow_schema_of(definition.schema))
    stage_append(shop.lakehouse, definition, data, Stamp(run_id=branch)).refuse(branch)
    shop.write("orders", ORDERS, servers=FILES)


def test_a_refused_write_is_read_by_its_branch(shop: Any, an_order: Any) -> None:
    shop.put("orders", an_order(1, "a"))
    shop.put("rates", ("a", 3), ("b", 4))
    refuse(shop, "refused/r1", (*an_order(2, "b"), "express"), more="      - {name: way, logicalType: string}\n")
    kept = source("shop/orders", settings=shop.settings).at("refused/r1")
    arrow = kept.arrow().sort_by("order_id").to_pylist()
    assert [(row["order_id"], row["way"]) for row in arrow] == [(1, None), (2, "express")]
    assert kept.polars().sort("order_id").collect().to_dicts() == arrow
    assert kept.duckdb().order("order_id").to_arrow_table().to_pylist() == arrow
    assert source("shop/orders", settings=shop.settings).arrow().num_rows == 1

    sql = "select way, rate from shop.orders join shop.rates using (shop) order by order_id"
    assert ask(shop, sql, branch="refused/r1") == [{"way": None, "rate": 3}, {"way": "express", "rate": 4}]
    assert ask(shop, "select count(*) as n from shop.orders") == [{"n": 1}]


def test_an_unknown_branch_names_the_newest(shop: Any, an_order: Any) -> None:
    shop.put("orders", an_order(1, "a"))
    with pytest.raises(PlatformError, match=r"^'refused/x' is no branch or tag of shop.orders. There is none but main.$"):
        ask(shop, "from shop.orders", branch="refused/x")
    for number in range(5):
        refuse(shop, f"refused/r{number}", an_order(number + 2, "b"))
    with pytest.raises(PlatformError) as caught:
        ask(shop, "from shop.orders", branch="refused/x")
    assert (caught.value.code, caught.value.remedy) == ("branch-unknown", "The newest are refused/r4, refused/r3, refused/r2.")


def test_what_is_not_there_says_how_to_make_it(shop: Any) -> None:
    shop.totals("select shop, 1::bigint as orders, amount as total from shop.orders")
    with pytest.raises(PlatformError, match=r"shop/totals has no table yet. Make it with `sdp run shop/totals`."):
        source("shop/totals", settings=shop.settings).arrow()
    with pytest.raises(PlatformError) as caught:
        source("shop/order", settings=shop.settings)
    assert caught.value.code == "product-unknown"


def ask(shop: Any, sql: str, **options: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = query(sql, shop.settings, shop.registry, lakehouse=shop.lakehouse, **options).to_pylist()
    return rows


def test_products_are_views(shop: Any, an_order: Any) -> None:
    shop.put("orders", an_order(1, "a"), an_order(2, "b"))
    shop.put("rates", ("a", 3))
    assert ask(shop, "with o as (from shop.orders) select o.shop, rate from o join shop.rates r using (shop); -- done") == [
        {"shop": "a", "rate": 3}
    ]


REFUSED = {
    "drop table shop.orders": "sql-not-one-query",
    "insert into shop.orders select * from shop.orders": "sql-not-one-query",
    "create table x as select 1": "sql-not-one-query",
    "copy shop.orders to '/tmp/x.csv'": "sql-not-one-query",
    "copy (select 1) to '/tmp/x.csv'": "sql-not-one-query",
    "attach '/tmp/x.db' as x": "sql-not-one-query",
    "pragma database_list": "sql-not-one-query",
    "set threads = 1": "sql-not-one-query",
    "install httpfs": "sql-not-one-query",
    "select 1; select 2": "sql-not-one-query",
    "explain analyze select 1": "sql-not-one-query",
    "summarize shop.orders": "sql-not-one-query",
    "select * from '/etc/passwd'": "sql-bare-name",
    "select * from read_text('/etc/passwd')": "sql-reads-file",
    "select * from read_csv_auto('/etc/passwd')": "sql-reads-file",
    "select * from iceberg_scan('/x')": "sql-reads-file",
    "select * from glob('/*')": "sql-reads-file",
    "select * from query('select 1')": "sql-reads-file",
    "select * from duckdb_settings()": "sql-reads-file",
    "select * from shop.orders, lateral (select * from read_text('/etc/passwd'))": "sql-reads-file",
    "select current_setting('temp_directory') from shop.orders": "query-refused",
    "select (select content from read_text('/etc/passwd')) from shop.orders": "sql-reads-file",
    "select * from information_schema.tables": "product-unknown",
    "select * from shop.orders__quarantine": "query-refused",
    "select amout from shop.orders": "query-invalid",
    "select * from shop.nothing": "product-unknown",
    "selec": "sql-syntax",
    "": "sql-not-one-query",
}


@pytest.mark.parametrize("sql", REFUSED)
def test_what_is_no_reading_of_products_is_refused(shop: Any, an_order: Any, sql: str) -> None:
    shop.put("orders", an_order(1, "a"))
    with pytest.raises(PlatformError) as caught:
        ask(shop, sql)
    assert caught.value.code == REFUSED[sql]
    assert caught.value.message.endswith(".") and caught.value.remedy


def test_the_session_itself_reaches_the_warehouse_only(shop: Any, an_order: Any, tmp_path: Any) -> None:
    """The second wall, for a text that sqlglot would understand otherwise than DuckDB."""
    import duckdb

    from platform_resources.engines.duck import connect
    from platform_resources.lakehouse.reading import duckdb_scan_sql
    from platform_resources.sourcing import _lock

    shop.put("orders", an_order(1, "a"))
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")
    con = connect(shop.settings)
    _lock(con, shop.settings)
    assert len(con.execute(f"SELECT * FROM {duckdb_scan_sql(shop.lakehouse.table('shop.orders'))}").fetchall()) == 1
    for text in (
        f"SELECT * FROM '{secret}'",
        f"COPY (SELECT 1) TO '{tmp_path / 'out.csv'}'",
        "SET enable_external_access = true",
        f"ATTACH '{tmp_path / 'x.db'}'",
    ):
        with pytest.raises(duckdb.Error):
            con.execute(text)


def test_an_unknown_column_names_those_like_it(shop: Any, an_order: Any) -> None:
    shop.put("orders", an_order(1, "a"))
    with pytest.raises(PlatformError) as caught:
        ask(shop, "select amout\nfrom shop.orders")
    assert (caught.value.message, caught.value.remedy) == ('Referenced column "amout" not found in FROM clause.', "Did you mean amount?")

"""Wrong transforms, each told in one sentence with file, line and remedy."""

# ruff: noqa: E501 - sentences and transforms stand as a user reads them
from __future__ import annotations

from typing import Any

import pytest

GOOD = "select shop, count(*) as orders, sum(amount) as total\nfrom shop.orders\ngroup by shop\n"
SQL = "data_products/shop/totals.sql"

WRONG_SQL = {
    "sql-unknown-product": ("select 1 as orders\nfrom shop.order", f"{SQL}:2: No contract declares the input shop.order. Did you mean shop.orders?"),
    "sql-bare-name": ("select shop\nfrom\n  orders", f"{SQL}:3: orders in FROM is neither a WITH name nor domain.product. Write domain.product, or define the name in WITH."),
    "sql-three-part-name": ("select 1 from\nlake.shop.orders", f"{SQL}:2: lake.shop.orders has three parts. Name a product by two: domain.product."),
    "sql-reads-file": (
        "select *\nfrom read_parquet('/etc/x')",
        f"{SQL}:2: The query calls read_parquet() in FROM, which reads outside the lakehouse. "
        "Read a product, FROM domain.product; a file becomes a product by a contract with a source.",
    ),
    "sql-not-one-query": (GOOD + ";\nselect 1", f"{SQL}:5: The text holds 2 statements instead of one query. Leave exactly one SELECT."),
    "sql-reads-itself": ("select * from shop.totals", f"{SQL}:1: The query reads its own product shop.totals. Read its inputs only."),
    "sql-no-input": ("select 1 as orders", f"{SQL}:1: The query reads no product. Name at least one domain.product in FROM."),
    "sql-syntax": ("select shop\nfrom shop.orders\nwhere (", f"{SQL}:3: The query is not SQL: syntax error at end of input. Correct the text at that line."),
    "sql-unknown-column": (
        "select shop, count(*) as orders,\n sum(amout) as total\nfrom shop.orders group by shop",
        f'{SQL}:2: Referenced column "amout" not found in FROM clause. Did you mean amount?',
    ),
    "sql-unknown-function": (
        "select shop, count(*) as orders, summ(amount) as total\nfrom shop.orders group by shop",
        f"{SQL}:1: Scalar Function with name summ does not exist. Did you mean sum?",
    ),
    "sql-type-mismatch": (
        "select shop, count(*)::varchar as orders, sum(amount) as total from shop.orders group by shop",
        f"{SQL}: orders is VARCHAR, the contract says long. Cast it in the query, or change the contract's type.",
    ),
    "sql-missing-column": (
        "select shop, count(*) as orders, sum(amount) as totl from shop.orders group by shop",
        f"{SQL}: The contract has the column total, the query does not give it. The query gives totl: rename one of them.",
    ),
    "sql-extra-column": (
        "select shop, count(*) as orders, sum(amount) as total, 1 as more from shop.orders group by shop",
        f"{SQL}: The query gives the column more, which the contract does not have. Declare it in the contract or leave it out of the query.",
    ),
    "sql-duplicate-column": (
        "select shop, shop as SHOP, count(*) as orders, sum(amount) as total from shop.orders group by shop",
        f"{SQL}: The query gives the column shop more than once. Name each column once.",
    ),
    "sql-invalid": (
        "select shop, count(*) as orders,\n sum(amount) as total from shop.orders",
        f'{SQL}:1: column "shop" must appear in the GROUP BY clause or must be part of an aggregate function. Correct the query at that line.',
    ),
}  # fmt: skip


@pytest.mark.parametrize("code", WRONG_SQL)
def test_a_wrong_query_gets_one_sentence(shop: Any, code: str) -> None:
    text, sentence = WRONG_SQL[code]
    shop.totals(text)
    assert {problem.code: str(problem) for problem in shop.problems()}.get(code) == sentence


def test_a_sound_query_has_no_problem(shop: Any) -> None:
    shop.totals(GOOD)
    assert shop.problems() == []


def test_an_unknown_struct_field_names_the_ones_there_are(shop: Any) -> None:
    shop.totals("select customer.nam as shop,\n 1::bigint as orders, amount as total from shop.orders")
    (problem,) = [one for one in shop.problems() if one.severity == "error"]
    assert (problem.code, problem.line) == ("sql-unknown-column", 1)
    assert str(problem).endswith('Could not find key "nam" in struct. The struct has "name".')


def test_an_input_with_a_broken_contract_is_told_as_the_owners_fault(shop: Any) -> None:
    shop.totals(GOOD)
    contract = shop.contract()
    text = (shop.domain / "orders.yaml").read_text()
    (shop.domain / "orders.yaml").write_text(text.replace("logicalType: string", "logicalType: sting", 1))
    from platform_resources.contracts.registry import Registry
    from platform_resources.engines.loading import INPUT_FAULTS, check_transform

    (problem,) = check_transform(contract, Registry.load(shop.folder))
    assert problem.code == "sql-input-broken" and problem.code in INPUT_FAULTS
    assert problem.message.startswith("The contract of the input shop/orders is broken: ")
    assert problem.remedy == "Ask its owners to mend it; `sdp check` shows all its problems."


KEY: dict[str, Any] = {"incremental": "key", "more": "{property: incrementalKey, value: [shop]}, {property: writeMode, value: merge}"}


def test_non_deterministic_functions_are_warned_of_where_history_is_kept(shop: Any) -> None:
    shop.totals('select shop, count(*) as orders, sum(amount) as total from shop.orders\nwhere "at" < now() group by shop', **KEY)
    (problem,) = shop.problems()
    assert (problem.code, problem.severity, problem.line) == ("sql-non-deterministic", "warning", 2)


def test_a_key_that_no_input_carries_is_refused(shop: Any) -> None:
    shop.totals("select max(shop) as shop, count(*) as orders, sum(amount) as total from shop.orders group by customer.name", **KEY)
    (problem,) = shop.problems()
    assert problem.code == "sql-key-untraceable"
    assert "is computed by an aggregate, a window or a subquery" in problem.message


def test_an_append_product_must_be_row_wise(shop: Any) -> None:
    shop.totals(GOOD, incremental="append")
    (problem,) = shop.problems()
    assert str(problem) == (
        f"{SQL}:3: The query uses GROUP BY, and incremental: append needs each output row to come from one input row. "
        "Declare incremental: key, partition or full."
    )
    assert problem.code == "sql-not-row-wise"


PY = "data_products/shop/totals.py"
HEADER = "import polars as pl\nimport pyarrow as pa\nfrom platform_resources import data_product\n\n"
WRONG_PYTHON = {
    "python-broken": ("x = 1 +\n", f"{PY}:5: The file cannot be executed: invalid syntax. Correct it at that line."),
    "python-no-transform": ("def totals(): ...\n", f"{PY}: The file has no function marked @data_product(inputs={{...}}). Mark the one that makes the product."),
    "python-signature": (
        "@data_product(inputs={'orders': 'shop/orders'})\ndef totals(order: pl.LazyFrame) -> pl.LazyFrame: ...\n",
        f"{PY}:5: totals takes (order), its inputs are (orders). Give each input one parameter of the same name.",
    ),
    "python-annotation": (
        "@data_product(inputs={'orders': 'shop/orders'})\ndef totals(orders: list) -> pl.LazyFrame: ...\n",
        f"{PY}:5: The parameter orders is annotated list, which no engine gives. "
        "Annotate it duckdb.DuckDBPyRelation, polars.LazyFrame, pyarrow.Table or pyarrow.RecordBatchReader.",
    ),
    "python-unknown-product": (
        "@data_product(inputs={'orders': 'shop/order'})\ndef totals(orders: pl.LazyFrame) -> pl.LazyFrame: ...\n",
        f"{PY}:5: No contract declares the input shop/order. Did you mean shop/orders?",
    ),
    "python-several-transforms": (
        "".join(f"@data_product(inputs={{'orders': 'shop/orders'}})\ndef {name}(orders: pl.LazyFrame) -> pl.LazyFrame: ...\n" for name in "ab"),
        f"{PY}:7: The file marks a and b as transforms. Keep one; a product has one transform.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("code", WRONG_PYTHON)
def test_a_wrong_function_gets_one_sentence(shop: Any, code: str) -> None:
    text, sentence = WRONG_PYTHON[code]
    shop.totals(HEADER + text, suffix="py")
    assert [(problem.code, str(problem)) for problem in shop.problems()] == [(code, sentence)]


def test_spark_is_refused_until_it_is_offered(shop: Any) -> None:
    pytest.importorskip("pyspark")
    text = "from pyspark.sql import DataFrame\n@data_product(inputs={'orders': 'shop/orders'})\ndef totals(orders: DataFrame) -> pl.LazyFrame: ...\n"
    shop.totals(HEADER + text, suffix="py")
    (problem,) = shop.problems()
    assert "transforms on Spark are not offered yet" in problem.message

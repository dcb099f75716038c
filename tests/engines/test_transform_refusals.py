"""Wrong transforms, each told in one sentence with file, line and remedy."""

# ruff: noqa: E501 - sentences and transforms stand as a user reads them
from __future__ import annotations

from typing import Any

import pytest

from platform_resources.engines.transform import ColumnSource
from tests.engines.conftest import FILES

GOOD = "select shop, count(*) as orders, sum(amount) as total\nfrom shop.orders\ngroup by shop\n"
SQL = "data_products/shop/totals.sql"

WRONG_SQL = {
    "sql-unknown-product": ("select 1 as orders\nfrom shop.order", f"{SQL}:2: No contract declares the input shop.order. Did you mean shop.orders?"),
    "sql-bare-name": ("select shop\nfrom\n  orders", f"{SQL}:3: orders in FROM is neither a WITH name nor domain.product. Write domain.product, or define the name in WITH."),
    "sql-three-part-name": ("select 1 from\nlake.shop.orders", f"{SQL}:2: lake.shop.orders has three parts. Name a product by two: domain.product."),
    "sql-reads-file": (
        "select *\nfrom read_parquet('/etc/x')",
        f"{SQL}:2: The query calls read_parquet() in FROM, where only products, unnest, range and generate_series may stand. "
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
        f"{SQL}:1: orders is VARCHAR, the contract says long. Cast it in the query, or change the contract's type.",
    ),
    "sql-missing-column": (
        "select shop, count(*) as orders, sum(amount) as totl from shop.orders group by shop",
        f"{SQL}:1: The contract has the column total, the query does not give it. The query gives totl: rename one of them.",
    ),
    "sql-extra-column": (
        "select shop, count(*) as orders, sum(amount) as total, 1 as more from shop.orders group by shop",
        f"{SQL}:1: The query gives the column more, which the contract does not have. Declare it in the contract or leave it out of the query.",
    ),
    "sql-duplicate-column": (
        "select shop, shop as SHOP, count(*) as orders, sum(amount) as total from shop.orders group by shop",
        f"{SQL}:1: The query gives the column shop more than once. Name each column once.",
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


@pytest.mark.parametrize(
    ("join", "warned"),
    [
        ("left join t on t.shop = o.shop and o.amount > 1", True),
        ("join t on t.shop = o.shop or o.amount > 1", True),
        ("left join t on t.shop = case when o.amount > 1 then o.shop end", False),
        ("left join t on t.shop = o.shop and t.least > 1", False),
        ("join t on o.amount > t.least", False),
        ("join t on true", False),
    ],
)
def test_a_join_of_every_row_with_every_row_is_warned_of(shop: Any, join: str, warned: bool) -> None:
    with_t = "with t as (select shop, min(amount) as least from shop.orders group by shop)"
    shop.totals(f"{with_t} select o.shop, count(*) as orders, sum(o.amount) as total from shop.orders o {join} group by o.shop")
    found = shop.problems()
    assert [(one.code, one.severity) for one in found] == [("sql-quadratic-join", "warning")] * warned
    assert all("(shop = shop)" in one.message and "every row with every row" in one.message for one in found)


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


AGGREGATES = {
    "histogram(order_id)": "map(bigint, ubigint)", "entropy(shop)": "double", "product(order_id)": "double", "mean(order_id)": "double",
    "list(shop)": "varchar[]", "arg_max_null(shop, order_id)": "varchar", "main.favg(order_id)": "double", "shop.max()": "varchar",
    "geomean(order_id)": "double", "json_group_array(shop)": "json",
}  # fmt: skip


@pytest.mark.parametrize("call", AGGREGATES)
def test_every_aggregate_of_duckdb_is_one_even_where_sqlglot_knows_it_not(shop: Any, call: str) -> None:
    shop.totals(
        f"select ({call})::{AGGREGATES[call]} as shop, 1::bigint as orders, 1::decimal(38,2) as total\nfrom shop.orders",
        incremental="append",
    )
    assert ("sql-not-row-wise", 1) in {(problem.code, problem.line) for problem in shop.problems()}


def test_a_function_of_one_row_is_no_aggregate(shop: Any) -> None:
    shop.totals(
        "select lower(shop) as shop, list_sum([order_id])::bigint as orders, amount as total from shop.orders", incremental="append"
    )
    assert shop.problems() == []


NOT_ROW_WISE = {
    "select shop, order_id as orders, amount as total from shop.orders fetch first 2 rows only": "FETCH",
    "select shop, order_id as orders, amount as total from shop.orders union all select 'x', 1, 1": "rows that come from no input",
    "select shop, n as orders, amount as total from range(3) t(n) left join shop.orders on n = order_id": "rows that come from no input",
    "select shop, n as orders, amount as total from shop.orders right join range(3) t(n) on n = order_id": "a join",
    "select shop, n as orders, amount as total from shop.orders full join unnest([1, 2]) t(n) on n = order_id": "a join",
}


@pytest.mark.parametrize("text", NOT_ROW_WISE)
def test_rows_that_every_run_would_add_again_are_not_row_wise(shop: Any, text: str) -> None:
    shop.totals(text, incremental="append")
    (problem,) = shop.problems()
    assert problem.message.startswith(f"The query uses {NOT_ROW_WISE[text]}, and incremental: append needs")


ROW_SOURCES = [
    "shop.orders o, range(3) t(n)",
    "shop.orders o, range(o.order_id) n(n)",
    "shop.orders o join generate_series(1, 3) t(n) on n = o.order_id",
    "shop.orders o left join range(3) with ordinality t(m, n) on true",
    "shop.orders o, lateral range(o.order_id) t(n)",
    "shop.orders o, unnest([1, 2]) t(n)",
]


@pytest.mark.parametrize("rows", ROW_SOURCES)
@pytest.mark.parametrize("incremental", ["append", "key"])
def test_rows_may_be_made_in_from(shop: Any, rows: str, incremental: str) -> None:
    text = (
        f"select shop, {'sum(n)' if incremental == 'key' else 'n'}::bigint as orders, any_value(amount) as total from {rows} group by shop"
    )
    if incremental == "append":
        text = text.replace("any_value(amount)", "amount").replace(" group by shop", "")
    shop.totals(text, **(KEY if incremental == "key" else {"incremental": incremental}))
    assert shop.problems() == []
    transform = shop.derivation().transform
    assert transform.lineage["shop"] == (ColumnSource("shop/orders", "shop"),)
    assert transform.lineage["orders"] == ((ColumnSource("shop/orders", "order_id"),) if "(o.order_id)" in rows else ())
    assert dict(transform.keys) == ({"shop/orders": (("shop",),)} if incremental == "key" else {})


def test_a_row_source_without_an_alias_names_its_column(shop: Any) -> None:
    for call in ("range", "generate_series"):
        shop.totals(
            f"select shop, sum({call})::bigint as orders, 1.0::decimal(38,2) as total from shop.orders, {call}(order_id) group by shop",
            **KEY,
        )
        assert shop.problems() == []
        assert shop.derivation().transform.lineage["orders"] == (ColumnSource("shop/orders", "order_id"),)


def test_a_query_may_begin_with_a_byte_order_mark(shop: Any) -> None:
    shop.totals(GOOD)
    plain = shop.derivation().transform
    shop.totals("\ufeff" + GOOD)
    assert shop.problems() == []
    assert (shop.derivation().transform.text, shop.derivation().transform.code_version) == (plain.text, plain.code_version)


PY = "data_products/shop/totals.py"
HEADER = "import polars as pl\nimport pyarrow as pa\nfrom platform_resources import data_product\n\n"
DECORATED = "@data_product(inputs={'orders': 'shop/orders'})\n"
TOTALS_DEF = "def totals(orders: pl.LazyFrame) -> pl.LazyFrame: ...\n"
ANNOTATE = "Annotate it duckdb.DuckDBPyRelation, polars.LazyFrame, pyarrow.Table, pyarrow.RecordBatchReader or pyspark.sql.DataFrame."
WRONG_PYTHON = {
    "syntax": ("python-broken", "x = 1 +\n", 5, "The file cannot be executed: invalid syntax. Correct it at that line."),
    "raises": (
        "python-broken", "def f():\n    raise ValueError('no\\nway')\nf()\n", 6,
        "The file cannot be executed: ValueError: no way. Correct it at that line.",
    ),
    "imports what is not there": (
        "python-broken", "import nonesuch\n", 5, "The file cannot be executed: ModuleNotFoundError: No module named 'nonesuch'. Correct it at that line.",
    ),
    "exits": (
        "python-broken", "import sys\nsys.exit(3)\n", 6,
        "The file cannot be executed: it ends the process that reads it (sys.exit). Correct it at that line.",
    ),
    "none": (
        "python-no-transform", TOTALS_DEF, 1, "The file has no function marked @data_product(inputs={...}). Mark the one that makes the product.",
    ),
    "class": (
        "python-no-transform", f"{DECORATED}class Totals: ...\n", 1,
        "@data_product marks Totals, which is no function. Mark a function from inputs to a table.",
    ),
    "two": (
        "python-several-transforms", f"{DECORATED}{TOTALS_DEF}{DECORATED}{TOTALS_DEF.replace('totals', 'more')}", 7,
        "The file marks totals and more as transforms. Keep one; a product has one transform.",
    ),
    "other parameter": (
        "python-signature", DECORATED + TOTALS_DEF.replace("(orders", "(order"), 5,
        "totals takes (order), its inputs are (orders). Give each input one parameter of the same name.",
    ),
    "number for a key": (
        "python-signature", DECORATED.replace("'shop/orders'", "5") + TOTALS_DEF, 5,
        "The inputs of @data_product are {'orders': 5}, not parameter names with product keys. Give inputs={\"name\": \"domain/product\"}.",
    ),
    "list of keys": (
        "python-signature", "@data_product(inputs=['shop/orders'])\n" + TOTALS_DEF, 5,
        "The inputs of @data_product are ['shop/orders'], not parameter names with product keys. Give inputs={\"name\": \"domain/product\"}.",
    ),
    "no input": (
        "python-signature", "@data_product(inputs={})\n" + TOTALS_DEF, 5, '@data_product names no input. Give inputs={"name": "domain/product"}.',
    ),
    "engine": (
        "python-annotation", DECORATED + TOTALS_DEF.replace("pl.LazyFrame)", "list)"), 5,
        f"The parameter orders is annotated list, which no engine gives. {ANNOTATE}",
    ),
    "no type at all": (
        "python-annotation", DECORATED + TOTALS_DEF.replace("pl.LazyFrame)", "{})"), 5,
        f"The parameter orders is annotated {{}}, which no engine gives. {ANNOTATE}",
    ),
    "unknown product": (
        "python-unknown-product", DECORATED.replace("shop/orders", "shop/order") + TOTALS_DEF, 5,
        "No contract declares the input shop/order. Did you mean shop/orders?",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG_PYTHON)
def test_a_wrong_function_gets_one_sentence(shop: Any, case: str) -> None:
    code, text, line, sentence = WRONG_PYTHON[case]
    shop.totals(HEADER + text, suffix="py")
    assert [(problem.code, str(problem)) for problem in shop.problems()] == [(code, f"{PY}:{line}: {sentence}")]


def test_a_function_under_two_names_or_behind_a_byte_order_mark_is_one(shop: Any) -> None:
    shop.totals(f"\ufeff{HEADER}{DECORATED}{TOTALS_DEF}same = totals\n", suffix="py")
    assert shop.problems() == []


def test_a_fault_in_an_imported_module_is_told_at_the_import(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(shop.folder))
    (shop.folder / "broken_rates.py").write_text("\n\n\nx = 1 +\n")
    shop.totals(f"{HEADER}import broken_rates\n", suffix="py")
    (problem,) = shop.problems()
    assert (
        str(problem)
        == f"{PY}:5: The file cannot be executed: SyntaxError: invalid syntax (broken_rates.py, line 4). Correct it at that line."
    )


def traced(source: str, kind: str = "string") -> str:
    """Properties of a product whose key declares a source."""
    return (
        f"      - {{name: shop, logicalType: {kind}, transformSourceObjects: [{source}]}}\n"
        "      - {name: orders, logicalType: integer}\n"
        '      - {name: total, logicalType: number, physicalType: "decimal(38,2)"}\n'
    )


UNKNOWN_SOURCES = {
    "shop.orders.shp": ("a column that shop/orders does not have", "Did you mean shop?"),
    "shop.orders.name": ("a column that shop/orders does not have", "Did you mean customer.name?"),
    "shop.rates.shop": ("which is no column of an input", "Write domain.product.column; the inputs are shop/orders."),
    "orders": ("which is no column of an input", "Write domain.product.column; the inputs are shop/orders."),
    "shop.orders": ("which names no column", "Add the column: shop.orders.column."),
}


@pytest.mark.parametrize("source", UNKNOWN_SOURCES)
def test_declared_lineage_names_columns_of_the_inputs(shop: Any, source: str) -> None:
    fault, remedy = UNKNOWN_SOURCES[source]
    shop.totals(HEADER + DECORATED + TOTALS_DEF, suffix="py", properties=traced(source), **KEY)
    (problem,) = shop.problems()
    assert (problem.code, problem.severity, problem.line) == ("python-unknown-source", "error", 13)
    assert str(problem).endswith(f"totals.yaml:13: transformSourceObjects of shop name {source}, {fault}. {remedy}")
    assert shop.derivation().transform.lineage["shop"] == ()


UNTRACEABLE = {
    "shop.orders.order_id": "name order_id, which is long and not string",
    "shop.orders.shop, shop.orders.customer.name": "do not name one column of shop/orders",
    "shop.orders.tags.element": "name tags.element, which is inside a list or map",
}


@pytest.mark.parametrize("source", UNTRACEABLE)
@pytest.mark.parametrize(("incremental", "severity"), [("key", "error"), ("partition", "warning")])
def test_a_declared_key_is_an_input_column_unchanged(shop: Any, source: str, incremental: str, severity: str) -> None:
    with (shop.domain / "orders.yaml").open("a") as file:
        file.write("      - {name: tags, logicalType: array, items: {logicalType: string}}\n")
    properties = traced(source)
    if incremental == "partition":
        properties = properties.replace("string,", "string, partitioned: true,")
    options = KEY if incremental == "key" else {"incremental": "partition"}
    shop.totals(HEADER + DECORATED + TOTALS_DEF, suffix="py", properties=properties, **options)
    (problem,) = shop.problems()
    assert (problem.code, problem.severity, problem.line) == ("python-key-untraceable", severity, 13)
    assert problem.message == (
        f"No input can be traced by shop: transformSourceObjects of shop {UNTRACEABLE[source]}; every change would recompute all."
    )
    assert dict(shop.derivation().transform.keys) == {}


def test_a_declared_key_of_the_same_type_is_traced(shop: Any) -> None:
    shop.totals(HEADER + DECORATED + TOTALS_DEF, suffix="py", properties=traced("shop.orders.customer.name"), **KEY)
    assert shop.problems() == []
    assert dict(shop.derivation().transform.keys) == {"shop/orders": (('"customer"."name"',),)}


SPARK_IMPORTS = {
    "from pyspark.sql import DataFrame": "DataFrame",
    "from pyspark.sql import DataFrame as Frame": "Frame",
    "import pyspark.sql": "pyspark.sql.DataFrame",
    "import pyspark.sql as ps": "ps.DataFrame",
    "from pyspark import sql": "sql.DataFrame",
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pyspark.sql import DataFrame": "DataFrame",
}


@pytest.mark.parametrize("imported", SPARK_IMPORTS)
def test_spark_is_picked_by_its_annotation_however_it_is_imported(shop: Any, imported: str) -> None:
    if "TYPE_CHECKING" not in imported:
        pytest.importorskip("pyspark")
    name = SPARK_IMPORTS[imported]
    text = f"@data_product(inputs={{'orders': 'shop/orders'}})\ndef totals(orders: {name}) -> pl.LazyFrame: ...\n"
    shop.totals(f"from __future__ import annotations\n{HEADER}{imported}\n{text}", suffix="py")
    assert shop.problems() == []
    assert dict(shop.derivation().transform.parameters) == {"orders": ("shop/orders", "spark")}
    assert shop.derivation().transform.returns == "polars"


def test_a_time_of_day_is_not_given_to_spark(shop: Any) -> None:
    shop.write("rates", "      - {name: at, logicalType: time}\n", servers=FILES)
    text = "@data_product(inputs={'rates': 'shop/rates'})\ndef totals(rates: DataFrame) -> pl.LazyFrame: ...\n"
    spark = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pyspark.sql import DataFrame\n"
    shop.totals(f"from __future__ import annotations\n{HEADER}{spark}{text}", suffix="py")
    (problem,) = shop.problems()
    assert (problem.code, "time of day" in problem.message) == ("spark-type", True)

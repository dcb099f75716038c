"""Transforms on Spark: what they read, what they give, and that the platform's laws hold as on any other engine."""

from __future__ import annotations

import random
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from platform_resources.config import SOURCE_ROOT, Settings
from platform_resources.contracts.iceberg import table_definition
from platform_resources.contracts.model import Contract
from platform_resources.contracts.registry import Registry
from platform_resources.engines.derivation import Derivation
from platform_resources.engines.duck import connect
from platform_resources.engines.loading import read_transform
from platform_resources.engines.sampling import RowSampler
from platform_resources.engines.spark import Spark, catalog_conf, jdbc_address, launch_conf, to_reader
from platform_resources.engines.transform import Transform
from platform_resources.engines.transpiling import portability_problems
from platform_resources.errors import PlatformError
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.reading import duckdb_scan_sql
from platform_resources.lakehouse.staging import stage_append
from platform_resources.lakehouse.stamp import Stamp, read_position
from platform_resources.sourcing import Source
from tests.engines import conftest as kit

REGISTRY = Registry.load(SOURCE_ROOT)
QUERIES = [key for key in REGISTRY.contracts if (path := REGISTRY.transform_path(key)) is not None and path.suffix == ".sql"]

TOTALS = "select shop, count(*) as orders, cast(sum(amount) as decimal(38,2)) as total from shop.orders group by shop"
ON_SPARK = "{property: engine, value: spark}"
SALES = """\
      - {name: order_id, logicalType: integer}
      - {name: shop, logicalType: string}
      - {name: amount, logicalType: number, physicalType: "decimal(18,2)"}
"""
FUNCTION = '''
from __future__ import annotations

from typing import TYPE_CHECKING

from platform_resources import data_product

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


@data_product(inputs={"orders": "shop/orders"})
def totals(orders: DataFrame) -> DataFrame:
    """What was sold."""
    return orders.where("amount > 0").select("shop", "amount", "order_id")
'''


@pytest.fixture
def shop(tmp_path: Path, spark: Spark) -> Any:
    return kit.Shop(tmp_path / "project", Settings(home=tmp_path / "home", spark_master="local[2]", spark_shuffle_partitions=2))


def order(number: int, name: str | None, day: int = 1) -> tuple[Any, ...]:
    return kit.order(number, name, f"{number}.00", day)  # type: ignore[no-any-return]


def test_a_product_is_read_at_a_snapshot_a_time_and_a_branch(shop: Any) -> None:
    first = shop.put("orders", order(1, "a"))
    shop.put("orders", order(2, "é"), order(3, None))
    orders = Source(shop.contract("orders"), shop.lakehouse)
    assert sorted(row.order_id for row in orders.spark().collect()) == [1, 2, 3]
    assert [row.shop for row in orders.at(first.snapshot_id).spark().collect()] == ["a"]
    table = shop.lakehouse.table("shop.orders")
    table.manage_snapshots().create_tag(first.snapshot_id, "v1").create_branch(first.snapshot_id, "refused/x").commit()
    assert [orders.at(name).spark().count() for name in ("v1", "refused/x")] == [1, 1]
    assert to_reader(orders.spark()).read_all().sort_by("order_id").to_pylist() == orders.arrow().sort_by("order_id").to_pylist()
    shop.put("orders", order(2, "b"), delete=[1, 2])  # what was merged away is away there, too
    assert sorted((row.order_id, row.shop) for row in orders.spark().collect()) == [(2, "b"), (3, None)]


def test_a_stream_is_read_without_the_column_whose_name_iceberg_keeps(tmp_path: Path, spark: Spark) -> None:
    contract, lakehouse = REGISTRY.get("mediawiki/revision_tags_change"), Lakehouse(Settings(home=tmp_path, spark_master="local[2]"))
    sampler, definition = RowSampler(contract, random.Random(1)), table_definition(contract)
    stage_append(lakehouse, definition, sampler.table(sampler.rows(20)), Stamp(run_id="put")).commit()
    frame = Source(contract, lakehouse).spark()
    assert frame.columns == [one.name for one in definition.schema.fields if one.name != "_partition"]
    arrow = Source(contract, lakehouse).arrow()
    assert sorted(row["_offset"] for row in frame.collect()) == sorted(arrow["_offset"].to_pylist())
    frame.createOrReplaceTempView("tagged")  # the join asks for statistics before the columns are chosen
    alone = "SELECT rev_id FROM tagged LEFT ANTI JOIN (SELECT rev_id AS other, count(*) FROM tagged GROUP BY 1) ON rev_id = other"
    assert frame.sparkSession.sql(alone).collect() == []
    asked = f"select _partition as p from {contract.identifier}"
    assert [problem.code for problem in portability_problems(asked, {contract.identifier: definition.schema}, "x.sql")] == [
        "sql-not-portable"
    ]


@pytest.mark.parametrize("incremental", ["full", "key"])
def test_a_query_on_spark_is_derived_as_on_duckdb(shop: Any, incremental: str) -> None:
    key = ", {property: incrementalKey, value: [shop]}" if incremental == "key" else ""
    shop.totals(TOTALS, incremental=incremental, more=ON_SPARK + key)
    assert shop.problems() == []
    shop.put("orders", order(1, "a"), order(2, "a"), order(3, None))
    assert shop.derive().plan == "full"
    assert shop.rows() == [("a", 2, Decimal("3.00")), (None, 1, Decimal("3.00"))]
    shop.put("orders", order(4, "b"), order(5, None), delete=[1])
    derived = shop.derive()
    assert derived.plan == incremental
    assert shop.rows() == [("a", 1, Decimal("2.00")), ("b", 1, Decimal("4.00")), (None, 2, Decimal("8.00"))]
    table = shop.lakehouse.table("shop.totals")
    assert read_position(table) == derived.position
    assert not shop.derivation().is_behind()


def test_partitions_are_recomputed_on_spark(shop: Any) -> None:
    days = """\
      - {name: day, logicalType: date, required: true, partitioned: true, customProperties: [{property: partitionTransform, value: month}]}
      - {name: orders, logicalType: integer}
"""
    query = "select cast(at as date) as day, count(*) as orders from shop.orders where at is not null group by 1"
    shop.totals(query, incremental="partition", more=ON_SPARK, properties=days)
    shop.put("orders", order(1, "a", 1), order(2, "a", 2))
    assert shop.derive().plan == "full"
    shop.put("orders", order(3, "b", 2))
    assert shop.derive().plan == "partition"
    assert [row[1] for row in shop.rows()] == [1, 2]
    assert shop.derive(partition="2026-01").plan == "partition"
    assert [row[1] for row in shop.rows()] == [1, 2]


def test_a_function_over_spark_is_given_only_what_was_added(shop: Any) -> None:
    shop.totals(FUNCTION, incremental="append", properties=SALES, suffix="py")
    assert shop.problems() == []
    shop.put("orders", order(1, "a"), order(0, "none"))
    assert shop.derive().plan == "full"
    shop.put("orders", order(2, "b"), order(3, "é"))
    assert shop.derive().plan == "append"
    assert shop.rows() == [(1, "a", Decimal("1.00")), (2, "b", Decimal("2.00")), (3, "é", Decimal("3.00"))]
    with pytest.raises(PlatformError, match="annotations say"):
        shop.derivation().stage(run_id="x", engine="duckdb")


def test_what_spark_says_fails_the_transform_with_one_sentence(shop: Any) -> None:
    shop.totals(FUNCTION.replace("amount > 0", "raise_error(shop) is null"), properties=SALES, suffix="py")
    shop.put("orders", order(1, "not for sale"))
    with pytest.raises(PlatformError) as failed:
        shop.derive()
    assert failed.value.code == "transform-failed"
    assert "not for sale" in failed.value.message and "\n" not in failed.value.message and "at org." not in failed.value.message
    shop.totals(FUNCTION.replace('"amount", "order_id"', '"amount"'), properties=SALES, suffix="py")
    with pytest.raises(PlatformError, match="order_id"):
        shop.derive()
    shop.totals(FUNCTION.replace("    return orders.where", "    return 1\n    orders.where"), properties=SALES, suffix="py")
    with pytest.raises(PlatformError, match=r"returned builtins.int, its annotation says pyspark\.sql\.DataFrame"):
        shop.derive()


def test_a_query_that_is_not_alike_is_refused_at_load_and_at_the_run(shop: Any) -> None:
    shop.totals(f"{TOTALS}\nhaving median(amount) > 0", more=ON_SPARK)
    (problem,) = shop.problems()
    assert (problem.code, problem.line) == ("sql-not-portable", 2)
    shop.totals(f"{TOTALS}\nhaving median(amount) > 0")
    assert shop.problems() == []
    shop.put("orders", order(1, "a"))
    with pytest.raises(PlatformError, match="MEDIAN"):
        shop.derive(engine="spark")
    assert shop.derive(engine="duckdb").plan == "full"


def test_results_of_many_batches_come_in_order_of_nothing_and_without_loss(spark: Spark) -> None:
    reader = to_reader(spark.session.range(0, 250_000, 1, 3).selectExpr("id", "cast(id as string) as text"))
    sizes, total = [], 0
    for batch in reader:
        sizes.append(batch.num_rows)
        total += sum(batch.column(0).to_pylist())
    assert (sum(sizes), total) == (250_000, 250_000 * 249_999 // 2)
    assert max(sizes) <= 10_000


# One domain's by default: a query takes seconds, and every domain adds some.
@pytest.mark.parametrize("key", [key if key.startswith("activity/") else pytest.param(key, marks=pytest.mark.storm) for key in QUERIES])
def test_every_query_of_the_workspace_is_equal_on_both_engines_or_refused(key: str, tmp_path: Path, spark: Spark) -> None:
    contract = REGISTRY.get(key)
    transform = read_transform(contract, REGISTRY)
    assert transform is not None
    schemas = {REGISTRY.get(name).identifier: table_definition(REGISTRY.get(name)).schema for name in transform.inputs}
    if portability_problems(transform.text or "", schemas, key):
        assert contract.domain != "activity"
        lakehouse, settings = Lakehouse(Settings(home=tmp_path)), Settings(home=tmp_path, spark_master="local[2]")
        with pytest.raises(PlatformError, match="otherwise than DuckDB"):
            Derivation(contract, transform, lakehouse=lakehouse, registry=REGISTRY, settings=settings).stage(run_id="x", engine="spark")
        return
    # a product that shows great numbers only gives nothing of a few rows
    assert compared(contract, transform, tmp_path / "few", 150, 8) or compared(contract, transform, tmp_path / "many", 2_400, 1)


def _pseudonyms(contract: Contract) -> tuple[str, ...]:
    return tuple(path for path, column in contract.walk() if "pii:pseudonym" in column.tags)


def compared(contract: Contract, transform: Transform, home: Path, number: int, values: int) -> int:
    """How many rows both engines gave, over inputs of this many drawn rows and distinct values."""
    settings = Settings(home=home, spark_master="local[2]", spark_shuffle_partitions=2)
    lakehouse = Lakehouse(settings)
    chance = random.Random(20260121)
    samplers = {}
    for name in transform.inputs:
        traced = {expression.replace('"', "") for place in transform.keys.get(name, ()) for expression in place}
        # what tells nobody apart may tell of many people only; what does is counted from a threshold on for one
        people = () if values > 1 or _pseudonyms(contract) else _pseudonyms(REGISTRY.get(name))
        samplers[name] = RowSampler(REGISTRY.get(name), chance, values=values, few=traced, many=people, nulls=0.15)
    derivation = Derivation(contract, transform, lakehouse=lakehouse, registry=REGISTRY, settings=settings)
    with connect(settings) as con:
        rows: list[Any] = []
        for step in range(2):
            for name, sampler in samplers.items():
                definition, drawn = table_definition(REGISTRY.get(name)), sampler.rows(number)
                if REGISTRY.get(name).is_stream:
                    drawn += [sampler.redelivered(row) for row in chance.sample(drawn, k=10)]
                else:
                    keys = definition.primary_key
                    drawn = list({tuple(row[one] for one in keys): row for row in drawn}.values()) if keys else drawn
                stage_append(lakehouse, definition, sampler.table(drawn), Stamp(run_id=f"put-{name}-{step}")).commit()
            for engine in ("spark", "duckdb"):
                derived = derivation.stage(run_id=f"{engine}-{step}", engine=engine, recompute=engine == "duckdb")
                assert derived.staged is not None, derived.reason
                derived.staged.commit()
                whole = engine == "duckdb" or not step or transform.untraced  # every input changed, also one that traces no key
                assert derived.plan == ("full" if whole else contract.incremental)
                table = lakehouse.table(contract.identifier)
                con.execute(f"CREATE OR REPLACE TABLE by_{engine} AS SELECT * FROM {duckdb_scan_sql(table)}")
            extra = con.execute("FROM by_spark EXCEPT ALL FROM by_duckdb").fetchall()
            missing = con.execute("FROM by_duckdb EXCEPT ALL FROM by_spark").fetchall()
            assert not extra and not missing, f"step {step}\nonly Spark: {extra[:3]}\nonly DuckDB: {missing[:3]}"
            rows = con.execute("SELECT count(*) FROM by_spark").fetchall()
    return int(rows[0][0])


def test_settings_become_the_words_of_spark(tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path, spark_master="spark://h:7077", spark_jars="a.jar", spark_executors=2, spark_executor_cores=3,
        spark_executor_memory="2g", spark_dynamic_allocation=True, spark_max_executors=9, spark_conf={"spark.x": "y"},
    )  # fmt: skip
    conf = launch_conf(settings)
    wanted = {
        "spark.master": "spark://h:7077", "spark.jars": "a.jar", "spark.executor.instances": "2", "spark.executor.cores": "3",
        "spark.cores.max": "6", "spark.executor.memory": "2g", "spark.dynamicAllocation.enabled": "true",
        "spark.dynamicAllocation.maxExecutors": "9", "spark.sql.session.timeZone": "UTC", "spark.sql.ansi.enabled": "true", "spark.x": "y",
    }  # fmt: skip
    assert conf.items() >= wanted.items()
    packages = launch_conf(settings.model_copy(update={"spark_jars": None, "spark_packages": "g:a:1"}))
    assert packages["spark.jars.packages"] == "g:a:1" and "spark.jars" not in packages


def test_a_spark_that_cannot_start_is_no_fault_of_the_transform(spark: Spark, tmp_path: Path) -> None:
    asked = """
import sys
from pathlib import Path
from io_managers.spark import SparkResource
from platform_resources.config import Settings
from platform_resources.engines.spark import Spark
from platform_resources.errors import PlatformError

settings = Settings(home=Path(sys.argv[1]), spark_master="bogus")
for engine in (SparkResource(settings).engine, Spark(settings)):
    try:
        print(engine.session)
    except PlatformError as error:
        print(error.code, error.message)
"""
    ran = subprocess.run(
        [sys.executable, "-c", asked, str(tmp_path)], capture_output=True, text=True, cwd=SOURCE_ROOT, check=True, timeout=120
    )
    assert [line.startswith("spark-start-failed Spark did not start on bogus: ") for line in ran.stdout.splitlines()] == [True, True]


def test_the_catalog_is_that_of_pyiceberg_and_its_secrets_are_on_no_command_line(tmp_path: Path) -> None:
    assert jdbc_address("postgresql+psycopg2://me:a%40b@db:5432/lake?sslmode=require") == (
        "jdbc:postgresql://db:5432/lake?sslmode=require", "me", "a@b",
    )  # fmt: skip
    settings = Settings(
        home=tmp_path, warehouse="s3://lake/w", catalog_uri="postgresql://me:hunter2@db/lake", s3_endpoint="http://s3:1",
        s3_access_key="key-of-mine", s3_secret_key="hunter3", spark_jars="a.jar",
    )  # fmt: skip
    conf = catalog_conf(settings)
    assert conf["spark.sql.catalog.sdp.jdbc.password"] == "hunter2"
    assert conf["spark.sql.catalog.sdp.s3.secret-access-key"] == "hunter3"
    assert conf["spark.sql.catalog.sdp.jdbc.schema-version"] == "V1"
    launched = repr(launch_conf(settings))
    assert not [secret for secret in ("hunter2", "hunter3", "key-of-mine") if secret in launched or secret in repr(settings)]
    rest = catalog_conf(settings.model_copy(update={"catalog_type": "rest", "catalog_uri": "http://rest"}))
    assert (rest["spark.sql.catalog.sdp.type"], rest["spark.sql.catalog.sdp.uri"]) == ("rest", "http://rest")


def test_a_run_in_dagster_takes_its_session_from_pyspark_resource(shop: Any) -> None:
    import dagster as dg
    from dagster_pyspark import LazyPySparkResource
    from pyspark.sql import DataFrame

    from data_products.derived_assets import DerivedProduct, derived_asset
    from io_managers.iceberg import IcebergIOManager
    from io_managers.spark import SparkResource
    from platform_resources.parts import Parts
    from platform_resources.runs import transform_config

    shop.totals(TOTALS)
    shop.put("orders", order(1, "a"), order(2, "a"))
    parts = Parts(shop.settings, registry=shop.registry, lakehouse=shop.lakehouse)
    transform = read_transform(shop.contract(), parts.registry)
    assert transform is not None
    asset = derived_asset(DerivedProduct(shop.contract(), transform, parts))
    spark = SparkResource(shop.settings)
    resources = {"io_manager": IcebergIOManager(parts), "spark": spark}
    made = dg.materialize([asset], resources=resources, run_config=transform_config("shop/totals", engine="spark"))
    assert made.success
    assert isinstance(spark._resource, LazyPySparkResource)
    assert shop.rows() == [("a", 2, Decimal("3.00"))]

    def rates(totals):  # type: ignore[no-untyped-def]
        return totals.selectExpr("shop", "orders as rate")

    rates.__annotations__ = {"totals": DataFrame, "return": DataFrame}
    made_of = {"totals": dg.AssetIn(key=["shop", "totals"])}
    by_hand = dg.asset(key=["shop", "rates"], ins=made_of)(rates)
    totals = dg.AssetSpec(["shop", "totals"]).with_io_manager_key("io_manager")
    assert dg.materialize([by_hand, totals], selection=[by_hand], resources=resources).success
    assert shop.rows("rates") == [("a", 2)]

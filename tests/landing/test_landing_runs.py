"""Landing as Dagster runs it: real files, sensor ticks, ranges and backfills, refused deliveries, the foreground command's facts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from platform_resources.config import Settings
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.reading import arrow_table
from platform_resources.runs import REPORT, failed_tag
from tests.dagster_layer.conftest import DOMAIN, Location

CONTRACT = """\
apiVersion: v3.2.0
kind: DataContract
id: shop.{name}
version: 1.0.0
status: active
description: {{purpose: What was sold.}}
servers:
  - server: drop
    type: custom
    customProperties:
      - {{property: source, value: files}}
      - {{property: path, value: "{path}"}}
      - {{property: complete, value: 0 seconds}}
{server}schema:
  - name: {name}
    logicalType: object
    quality:
      - {{name: not_too_many, metric: rowCount, mustBeLessThan: 4}}
    properties:
      - {{name: article, logicalType: string, required: true, primaryKey: true, description: Article.}}
      - {{name: sold, logicalType: integer, description: Pieces.}}
"""
START = "      - {property: start, value: 2026-01-01}\n"


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    root = tmp_path / "project"
    folder = root / "data_products" / "shop"
    folder.mkdir(parents=True)
    (folder / "domain.yaml").write_text(DOMAIN.format(name="shop", title="Shop"))
    (folder / "sale.yaml").write_text(CONTRACT.format(name="sale", path="sales/{slice:%Y-%m-%d}.csv", server=START))
    (folder / "price.yaml").write_text(CONTRACT.format(name="price", path="prices/*.csv", server=""))
    (root / "workspace.yaml").write_text(
        "load_from:\n  - python_module: {module_name: data_products.shop.definitions, location_name: shop, working_directory: .}\n"
    )
    return Settings(project=root, home=tmp_path / "home", duckdb_threads=1)


@pytest.fixture
def shop(home: Settings, tmp_path: Path) -> Iterator[Location]:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        yield Location("shop", home, instance)


def drop(home: Settings, name: str, *rows: str) -> None:
    path = home.drop_path / "shop" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["article,sold", *rows]) + "\n")


def rows(home: Settings, identifier: str, *columns: str) -> list[tuple[Any, ...]]:
    table = Lakehouse(home).table(identifier)
    found = [] if table is None else arrow_table(table).to_pylist()
    return sorted((tuple(row[name] for name in columns or ("article", "sold")) for row in found), key=repr)


def partitions(shop: Location, key: str) -> set[str]:
    return set(shop.instance.get_materialized_partitions(dg.AssetKey(key.split("/"))))


def test_the_sensor_lands_what_was_dropped_and_then_rests(home: Settings, shop: Location) -> None:
    assert shop.tick("landing").skip_message == "Everything that is there has landed."
    drop(home, "sales/2026-01-01.csv", "tea,3", "milk,x")
    drop(home, "sales/2026-01-03.csv", "tea,4")
    drop(home, "prices/a.csv", "tea,120")
    requests = {request.asset_selection[0].to_user_string(): request for request in shop.tick("landing").run_requests}
    assert set(requests) == {"shop/sale", "shop/price"}
    assert shop.execute(requests["shop/sale"]).success
    assert shop.execute(requests["shop/price"]).success
    assert rows(home, "shop.sale") == [("tea", 3), ("tea", 4)]
    assert rows(home, "shop.price", "article", "_file_name", "_line") == [("tea", "prices/a.csv", 2)]
    assert rows(home, "shop.sale__quarantine", "_file_name", "_line", "path") == [("sales/2026-01-01.csv", 3, "sold")]
    assert partitions(shop, "shop/sale") == {"2026-01-01", "2026-01-03"}
    assert shop.tick("landing").skip_message == "Everything that is there has landed."
    drop(home, "sales/2026-01-01.csv", "tea,5")
    (request,) = shop.tick("landing").run_requests
    assert shop.execute(request).success
    assert rows(home, "shop.sale") == [("tea", 4), ("tea", 5)]


def test_a_commit_is_told_with_its_facts(home: Settings, shop: Location) -> None:
    drop(home, "sales/2026-01-01.csv", "tea,3", "milk,x")
    (request,) = shop.tick("landing").run_requests
    result = shop.execute(request)
    (told,) = (entry.asset_materialization for entry in shop.events("shop/sale"))
    assert told.partition == "2026-01-01"
    assert told.metadata["sdp/counts"].value == {"read": 2, "inserted": 1, "quarantined": 1}
    assert told.metadata["dagster/row_count"].value == 1
    assert told.metadata["sdp/watermark"].value == 1767312000.0  # 2026-01-02
    (ended,) = shop.events("shop/sale", dg.DagsterEventType.ASSET_OBSERVATION)
    report = ended.asset_observation.metadata[REPORT].value
    assert {name: report[name] for name in ("read", "inserted", "slices", "refused", "absent")} == {
        "read": 2, "inserted": 1, "slices": ["2026-01-01"], "refused": [], "absent": [],
    }  # fmt: skip
    assert [check.passed for check in result.get_asset_check_evaluations()] == [True]


def test_a_range_backfill_in_one_run_lands_its_slices_anew(home: Settings, shop: Location) -> None:
    for day in (1, 2, 3):
        drop(home, f"sales/2026-01-0{day}.csv", f"tea,{day}")
    tags = {"dagster/asset_partition_range_start": "2026-01-02", "dagster/asset_partition_range_end": "2026-01-03"}
    for _ in range(2):
        assert shop.execute(None, "shop/sale", tags=tags).success
    assert rows(home, "shop.sale") == [("tea", 2), ("tea", 3)]
    assert partitions(shop, "shop/sale") == {"2026-01-02", "2026-01-03"}
    assert [entry.asset_materialization.partition for entry in shop.events("shop/sale")] == ["2026-01-02", "2026-01-03"] * 2


def test_a_backfill_names_the_slices_that_nobody_delivered(home: Settings, shop: Location) -> None:
    drop(home, "sales/2026-01-02.csv", "tea,2")
    tags = {"dagster/asset_partition_range_start": "2026-01-01", "dagster/asset_partition_range_end": "2026-01-03"}
    result = shop.execute(None, "shop/sale", tags=tags)
    assert not result.success
    assert rows(home, "shop.sale") == [("tea", 2)]
    assert "Nothing was delivered for 2026-01-01, 2026-01-03." in str(
        result.get_step_failure_events()[0].step_failure_data.user_failure_data
    )


def test_a_refused_delivery_fails_the_run_but_not_its_neighbours_and_then_rests(home: Settings, shop: Location) -> None:
    drop(home, "prices/a.csv", "tea,1")
    drop(home, "prices/b.csv", "a,1", "b,2", "c,3", "d,4")
    (request,) = shop.tick("landing").run_requests
    result = shop.execute(request)
    assert not result.success
    failure = result.get_step_failure_events()[0].step_failure_data.user_failure_data
    assert failure is not None
    assert "prices/b.csv was refused (check:not_too_many)" in str(failure.description)
    assert rows(home, "shop.price") == [("tea", 1)]
    run = shop.instance.get_run_by_id(result.run_id)
    assert run is not None
    assert run.tags[failed_tag("shop/price")] == "deliveries"
    tick = shop.tick("landing")
    assert tick.run_requests == []
    assert "prices/b.csv was refused" in tick.skip_message
    drop(home, "prices/b.csv", "milk,2")
    (request,) = shop.tick("landing").run_requests
    assert shop.execute(request).success
    assert rows(home, "shop.price") == [("milk", 2), ("tea", 1)]


def test_a_source_that_cannot_be_looked_at_is_told_and_stops_no_other(home: Settings, tmp_path: Path) -> None:
    folder = home.project / "data_products" / "shop"
    text = (folder / "price.yaml").read_text()
    (folder / "price.yaml").write_text(
        text.replace("      - {property: complete", "      - {property: connection, value: gone}\n      - {property: complete")
    )
    settings = home.model_copy(update={"connections": {"gone": _secret(f"file://{tmp_path}/nowhere")}})
    drop(home, "sales/2026-01-01.csv", "tea,1")
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        shop = Location("shop", settings, instance)
        (request,) = shop.tick("landing").run_requests
        assert request.asset_selection[0].to_user_string() == "shop/sale"


def _secret(text: str) -> Any:
    from pydantic import SecretStr

    return SecretStr(text)

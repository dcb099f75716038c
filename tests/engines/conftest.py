"""A small shop: two inputs in a project of their own, and products to be derived from them with any transform."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from platform_resources.config import Settings
from platform_resources.contracts.iceberg import MergeRule, table_definition
from platform_resources.contracts.model import Contract
from platform_resources.contracts.registry import Registry
from platform_resources.engines.derivation import Derivation, Derived
from platform_resources.engines.loading import check_transform, read_transform
from platform_resources.errors import Problem
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.conforming import arrow_schema_of
from platform_resources.lakehouse.reading import arrow_table
from platform_resources.lakehouse.staging import Commit, stage_append, stage_merge
from platform_resources.lakehouse.stamp import Stamp

HEAD = """\
apiVersion: v3.2.0
kind: DataContract
id: shop.{name}
version: 1.0.0
status: draft
description: {{purpose: A test.}}
{servers}schema:
  - name: {name}
    logicalType: object
    customProperties: [{custom}]
    quality: [{quality}]
    properties:
"""
FILES = """\
servers:
  - {server: tests, type: custom, customProperties: [{property: source, value: platform}]}
"""
ORDERS = """\
      - {name: order_id, logicalType: integer, required: true, primaryKey: true, primaryKeyPosition: 1}
      - {name: shop, logicalType: string}
      - {name: customer, logicalType: object, properties: [{name: name, logicalType: string}, {name: tier, logicalType: integer}]}
      - {name: amount, logicalType: number, physicalType: "decimal(18,2)"}
      - {name: at, logicalType: timestamp}
"""
RATES = """\
      - {name: shop, logicalType: string, required: true, primaryKey: true, primaryKeyPosition: 1}
      - {name: rate, logicalType: integer}
"""
TOTALS = """\
      - {name: shop, logicalType: string}
      - {name: orders, logicalType: integer}
      - {name: total, logicalType: number, physicalType: "decimal(38,2)"}
"""


class Shop:
    """The project: write products, put rows into the inputs, derive, read."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self.settings = folder, settings.model_copy(update={"project": folder})
        self.domain = folder / "data_products" / "shop"
        self.domain.mkdir(parents=True)
        (folder / "workspace.yaml").write_text("load_from: []\n")
        (self.domain / "domain.yaml").write_text(
            "name: shop\ntitle: Shop\nowners: [team:shop]\nsupport: [{channel: a@example.org, tool: email}]\n"
        )
        self.write("orders", ORDERS, servers=FILES)
        self.write("rates", RATES, servers=FILES)
        self.lakehouse = Lakehouse(self.settings)
        self.runs = 0
        self.strategy = "auto"  # how `put` merges

    def write(self, name: str, properties: str, *, custom: str = "", quality: str = "", servers: str = "") -> None:
        text = HEAD.format(name=name, custom=custom, quality=quality, servers=servers) + properties
        (self.domain / f"{name}.yaml").write_text(text)

    def totals(
        self, transform: str, *, incremental: str = "full", more: str = "", properties: str = TOTALS, quality: str = "", suffix: str = "sql"
    ) -> None:
        """The product `shop.totals` with a transform."""
        custom = f"{{property: incremental, value: {incremental}}}{', ' + more if more else ''}"
        self.write("totals", properties, custom=custom, quality=quality)
        for other in ("sql", "py"):
            (self.domain / f"totals.{other}").unlink(missing_ok=True)
        (self.domain / f"totals.{suffix}").write_text(transform)

    @property
    def registry(self) -> Registry:
        registry = Registry.load(self.folder)
        faults = [problem for problem in registry.problems if problem.severity == "error"]
        assert not faults, faults
        return registry

    def contract(self, name: str = "totals") -> Contract:
        return self.registry.get(f"shop/{name}")

    def problems(self) -> list[Problem]:
        return check_transform(self.contract(), self.registry)

    def put(self, name: str, *rows: Iterable[Any], delete: Iterable[Any] = ()) -> Commit:
        """Append rows (tuples in column order), or merge them by primary key where something is deleted or replaced."""
        definition = replace(table_definition(self.contract(name)), merge=MergeRule(self.strategy))
        names = [field.name for field in definition.schema.fields]
        data = pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema=arrow_schema_of(definition.schema))
        self.runs += 1
        stamp, keys = Stamp(run_id=f"put-{self.runs}"), definition.primary_key
        gone = list(delete)
        if gone:
            table = pa.table({keys[0]: pa.array(gone)})
            return stage_merge(self.lakehouse, definition, data, stamp, keys=keys, delete_keys=table, replace_keys=True).commit()
        return stage_append(self.lakehouse, definition, data, stamp).commit()

    def derivation(self) -> Derivation:
        registry = self.registry
        contract = registry.get("shop/totals")
        transform = read_transform(contract, registry)
        assert transform is not None
        return Derivation(contract, transform, lakehouse=self.lakehouse, registry=registry, settings=self.settings)

    def derive(self, **options: Any) -> Derived:
        self.runs += 1
        derived = self.derivation().stage(**{"run_id": f"run-{self.runs}", **options})
        if derived.staged is not None:
            derived.staged.commit()
        return derived

    def rows(self, name: str = "totals") -> list[tuple[Any, ...]]:
        table = self.lakehouse.table(f"shop.{name}")
        assert table is not None
        return sorted((tuple(row.values()) for row in arrow_table(table).to_pylist()), key=repr)


def order(number: int, shop: str | None, amount: str = "1.00", day: int = 1) -> tuple[Any, ...]:
    """An order row."""
    from datetime import UTC, datetime

    return number, shop, {"name": "n", "tier": 1}, Decimal(amount), datetime(2026, 1, day, 12, tzinfo=UTC)


@pytest.fixture
def shop(tmp_path: Path, settings: Settings) -> Shop:
    return Shop(tmp_path / "project", settings)


@pytest.fixture
def an_order() -> Any:
    return order

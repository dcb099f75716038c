"""A source that a test fills by hand, and the product that lands from it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from platform_resources.config import Settings
from platform_resources.contracts.iceberg import arrow_type
from platform_resources.contracts.model import Contract, Domain
from platform_resources.contracts.reading import read_contract
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.reading import arrow_table
from platform_resources.landing.landing import Landing
from platform_resources.landing.reports import LandingReport
from platform_resources.landing.source import Block, Delivery, DeliveryRefused, Landed, RefusedRecord

NOW = datetime(2026, 2, 1, 12, tzinfo=UTC)

CONTRACT = """\
apiVersion: v3.2.0
kind: DataContract
id: shop.orders
version: 1.0.0
status: draft
description: {{purpose: Orders.}}
servers:
  - server: drop
    type: custom
    customProperties:
      - {{property: source, value: files}}
      - {{property: path, value: "{path}"}}
{server}schema:
  - name: orders
    logicalType: object
    customProperties: [{custom}]
    quality: [{quality}]
    properties:
      - {{name: order_id, logicalType: integer, required: true, primaryKey: true}}
      - {{name: state, logicalType: string, quality: [{state}]}}
      - {{name: amount, logicalType: integer}}
      - {{name: at, logicalType: timestamp}}
"""
SLICED = {"path": "{slice:%Y-%m-%d}/*.csv", "server": "      - {property: start, value: 2026-01-01}\n"}

BAD = "bad"  # a record that is no row
BROKEN = "broken"  # a delivery that cannot be read on from here


def contract_of(
    settings: Settings, *, path: str = "*.csv", server: str = "", custom: str = "", quality: str = "", state: str = ""
) -> Contract:
    """The contract of `shop/orders`."""
    folder = settings.project / "data_products" / "shop"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "orders.yaml"
    file.write_text(CONTRACT.format(path=path, server=server, custom=custom, quality=quality, state=state))
    contract, problems = read_contract(file, domain=Domain("shop", folder, owners=("team:shop",)), project=settings.project)
    assert contract is not None, problems
    return contract


@dataclass
class Drops:
    """Deliveries by name, each a list of records: (order_id, state[, amount[, at]]), `BAD`, or `BROKEN`. `reads` counts what was read."""

    contract: Contract
    files: dict[str, list[Any]] = field(default_factory=dict)
    reads: list[str] = field(default_factory=list)

    def pending(self, landed: Landed) -> Sequence[Delivery]:
        found = [Delivery(name, self.version(name), self.slice_of(name)) for name in self.files]
        return sorted((d for d in found if landed.get(d.name) != d.version), key=lambda d: (d.slice or NOW, d.name))

    def version(self, name: str) -> str:
        return hashlib.sha256(repr(self.files[name]).encode()).hexdigest()[:16]

    def slice_of(self, name: str) -> datetime | None:
        return datetime.fromisoformat(name.split("/", maxsplit=1)[0]).replace(tzinfo=UTC) if self.contract.slices is not None else None

    def read(self, delivery: Delivery) -> Iterator[Block]:
        self.reads.append(delivery.name)
        records = list(enumerate(self.files[delivery.name], start=1))
        for start in range(0, len(records), 3):
            some = records[start : start + 3]
            rows = [(line, record) for line, record in some if isinstance(record, tuple)]
            refused = [RefusedRecord(line, b"raw", "type-mismatch", "amount", "It is bad.") for line, record in some if record == BAD]
            yield Block(_rows(self.contract, [record for _, record in rows]), pa.array([line for line, _ in rows], pa.int64()), refused)
            if any(record == BROKEN for _, record in some):
                raise DeliveryRefused("file-broken", f"{delivery.name} ends in the middle.", "Copy it again.")

    def reached(self, delivery: Delivery) -> Landed:
        return {delivery.name: delivery.version}


def _rows(contract: Contract, records: Sequence[tuple[Any, ...]]) -> pa.Table:
    columns = {
        column.name: pa.array([record[i] if i < len(record) else None for record in records], arrow_type(column.type))
        for i, column in enumerate(contract.columns)
    }
    return pa.table(columns)


class Shop:
    """The product, its source, and looks at its tables."""

    def __init__(self, settings: Settings, lakehouse: Lakehouse) -> None:
        self.settings, self.lakehouse = settings, lakehouse
        self.now, self.runs = NOW, 0
        self.define()

    def define(self, **options: str) -> Shop:
        """Say what the contract is; what the source has stays."""
        files = self.drops.files if hasattr(self, "drops") else {}
        self.contract = contract_of(self.settings, **options)
        self.drops = Drops(self.contract, files)
        return self

    @property
    def files(self) -> dict[str, list[Any]]:
        return self.drops.files

    def land(self, *, run_id: str | None = None, **options: Any) -> LandingReport:
        self.runs += 1
        self.now += timedelta(seconds=1)
        landing = Landing(
            self.contract, lakehouse=self.lakehouse, settings=self.settings, run_id=run_id or f"run-{self.runs}", source=self.drops,
            clock=lambda: self.now, **options,
        )  # fmt: skip
        return landing.run()

    def rows(self, *columns: str) -> list[tuple[Any, ...]]:
        """The rows, sorted; default columns: order_id, state."""
        return _read(self.lakehouse, self.contract.identifier, columns or ("order_id", "state"))

    def aside(self, *columns: str) -> list[tuple[Any, ...]]:
        """The quarantine's rows; default columns: _file_name, _line, reason."""
        return _read(self.lakehouse, self.contract.quarantine_identifier, columns or ("_file_name", "_line", "reason"))

    def expected(self) -> list[tuple[Any, ...]]:
        """What a landing of everything leaves of good files, plain Python."""
        good = {name: records for name, records in self.files.items() if BROKEN not in records}
        return sorted((r[0], r[1]) for records in good.values() for r in records if isinstance(r, tuple))

    def snapshots(self) -> int:
        table = self.lakehouse.table(self.contract.identifier)
        return 0 if table is None else len(table.metadata.snapshots)

    def position(self) -> Mapping[str, Any] | None:
        from platform_resources.lakehouse.stamp import read_position

        table = self.lakehouse.table(self.contract.identifier)
        return None if table is None else read_position(table)


def _read(lakehouse: Lakehouse, identifier: str, columns: Sequence[str]) -> list[tuple[Any, ...]]:
    table = lakehouse.table(identifier)
    if table is None:
        return []
    return sorted((tuple(row[name] for name in columns) for row in arrow_table(table).to_pylist()), key=repr)

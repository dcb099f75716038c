"""The quarantine table of a landed product: records that are no rows, deliveries that were refused whole, and when these are tried again.

Its rows are replaced by delivery, as the product's are, so that landing twice leaves them once.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.transforms import DayTransform
from pyiceberg.types import BinaryType, LongType, NestedField, StringType, TimestamptzType

from platform_resources.contracts.iceberg import TableDefinition, slice_column
from platform_resources.contracts.model import Contract
from platform_resources.contracts.sources import FILE_KINDS
from platform_resources.lakehouse.conforming import arrow_schema_of, empty_rows
from platform_resources.lakehouse.files import live_tasks, read_task
from platform_resources.lakehouse.stamp import REFUSED_DELIVERIES, format_instant, parse_instant, read_stamp
from platform_resources.landing.source import Delivery, RefusedRecord

RETENTION_DAYS = 30
KEY = ("_file_name", "_file_hash", "_line")
FIRST_DELAY, LONGEST_DELAY = timedelta(minutes=1), timedelta(hours=1)
_RAW_BYTES = 1 << 20  # of a record that is kept; the rest of a longer one can be found in the delivery


def quarantine_definition(contract: Contract) -> TableDefinition:
    """By day of landing, restricted, kept 30 days, no bounds of raw bytes in manifests."""
    fields = (
        NestedField(1, "_file_name", StringType(), required=True, doc="Name of the delivery."),
        NestedField(2, "_file_hash", StringType(), required=True, doc="Version of the delivery."),
        NestedField(3, "_line", LongType(), required=False, doc="Line or record number from 1; null: the whole delivery was refused."),
        slice_column(contract, required=False),
        NestedField(5, "_landed_at", TimestamptzType(), required=True, doc="When the platform wrote the row, UTC."),
        NestedField(6, "raw", BinaryType(), required=False, doc="The record as it stands in the delivery, at most 1 MiB."),
        NestedField(7, "reason", StringType(), required=True, doc="Stable code: why it is no row of the product."),
        NestedField(8, "path", StringType(), required=False, doc="The column."),
        NestedField(9, "detail", StringType(), required=False, doc="What was found there, one sentence."),
        NestedField(10, "contract_version", StringType(), required=True, doc="Version of the contract that refused it."),
        NestedField(11, "run_id", StringType(), required=True, doc="Run that refused it."),
        NestedField(12, "status", StringType(), required=True, doc="`new` until somebody repairs or discards the record."),
    )
    return TableDefinition(
        identifier=contract.quarantine_identifier,
        schema=Schema(*fields),
        partition_spec=PartitionSpec(
            PartitionField(source_id=5, field_id=1000, transform=DayTransform(), name="_landed_at_day"), spec_id=0
        ),
        sort_order=UNSORTED_SORT_ORDER,
        properties={
            "sdp.classification": "restricted",
            "sdp.retention-days": str(RETENTION_DAYS),
            "sdp.quarantine-of": contract.identifier,
            "write.metadata.metrics.column._file": "full",
            "write.metadata.metrics.column.raw": "none",
            "write.metadata.metrics.column.detail": "none",
        },
        primary_key=KEY,
        write_mode="append",
    )


class Aside:
    """Refused records of one landing, kept in a file until its deliveries have been read to their end. Close it."""

    def __init__(self, contract: Contract, *, landed_at: datetime, run_id: str, folder: Path) -> None:
        self._contract, self._landed_at, self._run_id, self._folder = contract, landed_at, run_id, folder
        self.schema = arrow_schema_of(quarantine_definition(contract).schema)
        self.rows = 0
        self._file: Any = None
        self._writer: Any = None

    def put(self, delivery: Delivery, records: Sequence[RefusedRecord]) -> None:
        """Keep some records of a delivery."""
        if not records:
            return
        if self._writer is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._file = NamedTemporaryFile(dir=self._folder, suffix=".arrow")  # noqa: SIM115 - closed by `close`
            self._writer = pa.ipc.new_file(self._file.name, self.schema)
        self._writer.write_table(self._table(delivery, records))
        self.rows += len(records)

    def read(self) -> pa.Table | None:
        """The rows, mapped from the file; None where none was put. Nothing can be put any more."""
        if self._writer is None:
            return None
        self._writer.close()
        return pa.ipc.open_file(pa.memory_map(self._file.name)).read_all()

    @staticmethod
    def empty(contract: Contract) -> pa.Table:
        """No rows of the table."""
        return empty_rows(arrow_schema_of(quarantine_definition(contract).schema))

    def close(self) -> None:
        """Delete the file."""
        if self._file is not None:
            self._writer.close()
            self._file.close()

    def _table(self, delivery: Delivery, records: Sequence[RefusedRecord]) -> pa.Table:
        n, slices = len(records), self._contract.slices
        of_slice = None if slices is None or delivery.slice is None else slices.value(delivery.slice)
        columns: dict[str, Iterable[Any]] = {
            "_file_name": [delivery.name] * n,
            "_file_hash": [delivery.version] * n,
            "_line": [record.line for record in records],
            "_slice": [of_slice] * n,
            "_landed_at": [self._landed_at] * n,
            "raw": [None if record.raw is None else record.raw[:_RAW_BYTES] for record in records],
            "reason": [record.reason for record in records],
            "path": [_text(record.path) for record in records],
            "detail": [_text(record.detail) for record in records],
            "contract_version": [self._contract.version] * n,
            "run_id": [self._run_id] * n,
            "status": ["new"] * n,
        }
        return pa.Table.from_arrays([pa.array(columns[field.name], field.type) for field in self.schema], schema=self.schema)


def _text(value: str) -> str | None:
    return value.encode("utf-8", "replace").decode() or None


@dataclass(frozen=True)
class RefusedDelivery:
    """A delivery that was refused whole: in which version, under which contract, why, how often, and when last."""

    version: str
    fingerprint: str
    code: str
    attempt: int
    at: datetime

    @property
    def until(self) -> datetime:
        """Until when it rests: 1 minute after the first refusal, then doubling, at most 1 hour."""
        return self.at + min(LONGEST_DELAY, FIRST_DELAY * int(2 ** min(self.attempt - 1, 10)))

    def holds(self, delivery: Delivery, contract: Contract) -> bool:
        """Whether it says anything of the delivery as it is now, under the contract as it is now.

        What a database or an API gives has a new version whenever it is looked at, so that tells nothing of a change.
        """
        same = self.version == delivery.version or (contract.source is not None and contract.source.kind not in FILE_KINDS)
        return same and self.fingerprint == contract.fingerprint


def refused_deliveries(quarantine: Table | None) -> dict[str, RefusedDelivery]:
    """The deliveries that were refused and have not landed since, by name."""
    told = read_stamp(quarantine, REFUSED_DELIVERIES)[0] if quarantine is not None else None
    found: Mapping[str, dict[str, Any]] = json.loads(told) if told else {}
    return {name: RefusedDelivery(**{**facts, "at": parse_instant(facts["at"])}) for name, facts in found.items()}


def stamped_refusals(refused: Mapping[str, RefusedDelivery]) -> str:
    """As the stamp says it."""
    return json.dumps({name: {**asdict(one), "at": format_instant(one.at)} for name, one in sorted(refused.items())}, separators=(",", ":"))


def deliveries_aside(quarantine: Table) -> set[str]:
    """The deliveries that have records in the quarantine."""
    found = set[str]()
    for task in live_tasks(quarantine.io, quarantine.current_snapshot(), ".".join(quarantine.name())):
        for block in read_task(quarantine.io, task, quarantine.schema(), "", ["_file_name", "_line"]):
            found.update(block.filter(pc.is_valid(block["_line"]))["_file_name"].unique().to_pylist())
    return found


def no_keys() -> pa.Table:
    """No delivery in no version."""
    return pa.table({"_file_name": pa.array([], pa.string()), "_file_hash": pa.array([], pa.string())})


def left_behind(quarantine: Table, since: datetime, names: Collection[str], own: Collection[str]) -> pa.Table:
    """Keys (`_file_name`, `_file_hash`) of the rows that a landing replaces.

    Args:
        quarantine: the table.
        since: when the rows of the last landing that ended were landed: rows of `own` put aside later are of one that did not.
        names: deliveries all of whose rows go, whatever their version.
        own: the deliveries that land.
    """
    found: set[tuple[str, str]] = set()
    for task in live_tasks(quarantine.io, quarantine.current_snapshot(), ".".join(quarantine.name())):
        if not _may_hold(task.data_file, quarantine.schema().find_field("_file_name").field_id, own):
            continue
        for block in read_task(quarantine.io, task, quarantine.schema(), "", ["_file_name", "_file_hash", "_landed_at"]):
            mine = block.filter(pc.is_in(block["_file_name"], pa.array(sorted(own), pa.string())))
            late = pc.greater(mine["_landed_at"], pa.scalar(since, mine.schema.field("_landed_at").type))
            mine = mine.filter(pc.or_(late, pc.is_in(mine["_file_name"], pa.array(sorted(names), pa.string()))))
            keys = mine.group_by(["_file_name", "_file_hash"]).aggregate([])
            found |= set(zip(keys["_file_name"].to_pylist(), keys["_file_hash"].to_pylist(), strict=True))
    pairs = sorted(found)
    return pa.table(
        {"_file_name": pa.array([k for k, _ in pairs], pa.string()), "_file_hash": pa.array([v for _, v in pairs], pa.string())}
    )


def _may_hold(file: DataFile, field_id: int, names: Collection[str]) -> bool:
    lower, upper = (file.lower_bounds or {}).get(field_id), (file.upper_bounds or {}).get(field_id)
    return lower is None or upper is None or any(lower <= name.encode() <= upper for name in names)

"""What a contract says, as values: columns, source, checks, promises, people.

Everything here is frozen and free of I/O; `reading` makes these values from YAML, the other modules of this package compile them
to Iceberg, JSON Schema, SQL and Dagster. No file is opened and no ODCS field name is read here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from pyiceberg.types import IcebergType

from platform_resources.contracts.publications import Publication
from platform_resources.contracts.slices import Slices
from platform_resources.contracts.sources import LANDED_KINDS, SourceSpec
from platform_resources.errors import PlatformError

__all__ = ["Check", "Column", "Contract", "Domain", "Sla", "SourceSpec", "Support"]

Severity = Literal["error", "warning"]
Scope = Literal["commit", "partition", "table"]

ROW_WISE_METRICS = frozenset({"nullValues", "missingValues", "invalidValues"})


@dataclass(frozen=True)
class Column:
    """One field of a product, nested fields inside it.

    `name` is the name in the table (`_schema` for the event's `$schema`). A struct has `fields`, a list `element`, a map `key`
    and `value`. `options` are ODCS `logicalTypeOptions` verbatim (minimum, maxLength, pattern, ...). A struct that is
    not `closed` accepts undeclared fields of an event, which must keep `extra_schema` where the contract gives one. `json_schema`
    holds JSON Schema keywords that ODCS has no room for. `must_be_present` is `required` as declared: the event must have the
    field, and unless the column is `nullable` (`required` false here) its value may not be null. `line` is where it is declared.
    """

    name: str
    type: IcebergType
    required: bool = False
    description: str = ""
    logical_type: str = "string"
    physical_type: str | None = None
    is_json: bool = False
    enum: tuple[Any, ...] = ()
    examples: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    fields: tuple[Column, ...] = ()
    element: Column | None = None
    key: Column | None = None
    value: Column | None = None
    closed: bool = True
    primary_key: int | None = None
    partition_transform: str | None = None
    unit: str | None = None
    metrics: str | None = None
    classification: str | None = None
    tags: tuple[str, ...] = ()
    transform_logic: str | None = None
    sources: tuple[str, ...] = ()
    must_be_present: bool = False
    extra_schema: Mapping[str, Any] = field(default_factory=dict)
    json_schema: Mapping[str, Any] = field(default_factory=dict)
    business_name: str | None = None
    physical_name: str | None = None
    unique: bool = False
    partitioned: bool = False
    partition_position: int = -1
    line: int = 0

    @property
    def event_name(self) -> str:
        """The field's name in an event: `$schema` for the column `_schema`, else the column's name."""
        return "$schema" if self.name == "_schema" else self.name

    @property
    def source_name(self) -> str:
        """The field's name where the rows come from: ODCS `physicalName`, else the column's."""
        return self.physical_name or self.event_name

    @property
    def is_pii(self) -> bool:
        """Tagged `pii:*`: kept out of manifests' column metrics, masked for the public."""
        return any(tag == "pii" or tag.startswith("pii:") for tag in self.tags)

    def children(self) -> tuple[Column, ...]:
        """Directly nested columns: struct fields, the list element, the map key and value."""
        return (*self.fields, *(part for part in (self.element, self.key, self.value) if part is not None))

    def walk(self, prefix: str = "") -> Iterator[tuple[str, Column]]:
        """This column and everything nested in it, with Iceberg's dotted path (`a.element.b`)."""
        path = f"{prefix}.{self.name}" if prefix else self.name
        yield path, self
        for child in self.children():
            yield from child.walk(path)


@dataclass(frozen=True)
class Check:
    """One rule of `quality[]`.

    `metric` is rowCount, nullValues, missingValues, invalidValues, duplicateValues or sql; `threshold` holds one number, two for
    the between operators; `unit` says whether it counts rows or percent of the rows in scope.
    """

    name: str
    metric: str
    column: str | None = None
    columns: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    query: str | None = None
    operator: str = "mustBe"
    threshold: tuple[float, ...] = (0,)
    unit: Literal["rows", "percent"] = "rows"
    severity: Severity = "error"
    scope: Scope = "table"
    dimension: str | None = None
    description: str = ""
    line: int = 0

    @property
    def blocking(self) -> bool:
        """Whether a failure keeps the data from being published."""
        return self.severity == "error"

    @property
    def row_wise(self) -> bool:
        """Whether each bad row can be told by itself: no null, missing or invalid value is allowed at all."""
        return self.metric in ROW_WISE_METRICS and self.operator in ("mustBe", "mustBeLessOrEqualTo") and self.threshold == (0,)


@dataclass(frozen=True)
class Sla:
    """The product's promises: how old its data may be, how often it is refreshed, how long it is kept."""

    latency: timedelta | None = None
    frequency: timedelta = timedelta(seconds=60)
    retention: timedelta | None = None
    objective: float | None = None
    window: str | None = None
    retention_column: str | None = None


@dataclass(frozen=True)
class Support:
    """A channel where consumers and alerts reach the owners; alerts go to those with tool `email`."""

    channel: str
    tool: str = "other"
    url: str | None = None
    scope: str | None = None

    @property
    def address(self) -> str | None:
        """The e-mail address of an e-mail channel, else None."""
        if self.tool != "email":
            return None
        return self.url.removeprefix("mailto:") if self.url and "@" in self.url else self.channel


@dataclass(frozen=True)
class Contract:
    """One product: what its table holds, how it is written, what it promises and who answers for it.

    `columns` are those declared; the platform's own (`_topic`, `_file_name`, ...) are added by `iceberg.table_definition`.
    `readers` are the domains that may read it, None for everybody. `event_time` is empty for a landed product that names none.
    `document` is the YAML as read, `lines` maps a path in it (tuple of keys and indices) to its line.
    """

    domain: str
    name: str
    path: Path
    version: str
    status: str
    title: str
    columns: tuple[Column, ...]
    description: str = ""
    purpose: str = ""
    limitations: str = ""
    usage: str = ""
    primary_key: tuple[str, ...] = ()
    source: SourceSpec | None = None
    publication: Publication | None = None
    write_mode: str = "overwrite"
    engine: str = "duckdb"
    incremental: str = "full"
    incremental_key: tuple[str, ...] = ()
    outlives_inputs: bool = False
    slow_inputs: tuple[str, ...] = ()
    optional_inputs: tuple[str, ...] = ()
    merge_strategy: str = "auto"
    sequence: tuple[str, ...] = ()
    delete_marker: tuple[str, str | None] | None = None
    validity: bool = False
    sort_order: tuple[str, ...] = ()
    dedupe_key: str = "meta.id"
    dedupe_window: timedelta = timedelta(minutes=60)
    event_time: str = "meta.dt"
    watermark_delay: timedelta = timedelta(0)
    loud: bool = False
    max_event_bytes: int = 1_048_576
    target_file_bytes: int | None = None
    time_travel: timedelta | None = None
    closed: bool = True
    extra_schema: Mapping[str, Any] = field(default_factory=dict)
    json_schema: Mapping[str, Any] = field(default_factory=dict)
    event_schema_title: str | None = None
    checks: tuple[Check, ...] = ()
    sla: Sla = field(default_factory=Sla)
    owners: tuple[str, ...] = ()
    support: tuple[Support, ...] = ()
    tags: tuple[str, ...] = ()
    classification: str = "internal"
    readers: tuple[str, ...] | None = None
    document: Mapping[str, Any] = field(default_factory=dict)
    lines: Mapping[tuple[str | int, ...], int] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """`domain/name`, the asset key as users write it."""
        return f"{self.domain}/{self.name}"

    @property
    def identifier(self) -> str:
        """`domain.name`, the Iceberg identifier and the contract's id."""
        return f"{self.domain}.{self.name}"

    @property
    def quarantine_identifier(self) -> str:
        """The table of what could not be ingested."""
        return f"{self.identifier}__quarantine"

    @property
    def is_stream(self) -> bool:
        """Whether the rows come from the event log."""
        return self.source is not None and self.source.kind == "stream"

    @property
    def lands(self) -> bool:
        """Whether the rows come from deliveries: files, dumps, tables of a database, pages of an API."""
        return self.source is not None and self.source.kind in LANDED_KINDS

    @property
    def slices(self) -> Slices | None:
        """The slices that deliveries belong to, or the dates of what is published; None where there are none."""
        if self.publication is not None:
            return self.publication.slices
        return self.source.slices if self.source is not None else None

    def slice_keys(self, text: str) -> list[str]:
        """The slices that a person names: `2026-01-01`, or `2026-01-01..2026-01-31`.

        Raises:
            PlatformError: `partition-unknown`.
        """
        slices = self.slices
        if slices is None:
            said, remedy = f"{self.key} has no slices, so {text!r} names none.", "Leave the partition out."
            raise PlatformError("partition-unknown", said, remedy, file=self.path)
        first, dots, last = text.partition("..")
        try:
            return slices.between(first.strip(), (last if dots else first).strip())
        except ValueError as reason:
            raise PlatformError(
                "partition-unknown",
                f"The partition {text!r} of {self.key} {reason}.",
                f"Write e.g. {slices.key(slices.start)}, or {slices.key(slices.start)}..{slices.key(slices.end(slices.start))}.",
            ) from None

    @property
    def event_title(self) -> str:
        """The title in the event schema's `$id`: the stream's declared schemaTitle, else `domain/name`."""
        return self.event_schema_title or self.key

    @property
    def open(self) -> bool:
        """Whether the event, or the record, may carry undeclared fields anywhere."""
        return not self.closed or any(column.fields and not column.closed for _, column in self.walk())

    @property
    def keeps_extra(self) -> bool:
        """Whether the table has `_extra` for undeclared fields: of an open stream, and of open records that land as JSON."""
        return self.open and (self.is_stream or (self.source is not None and self.source.has_records))

    def walk(self) -> Iterator[tuple[str, Column]]:
        """Every column, nested ones included, with its dotted path."""
        for column in self.columns:
            yield from column.walk()

    def column(self, path: str) -> Column:
        """The column at a dotted path.

        Raises:
            PlatformError: `column-unknown` when the contract has none there.
        """
        found = self._by_path.get(path)
        if found is None:
            raise PlatformError(
                "column-unknown",
                f"The contract {self.key} has no column {path}.",
                "Use a column that the contract declares.",
                file=self.path,
            )
        return found

    def has_column(self, path: str) -> bool:
        """Whether a column stands at a dotted path."""
        return path in self._by_path

    @cached_property
    def _by_path(self) -> Mapping[str, Column]:
        return dict(self.walk())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over everything that changes what is written: columns, keys, partitions, modes, checks. Hex, 64 digits."""
        columns = [_fingerprint_of(column) for column in self.columns]
        rules = [
            (c.name, c.metric, c.column, c.columns, c.arguments, c.query, c.operator, c.threshold, c.unit, c.severity, c.scope)
            for c in self.checks
        ]
        modes = (
            self.identifier, self.primary_key, self.source and (self.source.kind, self.source.stream, self.source.topics, self.source.path),
            self.write_mode, self.incremental, self.incremental_key, self.sort_order, self.dedupe_key, self.dedupe_window.total_seconds(),
            self.event_time, self.watermark_delay.total_seconds(), self.max_event_bytes, self.closed, self.extra_schema, self.json_schema,
            *((self.sequence, self.delete_marker) if self.sequence or self.delete_marker else ()),
            *((self.source.options, self.source.slices, self.validity) if self.source is not None and self.lands else ()),
            *((replace(self.publication, line=0),) if self.publication is not None else ()),
        )  # fmt: skip
        text = json.dumps([columns, modes, rules], sort_keys=True, default=str, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def _fingerprint_of(column: Column) -> list[Any]:
    """The written facts of a column: no description, no line, no tag that changes nothing in the files."""
    kind = "nested" if column.children() else str(column.type)
    return [
        column.name, kind, column.required, column.is_json, column.enum, dict(column.options), column.closed, column.must_be_present,
        column.extra_schema, column.json_schema,
        column.primary_key, column.partition_transform, column.partitioned, column.partition_position, column.metrics, column.is_pii,
        [_fingerprint_of(child) for child in column.children()], *([column.physical_name] if column.physical_name else []),
    ]  # fmt: skip


@dataclass(frozen=True)
class Domain:
    """A team: who it is, who answers, what its products take as default.

    `path` is the folder, `package` its Python package (`data_products.activity`); `defaults` may hold classification, tags, latency,
    frequency and retention, used where a contract is silent.
    """

    name: str
    path: Path
    title: str = ""
    description: str = ""
    owners: tuple[str, ...] = ()
    on_call: tuple[str, ...] = ()
    support: tuple[Support, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    package: str = ""

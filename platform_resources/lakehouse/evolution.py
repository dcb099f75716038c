"""Bring a table to its contract: columns are added, types widened, docs and properties set; what would break readers is refused.

Fields are matched by name; ids stay the table's. Columns are never dropped, properties of others never removed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pyiceberg.partitioning import PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.types import (
    IcebergType,
    ListType,
    MapType,
    NestedField,
    PrimitiveType,
    StructType,
)

from platform_resources.contracts.iceberg import TableDefinition, widens
from platform_resources.errors import PlatformError
from platform_resources.lakehouse.catalog import MANAGED_PROPERTY, managed_properties
from platform_resources.lakehouse.partitions import path_of
from platform_resources.lakehouse.transaction import StagingTransaction

Path = tuple[str, ...]


@dataclass
class _Plan:
    """What has to happen to a schema, in the order found."""

    added: list[tuple[Path, NestedField]] = field(default_factory=list)
    widened: list[tuple[Path, PrimitiveType]] = field(default_factory=list)
    relaxed: list[Path] = field(default_factory=list)
    documented: list[tuple[Path, str]] = field(default_factory=list)
    breaking: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.added or self.widened or self.relaxed or self.documented)


def evolve(transaction: StagingTransaction, definition: TableDefinition) -> None:
    """Stage the schema, sort order and property changes that bring the table to its definition; none when it is there already.

    Raises:
        PlatformError: `schema-breaking` with the diff, when a column is missing, narrowed, retyped or newly required, or the
            partitioning differs.
    """
    metadata = transaction.table_metadata
    plan = _Plan()
    _compare(metadata.schema().as_struct(), definition.schema.as_struct(), (), plan)
    plan.breaking.extend(_spec_difference(metadata, definition))
    if plan.breaking:
        raise PlatformError(
            "schema-breaking",
            f"The contract of {definition.identifier} breaks its table: " + "; ".join(plan.breaking) + ".",
            "Make the breaking change in a new product, or rebuild a draft with --recreate.",
        )
    if plan:
        with transaction.update_schema() as update:
            for path, new in plan.added:
                update.add_column(path, new.field_type, doc=new.doc)
            for path, kind in plan.widened:
                update.update_column(path, field_type=kind)
            for path in plan.relaxed:
                update.make_column_optional(path)
            for path, doc in plan.documented:
                update.update_column(path, doc=doc)
    _set_sort_order(transaction, definition)
    _set_properties(transaction, definition)


def _compare(old: StructType, new: StructType, prefix: Path, plan: _Plan) -> None:
    wanted = {one.name: one for one in new.fields}
    have = {one.name: one for one in old.fields}
    for name, one in have.items():
        if name not in wanted:
            plan.breaking.append(f"- {_dotted((*prefix, name))} {one.field_type} is gone")
    for name, one in wanted.items():
        path = (*prefix, name)
        if name in have:
            _compare_field(have[name], one, path, plan)
        elif one.required:
            plan.breaking.append(f"+ {_dotted(path)} {one.field_type} is new and required, but the rows there have no value")
        else:
            plan.added.append((path, one))


def _compare_field(old: NestedField, new: NestedField, path: Path, plan: _Plan) -> None:
    if new.required and not old.required:
        plan.breaking.append(f"~ {_dotted(path)} was optional and is now required")
    if old.required and not new.required:
        plan.relaxed.append(path)
    if new.doc and (new.doc or None) != (old.doc or None):
        plan.documented.append((path, new.doc))
    _compare_type(old.field_type, new.field_type, path, plan)


def _compare_type(old: IcebergType, new: IcebergType, path: Path, plan: _Plan) -> None:
    if isinstance(old, StructType) and isinstance(new, StructType):
        _compare(old, new, path, plan)
    elif isinstance(old, ListType) and isinstance(new, ListType):
        _compare_field(_bare(old.element_field), _bare(new.element_field), (*path, "element"), plan)
    elif isinstance(old, MapType) and isinstance(new, MapType):
        if not _alike(old.key_type, new.key_type):
            plan.breaking.append(f"~ {_dotted((*path, 'key'))} changes from {old.key_type} to {new.key_type}")
        _compare_field(_bare(old.value_field), _bare(new.value_field), (*path, "value"), plan)
    elif old != new:
        if isinstance(new, PrimitiveType) and widens(old, new):
            plan.widened.append((path, new))
        else:
            plan.breaking.append(f"~ {_dotted(path)} changes from {old} to {new}")


def _bare(one: NestedField) -> NestedField:
    return NestedField(one.field_id, one.name, one.field_type, required=one.required)


def _alike(old: IcebergType, new: IcebergType) -> bool:
    plan = _Plan()
    _compare_type(old, new, (), plan)
    return not plan and not plan.breaking


def _spec_difference(metadata: TableMetadata, definition: TableDefinition) -> Iterator[str]:
    old = _spelled(metadata.spec(), metadata.schema())
    new = _spelled(definition.partition_spec, definition.schema)
    if old != new:
        yield f"~ partitioned by {', '.join(old) or 'nothing'}, now by {', '.join(new) or 'nothing'}"


def _spelled(spec: PartitionSpec, schema: Schema) -> list[str]:
    return [f"{one.transform}({_dotted(path_of(schema, one.source_id))})" for one in spec.fields]


def _dotted(path: Path) -> str:
    return ".".join(path)


def _set_sort_order(transaction: StagingTransaction, definition: TableDefinition) -> None:
    metadata = transaction.table_metadata

    def spelled(order: object, schema: Schema) -> list[str]:
        fields = getattr(order, "fields", ())
        return [f"{_dotted(path_of(schema, one.source_id))} {one.transform} {one.direction} {one.null_order}" for one in fields]

    if spelled(metadata.sort_order(), metadata.schema()) == spelled(definition.sort_order, definition.schema):
        return
    with transaction.update_sort_order() as update:
        for one in definition.sort_order.fields:
            add = update.asc if "asc" in str(one.direction.value).lower() else update.desc
            add(_dotted(path_of(definition.schema, one.source_id)), one.transform, one.null_order)


def _set_properties(transaction: StagingTransaction, definition: TableDefinition) -> None:
    """Set what the platform says; remove only what the platform said before and says no more."""
    have, wanted = transaction.table_metadata.properties, managed_properties(definition)
    wanted.pop("format-version", None)
    changed = {name: value for name, value in wanted.items() if have.get(name) != value}
    if changed:
        transaction.set_properties(changed)
    gone = [name for name in have.get(MANAGED_PROPERTY, "").split() if name not in wanted and name in have]
    if gone:
        transaction.remove_properties(*gone)

"""Bring a table to its contract: columns are added, types widened, partitions, docs and properties set; breaking changes are refused.

Fields are matched by name; ids stay the table's. Columns are never dropped, properties of others never removed. Another partitioning
breaks nobody: files keep the spec they were written with, and every reader prunes each file by its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pyiceberg.partitioning import PARTITION_FIELD_ID_START, PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.update import AddPartitionSpecUpdate, SetDefaultSpecUpdate
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
    """Stage the schema, partition, sort order and property changes that bring the table to its definition; none when it is there already.

    Raises:
        PlatformError: `schema-breaking` with the diff, when a column is missing, narrowed, retyped or newly required.
    """
    metadata = transaction.table_metadata
    plan = _Plan()
    _compare(metadata.schema().as_struct(), definition.schema.as_struct(), (), plan)
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
    _set_spec(transaction, definition)
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


def _set_spec(transaction: StagingTransaction, definition: TableDefinition) -> None:
    """Make the definition's partitioning the default spec, in its order of fields; one that the table had before is taken up again.

    PyIceberg's `update_spec` would keep former fields first, and the order is that of the values in `TableDefinition`.
    """
    metadata = transaction.table_metadata
    schema = metadata.schema()
    wanted = _spelled(definition.partition_spec, definition.schema)
    if wanted == _spelled(metadata.spec(), schema):
        return
    before = [spec for spec in metadata.partition_specs if not _is_lost(spec, schema) and _spelled(spec, schema) == wanted]
    if before:
        transaction.stage(SetDefaultSpecUpdate(spec_id=before[-1].spec_id))
        return
    known = {(one.source_id, str(one.transform)): one for spec in metadata.partition_specs for one in spec.fields}
    taken = {one.name for one in known.values()}
    next_id, fields = max(metadata.last_partition_id or 0, PARTITION_FIELD_ID_START - 1), list[PartitionField]()
    for one in definition.partition_spec.fields:
        source_id = schema.find_field(_dotted(path_of(definition.schema, one.source_id))).field_id
        field_ = known.get((source_id, str(one.transform)))
        if field_ is None:
            next_id += 1
            name = f"{one.name}_{next_id}" if one.name in taken else one.name  # `id_bucket` of 16 is not that of 32
            field_ = PartitionField(source_id, next_id, one.transform, name)
        fields.append(field_)
    spec_id = max(spec.spec_id for spec in metadata.partition_specs) + 1
    transaction.stage(AddPartitionSpecUpdate(spec=PartitionSpec(*fields, spec_id=spec_id)), SetDefaultSpecUpdate(spec_id=spec_id))


def _is_lost(spec: PartitionSpec, schema: Schema) -> bool:
    """Whether a former spec is by a column that another engine has dropped since."""
    return any(schema.find_column_name(one.source_id) is None for one in spec.fields)


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

"""Build columns from ODCS properties: types, nesting, constraints. Laws that need the whole contract are in `laws`."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pyiceberg.transforms import UnknownTransform, VoidTransform, parse_transform
from pyiceberg.types import IcebergType, ListType, MapType, NestedField, PrimitiveType, StringType, StructType

from platform_resources.contracts.custom import read_custom
from platform_resources.contracts.findings import Findings, a, did_you_mean
from platform_resources.contracts.model import Column
from platform_resources.contracts.typing_rules import DEFAULTS, JSON, PHYSICAL, allows, primitive
from platform_resources.contracts.yaml_source import DocumentPath

COLUMN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
EVENT_SCHEMA_COLUMN = "_schema"  # the event's `$schema`
_PLACEHOLDER = StringType()


class ColumnBuilder:
    """Builds the columns of one contract; faults go to `findings`. Field ids are provisional, unique within the contract."""

    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self._ids = itertools.count(1)

    def build(self, properties: Iterable[Mapping[str, Any]], path: DocumentPath, parent: str = "") -> tuple[Column, ...]:
        """Sibling columns in declared order; names are held against each other."""
        columns, seen = [], dict[str, str]()
        for index, declared in enumerate(properties):
            here, name = (*path, index), str(declared["name"])
            dotted = f"{parent}.{name}" if parent else name
            self._check_name(name, dotted, here, parent)
            other = seen.get(name.lower())
            if other == name:
                self.findings.error(
                    "contract-column-twice", here, f"The column {dotted} is declared twice.", "Remove or rename one of them."
                )
                continue
            if other is not None:
                self.findings.error(
                    "contract-column-case",
                    here,
                    f"The column {dotted} differs from {other} only by case, which SQL cannot tell apart.",
                    "Rename one of them.",
                )
                continue
            seen[name.lower()] = name
            columns.append(self.column(declared, here, dotted))
        return tuple(columns)

    def column(self, declared: Mapping[str, Any], path: DocumentPath, dotted: str, name: str | None = None) -> Column:
        """One column with all that is nested in it. `name` overrides the declared one (element, key, value)."""
        custom = read_custom("column", declared, path, self.findings)
        logical = str(declared["logicalType"])
        physical = declared.get("physicalType")
        is_json = isinstance(physical, str) and physical.strip().lower() == JSON
        fields: tuple[Column, ...] = ()
        element = key = value = None
        if not is_json:
            if logical == "object":
                fields = self._fields(declared, path, dotted)
            elif logical == "array":
                element = self._element(declared, path, dotted)
            elif logical == "map":
                key, value = self._map(declared, path, dotted)
        kind = self._type(logical, physical, is_json, path, dotted, (fields, element, key, value))
        extra = custom.get("additionalProperties", False)
        return Column(
            name=name or str(declared["name"]),
            type=kind,
            required=bool(declared.get("required", False)) and not custom.get("nullable", False),
            must_be_present=bool(declared.get("required", False)),
            description=" ".join(str(declared.get("description") or "").split()),
            logical_type=logical,
            physical_type=physical,
            is_json=is_json,
            enum=tuple(entry["value"] for entry in declared.get("enum") or ()),
            examples=tuple(declared.get("examples") or ()),
            options=dict(declared.get("logicalTypeOptions") or {}),
            fields=fields,
            element=element,
            key=key,
            value=value,
            closed=extra is False,
            extra_schema=extra if isinstance(extra, dict) else {},
            json_schema=custom.get("eventSchema", {}),
            primary_key=self._primary_key(declared),
            partition_transform=self._transform(declared, custom, kind, path, dotted),
            partitioned=bool(declared.get("partitioned", False)),
            partition_position=int(declared.get("partitionKeyPosition", -1)),
            unit=custom.get("unit"),
            metrics=custom.get("metrics"),
            classification=declared.get("classification"),
            tags=tuple(declared.get("tags") or ()),
            transform_logic=declared.get("transformLogic") or declared.get("transformDescription"),
            sources=tuple(declared.get("transformSourceObjects") or ()),
            business_name=declared.get("businessName"),
            physical_name=self._physical_name(declared),
            unique=bool(declared.get("unique", False)),
            line=self.findings.line(path),
        )

    def _fields(self, declared: Mapping[str, Any], path: DocumentPath, dotted: str) -> tuple[Column, ...]:
        properties = declared.get("properties")
        if not properties:
            self.findings.error(
                "contract-object-without-properties",
                path,
                f"The column {dotted} is an object without properties.",
                "Give it properties, or physicalType: json to keep it as JSON text.",
            )
            return ()
        return self.build(properties, (*path, "properties"), dotted)

    def _element(self, declared: Mapping[str, Any], path: DocumentPath, dotted: str) -> Column | None:
        items = declared.get("items")
        if not items or "logicalType" not in items:
            self.findings.error(
                "contract-array-without-items",
                path,
                f"The column {dotted} is an array without items.",
                "Say what it holds, e.g. items: {logicalType: string}, or physicalType: json to keep it as JSON text.",
            )
            return None
        return self.column(items, (*path, "items"), f"{dotted}.element", name="element")

    def _map(self, declared: Mapping[str, Any], path: DocumentPath, dotted: str) -> tuple[Column | None, Column | None]:
        pair = declared.get("map") or {}
        if "logicalType" not in pair.get("key", {}) or "logicalType" not in pair.get("value", {}):
            self.findings.error(
                "contract-map-without-types",
                path,
                f"The column {dotted} is a map without the types of its key and value.",
                "Write map: {key: {logicalType: string}, value: {logicalType: ...}}.",
            )
            return None, None
        key = self.column(pair["key"], (*path, "map", "key"), f"{dotted}.key", name="key")
        return key, self.column(pair["value"], (*path, "map", "value"), f"{dotted}.value", name="value")

    def _type(
        self,
        logical: str,
        physical: str | None,
        is_json: bool,
        path: DocumentPath,
        dotted: str,
        nested: tuple[tuple[Column, ...], Column | None, Column | None, Column | None],
    ) -> IcebergType:
        if logical == "vector":
            self.findings.error(
                "contract-type-unsupported",
                (*path, "logicalType"),
                f"The column {dotted} has the logicalType vector, which Iceberg tables cannot hold.",
                "Use an array with items: {logicalType: number, physicalType: float}.",
            )
            return _PLACEHOLDER
        if is_json:
            return self._json_type(logical, path, dotted)
        if logical in ("object", "array", "map"):
            if physical is not None and physical.strip().lower() not in PHYSICAL[logical]:
                self._refuse_physical(logical, physical, path, dotted)
            return self._nested_type(logical, *nested)
        return DEFAULTS[logical] if physical is None else self._named_type(logical, physical, path, dotted)

    def _named_type(self, logical: str, physical: str, path: DocumentPath, dotted: str) -> IcebergType:
        try:
            kind = primitive(physical)
        except ValueError as reason:
            self.findings.error(
                "contract-type-unsupported",
                (*path, "physicalType"),
                f"The column {dotted} has the physicalType {physical}, which {reason}.",
                "Write e.g. decimal(18,2) or fixed[16].",
            )
            return _PLACEHOLDER
        if kind is not None and allows(logical, kind):
            return kind
        self._refuse_physical(logical, physical, path, dotted)
        return _PLACEHOLDER

    def _json_type(self, logical: str, path: DocumentPath, dotted: str) -> IcebergType:
        if JSON not in PHYSICAL.get(logical, ()):
            self._refuse_physical(logical, JSON, path, dotted)
        return StringType()

    def _nested_type(
        self, logical: str, fields: tuple[Column, ...], element: Column | None, key: Column | None, value: Column | None
    ) -> IcebergType:
        if logical == "object" and fields:
            return StructType(
                *(NestedField(next(self._ids), c.name, c.type, required=c.required, doc=c.description or None) for c in fields)
            )
        if element is not None:
            return ListType(next(self._ids), element.type, element_required=element.required)
        if key is not None and value is not None:
            return MapType(next(self._ids), key.type, next(self._ids), value.type, value_required=value.required)
        return _PLACEHOLDER

    def _refuse_physical(self, logical: str, physical: str, path: DocumentPath, dotted: str) -> None:
        allowed = PHYSICAL[logical]
        known = sorted({name for names in PHYSICAL.values() for name in names})
        if physical.strip().lower() in known or any(physical.lower().startswith(word) for word in ("decimal", "fixed")):
            remedy = f"{a(logical).capitalize()} may be {' or '.join(allowed)}; or change the logicalType."
        else:
            remedy = did_you_mean(physical, allowed, otherwise=f"{a(logical).capitalize()} may be {' or '.join(allowed)}.")
        self.findings.error(
            "contract-type-unsupported",
            (*path, "physicalType"),
            f"The column {dotted} is {a(logical)} with the physicalType {physical}, which it cannot be stored as.",
            remedy,
        )

    def _transform(
        self, declared: Mapping[str, Any], custom: Mapping[str, Any], kind: IcebergType, path: DocumentPath, dotted: str
    ) -> str | None:
        text = custom.get("partitionTransform")
        if not declared.get("partitioned", False):
            if text is not None:
                self.findings.error(
                    "contract-partition-transform",
                    path,
                    f"The column {dotted} has a partitionTransform but is not partitioned.",
                    "Add partitioned: true, or remove the partitionTransform.",
                )
            return None
        text = text or "identity"
        if not isinstance(kind, PrimitiveType) or str(declared.get("physicalType", "")).strip().lower() == JSON:
            self.findings.error(
                "contract-partition-type",
                path,
                f"The column {dotted} is {a(declared['logicalType'])}, which no table can be partitioned by.",
                "Partition by one of its fields, or by another column.",
            )
            return None
        try:
            transform = parse_transform(text)
        except ValueError:
            transform = UnknownTransform(text)
        if isinstance(transform, UnknownTransform | VoidTransform):
            self.findings.error(
                "contract-partition-transform",
                path,
                f"The column {dotted} has the partitionTransform {text}, which Iceberg does not know.",
                "Use identity, year, month, day, hour, bucket[N] or truncate[N].",
            )
            return None
        if not transform.can_transform(kind):
            self.findings.error(
                "contract-partition-transform",
                path,
                f"The column {dotted} has the type {kind}, which the partitionTransform {text} cannot take.",
                "Use identity or bucket[N], or another column.",
            )
            return None
        return str(transform)

    def _check_name(self, name: str, dotted: str, path: DocumentPath, parent: str) -> None:
        if COLUMN_NAME.fullmatch(name) is None:
            self.findings.error(
                "contract-column-name",
                path,
                f"The column name {dotted!r} holds a character that is not a letter, digit, underscore or hyphen.",
                "Rename it; an event's $schema is written _schema.",
            )
        elif name.startswith("_") and name != EVENT_SCHEMA_COLUMN and not parent:
            self.findings.error(
                "contract-column-reserved",
                path,
                f"The column {name} begins with an underscore, which is kept for the platform's own columns.",
                "Rename it; only _schema may begin so.",
            )

    @staticmethod
    def _physical_name(declared: Mapping[str, Any]) -> str | None:
        """The source's own name of the field, where it is another."""
        given = declared.get("physicalName")
        return None if given in (None, declared.get("name")) else str(given)

    @staticmethod
    def _primary_key(declared: Mapping[str, Any]) -> int | None:
        if not declared.get("primaryKey", False):
            return None
        position = int(declared.get("primaryKeyPosition", -1))
        return position if position >= 0 else 1_000_000

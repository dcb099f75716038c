"""What a contract must keep beyond the ODCS schema: keys, partitions, times and modes that fit its columns, and descriptions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jsonschema_rs
from pyiceberg.expressions.literals import literal
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DoubleType,
    FixedType,
    FloatType,
    PrimitiveType,
    TimestampType,
    TimestamptzType,
    UUIDType,
)

from platform_resources.contracts.domains import CLASSIFICATIONS
from platform_resources.contracts.findings import Findings, a, did_you_mean, show
from platform_resources.contracts.iceberg import aging_columns, parse_sort_term, partition_columns
from platform_resources.contracts.json_schema import column_event_schema, event_schema
from platform_resources.contracts.landing_laws import check_landing
from platform_resources.contracts.model import Column, Contract
from platform_resources.contracts.publication_laws import check_publication
from platform_resources.contracts.yaml_source import DocumentPath

_SCHEMA: DocumentPath = ("schema", 0)
# How a derived product is recomputed decides how it is written: any other pair would double keys or not do what it says.
_WRITE_MODE_OF = {"append": "append", "key": "merge", "partition": "overwrite", "full": "overwrite"}
_INCREMENTAL_OF = {"append": "append", "merge": "key", "overwrite": "partition or full"}


def check_laws(contract: Contract, findings: Findings) -> None:
    """Report every law that the contract breaks; columns with faults of their own are already reported."""
    for law in _LAWS:
        law(contract, findings)


def _at(contract: Contract, name: str) -> DocumentPath:
    """Where a table's custom property stands, for its line."""
    for index, entry in enumerate(contract.document["schema"][0].get("customProperties") or ()):
        if entry.get("property") == name:
            return (*_SCHEMA, "customProperties", index)
    return _SCHEMA


def _known(contract: Contract, names: Iterable[str], what: str, path: DocumentPath, findings: Findings) -> list[Column]:
    """The columns of dotted names; those that do not exist, or lie inside a list or map, are reported."""
    columns = []
    for name in names:
        if not contract.has_column(name):
            findings.error(
                "contract-column-unknown",
                path,
                f"The {what} names the column {name}, which the contract does not declare.",
                did_you_mean(name, [p for p, _ in contract.walk()], otherwise="Name a declared column, dots for nested ones."),
            )
        elif _repeated(contract, name):
            findings.error(
                "contract-column-repeated",
                path,
                f"The {what} names {name}, which is inside a list or map and so has no single value.",
                "Name a column outside of lists and maps.",
            )
        else:
            columns.append(contract.column(name))
    return columns


def _repeated(contract: Contract, name: str) -> bool:
    parts = name.split(".")
    return any(not contract.column(".".join(parts[:depth])).fields for depth in range(1, len(parts)))


def _primary_key(contract: Contract, findings: Findings) -> None:
    for name in contract.primary_key:
        column, path = contract.column(name), _path_of_line(contract, contract.column(name))
        if _repeated(contract, name) or not isinstance(column.type, PrimitiveType) or isinstance(column.type, FloatType | DoubleType):
            findings.error(
                "contract-primary-key-type",
                path,
                f"The primary key {name} is {a(column.logical_type)} that cannot identify a row.",
                "Use a text, whole number, date, time or boolean outside of lists and maps.",
            )
        elif not column.required:
            findings.error(
                "contract-primary-key-optional",
                path,
                f"The primary key {name} is optional, but a key is never null.",
                "Add required: true, or remove primaryKey.",
            )
    if contract.write_mode == "merge" and not contract.is_stream and not contract.primary_key and not contract.incremental_key:
        findings.error(
            "contract-merge-without-key",
            _at(contract, "writeMode"),
            "The writeMode is merge but no column is a primaryKey.",
            "Mark the columns that identify a row with primaryKey: true.",
        )


def _path_of_line(contract: Contract, column: Column) -> DocumentPath:
    return next((path for path, line in contract.lines.items() if line == column.line and len(path) > 3), _SCHEMA)


def _modes(contract: Contract, findings: Findings) -> None:
    path = _at(contract, "incremental")
    keys = _known(contract, contract.incremental_key, "incrementalKey", _at(contract, "incrementalKey"), findings)
    for column in keys:
        exact = isinstance(column.type, PrimitiveType) and not isinstance(column.type, FloatType | DoubleType)
        if not exact and column.primary_key is None:  # a primary key has its own law
            findings.error(
                "contract-incremental-key-type",
                _at(contract, "incrementalKey"),
                f"The incrementalKey names {column.name}, {a(column.logical_type)} whose values cannot be compared exactly.",
                "Name a column of text, whole numbers, decimals, dates, times or booleans.",
            )
    if contract.incremental == "key" and not contract.incremental_key:
        findings.error(
            "contract-incremental-without-key",
            path,
            "The product is incremental by key but has neither incrementalKey nor primaryKey.",
            "Add the custom property incrementalKey.",
        )
    if contract.incremental == "partition" and not any(c.partitioned for _, c in contract.walk()):
        findings.error(
            "contract-incremental-without-partition",
            path,
            "The product is incremental by partition but no column is partitioned.",
            "Mark a column with partitioned: true.",
        )
    if contract.is_stream and contract.write_mode != "append":
        findings.error(
            "contract-write-mode",
            _at(contract, "writeMode"),
            f"A stream is appended to, but the writeMode is {contract.write_mode}.",
            "Remove writeMode, and derive a product that merges.",
        )
    if contract.is_stream and contract.incremental != "append":
        findings.error(
            "contract-write-mode",
            path,
            f"A stream is ingested as it comes, but is declared incremental: {contract.incremental}.",
            "Remove incremental from the stream.",
        )
    fits = _WRITE_MODE_OF[contract.incremental]
    if not contract.is_stream and contract.source is None and contract.write_mode != fits:
        findings.error(
            "contract-write-mode",
            _at(contract, "writeMode"),
            f"The writeMode is {contract.write_mode}, but a product that is incremental: {contract.incremental} is written by {fits}.",
            f"Remove writeMode, or declare incremental: {_INCREMENTAL_OF[contract.write_mode]}.",
        )


def _outliving(contract: Contract, findings: Findings) -> None:
    """What is kept of aged rows is told by the time a partition is of, so there must be one such time."""
    if not contract.outlives_inputs:
        return
    partitions = partition_columns(contract)
    timed = [path for path, _ in partitions if isinstance(contract.column(path).type, DateType | TimestampType | TimestamptzType)]
    if contract.incremental != "partition" or len(partitions) != 1 or not timed or partitions[0][1].startswith("bucket"):
        findings.error(
            "contract-outlives-inputs",
            _at(contract, "outlivesInputs"),
            "The product outlives its inputs, but nothing tells which of its rows are made of rows that have aged.",
            "Declare incremental: partition, and partition by one date or timestamp.",
        )


_RULES = (("mergeStrategy", "merge_strategy"), ("sequence", "sequence"), ("deleteMarker", "delete_marker"))
_NO_ORDER = (BooleanType, FloatType, DoubleType, UUIDType, BinaryType, FixedType)


def _merge(contract: Contract, findings: Findings) -> None:
    """What says how rows are merged needs a merge, a key, and columns that can be compared."""
    declared = [name for name, field in _RULES if getattr(contract, field) not in {"auto", (), None}]
    if declared and contract.write_mode != "merge":
        findings.error(
            "contract-merge-rule",
            _at(contract, declared[0]),
            f"The {declared[0]} says how rows are merged, but the writeMode is {contract.write_mode}.",
            f"Remove {declared[0]}, or declare incremental: key, of a product with a source writeMode: merge.",
        )
        return
    keyed = [name for name in declared if name != "mergeStrategy"]
    if keyed and not contract.primary_key:
        findings.error(
            "contract-merge-without-key",
            _at(contract, keyed[0]),
            f"The {keyed[0]} tells rows of one key apart, but no column is a primaryKey.",
            "Mark the columns that identify a row with primaryKey: true.",
        )
    for column in _known(contract, contract.sequence, "sequence", _at(contract, "sequence"), findings):
        if not isinstance(column.type, PrimitiveType) or isinstance(column.type, _NO_ORDER):
            findings.error(
                "contract-sequence-type",
                _at(contract, "sequence"),
                f"The sequence names {column.name}, {a(column.logical_type)} that does not tell which row is newer.",
                "Name a column of whole numbers, decimals, dates, times or text.",
            )
    _delete_marker(contract, findings)


def _delete_marker(contract: Contract, findings: Findings) -> None:
    if contract.delete_marker is None:
        return
    name, value = contract.delete_marker
    for column in _known(contract, [name], "deleteMarker", _at(contract, "deleteMarker"), findings):
        if value is None:
            fits = isinstance(column.type, BooleanType)
        else:
            fits = (
                isinstance(column.type, PrimitiveType) and not isinstance(column.type, FloatType | DoubleType) and _is(value, column.type)
            )
        if not fits:
            marked = "without a value, though it is" if value is None else f"by the value {value}, which cannot be one of"
            findings.error(
                "contract-delete-marker-type",
                _at(contract, "deleteMarker"),
                f"The deleteMarker names {name} {marked} {a(column.logical_type)}.",
                "Name a boolean column, or write column=value with a value of its type.",
            )


def _is(text: str, kind: PrimitiveType) -> bool:
    try:
        literal(text).to(kind)
    except (ValueError, TypeError, ArithmeticError):
        return False
    return True


def _sort_order(contract: Contract, findings: Findings) -> None:
    path = _at(contract, "sortOrder")
    for text in contract.sort_order:
        try:
            term = parse_sort_term(text)
        except ValueError as reason:
            findings.error("contract-sort-order", path, f"The sortOrder term {show(text)} {reason}.", "Write e.g. wiki_id, or dt desc.")
            continue
        for column in _known(contract, [term.column], "sortOrder", path, findings):
            if not isinstance(column.type, PrimitiveType):
                findings.error(
                    "contract-sort-order", path, f"The sortOrder names {term.column}, {a(column.logical_type)}.", "Sort by a field of it."
                )


def _stream(contract: Contract, findings: Findings) -> None:
    if not contract.is_stream:
        for name in ("dedupeKey", "dedupeWindow", "eventTime", "watermarkDelay", "loud", "maxEventBytes"):
            if _at(contract, name) != _SCHEMA and not (contract.lands and name == "eventTime"):
                findings.warning(
                    "contract-custom-misplaced",
                    _at(contract, name),
                    f"The custom property {name} has no effect on a product that is no stream.",
                    "Remove it.",
                )
        return
    for column in _known(contract, [contract.event_time], "eventTime", _at(contract, "eventTime"), findings):
        if not isinstance(column.type, TimestampType | TimestamptzType):
            findings.error(
                "contract-event-time-type",
                _at(contract, "eventTime"),
                f"The eventTime {contract.event_time} is {a(column.logical_type)}, which is no point in time.",
                "Name a column of logicalType timestamp.",
            )
    for column in _known(contract, [contract.dedupe_key], "dedupeKey", _at(contract, "dedupeKey"), findings):
        if not isinstance(column.type, PrimitiveType) or column.is_json:
            findings.error(
                "contract-dedupe-key-type",
                _at(contract, "dedupeKey"),
                f"The dedupeKey {contract.dedupe_key} is {a(column.logical_type)}.",
                "Name a column with a single value.",
            )


def _event_schema(contract: Contract, findings: Findings) -> None:
    """A pattern or eventSchema that is none would stop the stream at its first event, for the gate's schema would not compile."""
    if not contract.is_stream or findings.failed or (fault := _schema_fault(event_schema(contract))) is None:
        return
    faulty = [(path, column) for path, column in contract.walk() if _schema_fault(column_event_schema(column)) is not None]
    where, subject = _at(contract, "eventSchema"), "the whole event"
    if faulty:
        where, subject = _path_of_line(contract, faulty[-1][1]), faulty[-1][0]
    findings.error(
        "contract-event-schema",
        where,
        f"The event schema of {subject} is no JSON Schema: {fault}.",
        "Mend its logicalTypeOptions, eventSchema or additionalProperties.",
    )


def _schema_fault(schema: dict[str, Any]) -> str | None:
    def refuse(uri: str) -> Any:
        raise ValueError(f"{uri} lies outside of the contract")

    try:
        jsonschema_rs.validator_for(schema, validate_formats=True, retriever=refuse)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        return " ".join(str(getattr(error, "message", error)).split()).rstrip(".")[:160]
    return None


def _physical_names(contract: Contract, findings: Findings) -> None:
    """Only where rows come from elsewhere can a field have another name there; an event's fields are the columns."""
    for path, column in contract.walk():
        if column.physical_name is not None and not contract.lands:
            findings.error(
                "contract-physical-name",
                (*_path_of_line(contract, column), "physicalName"),
                f"The column {path} has another physicalName, but a column is named once.",
                "Remove physicalName, or rename the column.",
            )


def _partitions(contract: Contract, findings: Findings) -> None:
    names: dict[str, str] = {}
    for path, column in contract.walk():
        if not column.partitioned:
            continue
        if _repeated(contract, path):
            findings.error(
                "contract-partition-type",
                _path_of_line(contract, column),
                f"The column {path} is inside a list or map, so no table can be partitioned by it.",
                "Partition by a column outside of lists and maps.",
            )
        other = names.setdefault(path.replace(".", "_"), path)
        if other != path:
            findings.error(
                "contract-partition-name",
                _path_of_line(contract, column),
                f"The partitions of {other} and {path} would have the same name.",
                "Rename one of the columns.",
            )


def _descriptions(contract: Contract, findings: Findings) -> None:
    """Missing descriptions: each an error at its line when active, one warning for all while a draft."""
    missing: list[tuple[str, DocumentPath]] = []
    if not contract.purpose:
        missing.append(("description.purpose", ("description",)))
    for path, column in contract.walk():
        if not column.description and path.rsplit(".", maxsplit=1)[-1] not in ("element", "key", "value"):
            missing.append((path, _path_of_line(contract, column)))
    if not missing:
        return
    if contract.status in ("draft", "proposed"):
        names = ", ".join(name for name, _ in missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        findings.warning(
            "contract-description-missing",
            missing[0][1],
            f"{len(missing)} description{'s are' if len(missing) > 1 else ' is'} missing: {names}.",
            "Describe them before the contract becomes active.",
        )
        return
    for name, where in missing:
        findings.error(
            "contract-description-missing", where, f"The contract is {contract.status} but {name} has no description.", "Add a description."
        )


def _classifications(contract: Contract, findings: Findings) -> None:
    for path, column in contract.walk():
        if column.classification is not None and column.classification not in CLASSIFICATIONS:
            findings.error(
                "contract-classification",
                _path_of_line(contract, column),
                f"The column {path} has the classification {show(column.classification)}, which is not known.",
                did_you_mean(column.classification, CLASSIFICATIONS),
            )


def _promises(contract: Contract, findings: Findings) -> None:
    if contract.sla.retention_column is not None:
        _known(contract, [contract.sla.retention_column], "retention promise", ("slaProperties",), findings)
    _aging(contract, findings)
    if not contract.owners:
        findings.error("contract-owner-missing", (), f"The product {contract.key} has no owner.", "Add team, or owners to domain.yaml.")


def _aging(contract: Contract, findings: Findings) -> None:
    """Rows can age only by a time: a promise that nothing could keep is told when it is made."""
    if contract.sla.retention is None:
        return
    columns = [path for path in aging_columns(contract) if contract.has_column(path)]
    for path in columns:
        if not isinstance(kind := contract.column(path).type, DateType | TimestampType | TimestamptzType):
            findings.error(
                "contract-retention-column", ("slaProperties",), f"Rows cannot age by {path}, which is {kind}.",
                "Name a date or a timestamp in `element` of the retention promise.",
            )  # fmt: skip
    if not aging_columns(contract) and contract.sla.retention_column is None:
        findings.warning(
            "contract-retention-untold", ("slaProperties",),
            f"Nothing says when a row of {contract.key} is past its retention, so none ever leaves.",
            "Name a date or timestamp column in `element` of the retention promise, or partition by one.",
        )  # fmt: skip


_LAWS: tuple[Callable[[Contract, Findings], None], ...] = (
    _primary_key, _modes, _outliving, _merge, _sort_order, _stream, check_landing, check_publication, _event_schema, _physical_names,
    _partitions, _descriptions, _classifications, _promises,
)  # fmt: skip

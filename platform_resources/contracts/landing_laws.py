"""What the contract of a landed product must keep: a server that its kind of source understands, slices that begin, a mode that fits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pyiceberg.types import DateType, TimestampType, TimestamptzType

from platform_resources.contracts.findings import Findings, a, did_you_mean, show
from platform_resources.contracts.model import Contract
from platform_resources.contracts.slices import CADENCES, Slices, cadence_of, placeholders
from platform_resources.contracts.sources import (
    FILE_KINDS,
    PLACES,
    FilesOptions,
    SourceSpec,
    compression_of,
    format_of,
    option_names,
    read_options,
)
from platform_resources.contracts.yaml_source import DocumentPath

XML_DUMP_FIELDS = (
    "wiki_id", "page_id", "page_namespace_id", "page_namespace_name", "page_title", "page_redirect_target", "page_restrictions",
    "revision_id", "revision_parent_id", "revision_dt", "user_id", "user_text", "user_is_visible", "revision_comment",
    "revision_comment_is_visible", "revision_is_minor_edit", "revision_sha1", "revision_size", "revision_content_is_visible",
    "revision_content_slots", "content_body", "content_format", "content_model", "content_sha1", "content_size", "content_address",
    "content_is_visible", "origin_rev_id", "site_name", "site_base", "site_generator", "site_case", "site_language", "export_version",
    "namespace_name", "parent_id", "comment", "comment_is_visible", "is_minor_edit", "content_slots",
)  # fmt: skip
"""What an XML dump calls what it has of a revision; `landing.xml_dump` reads them."""

_SCHEMA: DocumentPath = ("schema", 0)


def landed_source(kind: str, custom: Mapping[str, Any], path: DocumentPath, findings: Findings) -> SourceSpec:
    """The source of a landed product, its faults reported.

    Args:
        kind: of the source.
        custom: the server's custom properties, converted.
        path: of the server.
        findings: takes what is wrong.
    """
    known = (*PLACES, *option_names(kind))
    for name in custom:
        if name not in known:
            findings.warning(
                "contract-custom-misplaced",
                path,
                f"The custom property {name} has no effect on a source of kind {kind}.",
                did_you_mean(name, known, otherwise="Remove it."),
            )
    options = read_options(kind, custom)
    source = SourceSpec(
        kind,
        connection=custom.get("connection"),
        path=custom.get("path"),
        line=findings.line(path),
        options=options,
        slices=_slices(kind, custom, path, findings),
    )
    _required(source, custom, path, findings)
    return source


def _slices(kind: str, custom: Mapping[str, Any], path: DocumentPath, findings: Findings) -> Slices | None:
    cadence = custom.get("cadence")
    if kind in FILE_KINDS and "path" in custom:
        try:
            cadence = _path_cadence(custom["path"], cadence)
        except _Fault as fault:
            findings.error(fault.code, path, fault.message, fault.remedy)
            return None
    if cadence is None:
        if "start" in custom:
            findings.error(
                "contract-start", path, "The source has a start but no slices.", "Add cadence, or a dated path; or remove start."
            )
        return None
    if "start" not in custom:
        findings.error(
            "contract-start", path, f"The source has {cadence} slices, but nothing says which is the first.", "Add start, e.g. 2026-01-01."
        )
        return None
    slices = Slices(cadence, custom["start"])
    if slices.floor(slices.start) == slices.start:
        return slices
    findings.error(
        "contract-start",
        path,
        f"The start {slices.start:%Y-%m-%dT%H:%M} is no beginning of a {cadence} slice.",
        f"Write start: {slices.floor(slices.start):{'%Y-%m-%dT%H:%M' if cadence == 'hourly' else '%Y-%m-%d'}}.",
    )
    return None


class _Fault(Exception):  # noqa: N818 - a fault of the contract
    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.code, self.message, self.remedy = code, message, remedy


def _path_cadence(path: str, cadence: str | None) -> str | None:
    """The cadence of a dated path, or the coarser one that is declared; None of a path without a date."""
    try:
        formats = placeholders(path)
    except ValueError as reason:
        raise _Fault("contract-path", f"The path {show(path)} {reason}.", "Write e.g. dumps/{slice:%Y-%m-%d}/*.gz.") from None
    told = cadence_of(formats)
    if formats and told is None:
        raise _Fault("contract-path", f"The path {show(path)} does not tell a whole date.", "Name the year, e.g. {slice:%Y-%m-%d}.")
    if cadence and told is None:
        raise _Fault(
            "contract-cadence",
            f"The cadence is {cadence}, but the path {show(path)} names no slice.",
            "Write the date into the path, e.g. dumps/{slice:%Y-%m-%d}/*.gz, or remove cadence.",
        )
    if cadence and told and CADENCES.index(cadence) < CADENCES.index(told):
        raise _Fault(
            "contract-cadence", f"The cadence is {cadence}, but the path tells {told} slices.", f"Write cadence: {told}, or remove it."
        )
    return cadence or told


def _required(source: SourceSpec, custom: Mapping[str, Any], path: DocumentPath, findings: Findings) -> None:
    faults = _of_files(source, custom) if source.kind in FILE_KINDS else _of_servers(source, custom)
    for code, what, remedy in faults:
        findings.error(code, path, f"The source {source.kind} {what}.", remedy)


def _of_files(source: SourceSpec, custom: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    incomplete = "contract-source-incomplete"
    if source.path is None:
        yield incomplete, "has no path", "Add the custom property path: names below the connection's root, e.g. orders/*.csv."
    elif source.path.startswith("/") or "://" in source.path or ".." in source.path.split("/"):
        yield "contract-path", f"has the path {show(source.path)}, which leaves the connection's root", "Write it relative to the root."
    elif isinstance(source.options, FilesOptions):
        kind = format_of(source.options, source.path)
        if kind is None:
            what = f"has the path {show(source.path)}, which does not tell the files' format"
            yield incomplete, what, "Add format: csv, tsv, ndjson, json or parquet."
        elif kind == "parquet" and compression_of(custom.get("compression"), source.path) != "none":
            yield incomplete, "reads parquet with a compression around it", "Remove compression: Parquet compresses inside."


def _of_servers(source: SourceSpec, custom: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    incomplete = "contract-source-incomplete"
    if source.connection is None:
        yield incomplete, "has no connection", "Name one; the profile resolves it (SDP_CONNECTIONS)."
    if source.cursor is None and source.slices is None:
        yield incomplete, "has neither cursor nor cadence", "Add cursor for what is new each time, or cadence and start for snapshots."
    if source.cursor is not None and source.slices is not None:
        yield incomplete, "has both cursor and cadence", "Keep cursor for what is new each time, or cadence for snapshots."
    if source.kind == "database" and ("table" in custom) == ("query" in custom):
        yield incomplete, "needs either a table or a query", "Name one of them."
    if source.kind == "http" and source.path is None:
        yield incomplete, "has no path", "Add the custom property path, e.g. /api/grants."


def _at(contract: Contract, name: str) -> DocumentPath:
    for index, entry in enumerate(contract.document["schema"][0].get("customProperties") or ()):
        if entry.get("property") == name:
            return (*_SCHEMA, "customProperties", index)
    return _SCHEMA


def check_landing(contract: Contract, findings: Findings) -> None:
    """The laws between a landed product's source, its mode and its columns; of others only that they ask for nothing of it."""
    source = contract.source
    if source is None or not contract.lands:
        if contract.validity:
            findings.error(
                "contract-validity",
                _at(contract, "validity"),
                "Only rows that land from files, dumps, databases or pages can have a validity.",
                "Remove validity.",
            )
        return
    if contract.write_mode == "overwrite" and source.slices is None:
        findings.error(
            "contract-write-mode",
            _at(contract, "writeMode"),
            "The writeMode is overwrite, but the source has no slices that a delivery could replace.",
            "Add a dated path (for a database cadence) and start, or write append or merge.",
        )
    if source.cursor is not None:
        _cursor(contract, source.cursor, findings)
    if contract.json_schema or contract.extra_schema or any(column.json_schema or column.extra_schema for _, column in contract.walk()):
        findings.warning(
            "contract-custom-misplaced",
            _SCHEMA,
            "JSON Schema (eventSchema, additionalProperties with a schema) is held against events only, not against what lands.",
            "Say it with logicalTypeOptions, enum or a rule of quality.",
        )
    if source.kind == "xml_dump":
        _dump_fields(contract, findings)
    _merge_order(contract, source, findings)
    _validity(contract, source, findings)
    if contract.incremental != "full":
        findings.error(
            "contract-write-mode",
            _at(contract, "incremental"),
            f"A landed product is not computed, but is declared incremental: {contract.incremental}.",
            "Remove incremental.",
        )
    if contract.event_time and contract.has_column(contract.event_time):
        kind = contract.column(contract.event_time).type
        if not isinstance(kind, TimestampType | TimestamptzType | DateType):
            findings.error(
                "contract-event-time-type",
                _at(contract, "eventTime"),
                f"The eventTime {contract.event_time} is {a(str(kind))}, which is no point in time.",
                "Name a column of logicalType timestamp or date.",
            )
    elif contract.event_time:
        findings.error(
            "contract-column-unknown",
            _at(contract, "eventTime"),
            f"The eventTime names the column {contract.event_time}, which the contract does not declare.",
            did_you_mean(contract.event_time, [name for name, _ in contract.walk()], otherwise="Name a declared column."),
        )


def _cursor(contract: Contract, cursor: str, findings: Findings) -> None:
    names = [column.name for column in contract.columns]
    if cursor not in names:
        findings.error(
            "contract-column-unknown",
            ("servers",),
            f"The cursor names the column {cursor}, which the contract does not declare.",
            did_you_mean(cursor, names, otherwise="Name a declared column."),
        )


def _dump_fields(contract: Contract, findings: Findings) -> None:
    for index, column in enumerate(contract.columns):
        if column.source_name not in XML_DUMP_FIELDS:
            named = "" if column.physical_name is None else f", called {column.physical_name} there,"
            findings.error(
                "dump-field-unknown",
                (*_SCHEMA, "properties", index),
                f"The column {column.name}{named} is nothing that an XML dump has.",
                did_you_mean(column.source_name, XML_DUMP_FIELDS, otherwise=f"Set physicalName to one of {', '.join(XML_DUMP_FIELDS)}."),
            )


def _merge_order(contract: Contract, source: SourceSpec, findings: Findings) -> None:
    """Files that are merged need an order of their own: one that was refused, or is corrected, lands behind those that are newer."""
    several = source.kind in FILE_KINDS and source.slices is None and any(sign in (source.path or "") for sign in "*?[")
    if contract.write_mode == "merge" and several and not contract.sequence and not contract.validity:
        findings.error(
            "contract-merge-order",
            _at(contract, "writeMode"),
            f"Files of the path {show(source.path or '')} are merged, but nothing tells which of two rows with one key is the newer one.",
            "Declare the custom property sequence, e.g. [updated_at], or write the date into the path: {slice:%Y-%m-%d}, with start.",
        )


def _validity(contract: Contract, source: SourceSpec, findings: Findings) -> None:
    if not contract.validity:
        return
    path = _at(contract, "validity")
    if contract.write_mode != "merge":
        findings.error(
            "contract-validity", path, f"Rows with a validity are merged, but the writeMode is {contract.write_mode}.", "Remove writeMode."
        )
    if source.slices is None and source.cursor is None:
        findings.error(
            "contract-validity",
            path,
            "Rows with a validity need deliveries in an order of time, but the source has neither slices nor a cursor.",
            "Add a dated path and start.",
        )
    if contract.sequence:
        findings.error(
            "contract-validity",
            path,
            "The order of a validity is that of the slices, so sequence has no place.",
            "Remove sequence or validity.",
        )
    for _, column in contract.walk():
        if column.partitioned:
            findings.error(
                "contract-validity",
                path,
                f"A table of rows with a validity is not partitioned, but {column.name} is declared so.",
                "Remove partitioned.",
            )

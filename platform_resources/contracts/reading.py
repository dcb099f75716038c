"""Read one contract file: YAML, the ODCS 3.2 schema, then our own laws, each fault with file, line, sentence and remedy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from platform_resources.contracts.columns import ColumnBuilder
from platform_resources.contracts.custom import read_custom
from platform_resources.contracts.domains import load_yaml
from platform_resources.contracts.durations import parse_duration
from platform_resources.contracts.findings import Findings, show
from platform_resources.contracts.landing_laws import landed_source
from platform_resources.contracts.laws import check_laws
from platform_resources.contracts.model import Check, Column, Contract, Domain, Scope, Sla
from platform_resources.contracts.odcs import check_standard
from platform_resources.contracts.people import read_support, read_team
from platform_resources.contracts.publication_laws import publication_of
from platform_resources.contracts.publications import Publication
from platform_resources.contracts.readers import declared_readers
from platform_resources.contracts.rules import RuleReader
from platform_resources.contracts.sources import LANDED_KINDS, SourceSpec
from platform_resources.contracts.yaml_source import DocumentPath
from platform_resources.errors import Problem

STATUSES = ("proposed", "draft", "active", "deprecated", "retired")
PRODUCT_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_VERSION = re.compile(r"\d+\.\d+\.\d+")
# Hosts, catalogs and secrets are the profile's: the same contract runs embedded, on one machine and in production.
_PLACES = ("host", "port", "endpointUrl", "location", "catalog", "catalogUrl", "account", "warehouse", "database")
_SCHEMA: DocumentPath = ("schema", 0)


def read_contract(path: Path, *, domain: Domain, project: Path, text: str | None = None) -> tuple[Contract | None, list[Problem]]:
    """The contract in a file, or None with the errors that keep it from being one; warnings come with either.

    Args:
        path: the YAML file; its stem is the product's name.
        domain: the team whose folder it lies in; its owners, support and defaults apply where the contract is silent.
        project: the folder that problems' file names are relative to.
        text: the content, when it is not the file's own (an older version, a draft not yet written).
    """
    source, findings = load_yaml(path, project, "contract", text)
    if source is None:
        return None, findings.problems
    document: dict[str, Any] = source.document
    check_standard(document, findings)
    if findings.failed:
        return None, findings.problems
    _check_identity(document, path, domain, findings)
    if findings.failed:
        return None, findings.problems
    contract = _compile(document, path, domain, source.lines, findings)
    check_laws(contract, findings)
    return (None if findings.failed else contract), findings.problems


def _check_identity(document: Mapping[str, Any], path: Path, domain: Domain, findings: Findings) -> None:
    name, identifier = path.stem, f"{domain.name}.{path.stem}"
    if PRODUCT_NAME.fullmatch(name) is None:
        findings.error(
            "contract-product-name",
            (),
            f"The file name {path.name} gives the product the name {name!r}.",
            "Use lower-case letters and digits with single underscores, a letter first.",
        )
    if document["id"] != identifier:
        findings.error(
            "contract-id", ("id",), f"The id is {show(document['id'])} but the file's place says {identifier}.", f"Write id: {identifier}."
        )
    if document.get("domain", domain.name) != domain.name:
        findings.error(
            "contract-domain",
            ("domain",),
            f"The contract names the domain {show(document['domain'])} but lies in {domain.name}.",
            f"Write domain: {domain.name}, or remove the key.",
        )
    if not str(document["apiVersion"]).startswith("v3."):
        findings.error(
            "contract-api-version",
            ("apiVersion",),
            f"The contract is written for ODCS {document['apiVersion']}.",
            "Write it for apiVersion: v3.2.0.",
        )
    if _VERSION.fullmatch(str(document["version"])) is None:
        findings.error(
            "contract-version",
            ("version",),
            f"The version {show(document['version'])} is not of the form 1.2.3.",
            "Write three numbers with dots.",
        )
    if document.get("status", "draft") not in STATUSES:
        findings.error(
            "contract-status", ("status",), f"The status {show(document['status'])} is not known.", f"Use one of {', '.join(STATUSES)}."
        )
    _check_schema_object(document, name, findings)


def _check_schema_object(document: Mapping[str, Any], name: str, findings: Findings) -> None:
    objects = document.get("schema") or []
    if len(objects) != 1:
        findings.error(
            "contract-schema-count",
            ("schema",),
            f"The contract has {len(objects)} schema objects.",
            "One contract holds one product: give it exactly one schema object.",
        )
        return
    if objects[0]["name"] != name:
        findings.error(
            "contract-schema-name",
            (*_SCHEMA, "name"),
            f"The schema object is named {show(objects[0]['name'])} but the product is {name}.",
            f"Write name: {name}.",
        )
    if not objects[0].get("properties"):
        findings.error("contract-no-columns", _SCHEMA, f"The product {name} has no columns.", "Add properties to its schema object.")
    for path, declared in _properties(objects[0].get("properties") or (), (*_SCHEMA, "properties")):
        if "logicalType" not in declared:  # pragma: no cover - the standard's conditionals refuse it first, in other words
            findings.error("contract-type-missing", path, f"The column {declared.get('name')} has no logicalType.", "Add logicalType.")


def _properties(declared: Any, path: DocumentPath) -> list[tuple[DocumentPath, Mapping[str, Any]]]:
    return [((*path, index), item) for index, item in enumerate(declared)]


def _compile(document: Mapping[str, Any], path: Path, domain: Domain, lines: Mapping[DocumentPath, int], findings: Findings) -> Contract:
    table: Mapping[str, Any] = document["schema"][0]
    custom = read_custom("table", table, _SCHEMA, findings)
    read_custom("contract", document, (), findings)
    columns = ColumnBuilder(findings).build(table["properties"], (*_SCHEMA, "properties"))
    source, publication, title = _source(document, findings)
    is_stream = source is not None and source.kind == "stream"
    incremental = custom.get("incremental", "append" if is_stream else "full")
    lands = source is not None and source.kind in LANDED_KINDS
    validity = custom.get("validity", False)
    write_mode = custom.get("writeMode") or _write_mode(source, incremental, validity=validity)
    primary_key = _primary_key(columns)
    words = document.get("description") or {}
    extra = custom.get("additionalProperties", False)
    return Contract(
        domain=domain.name,
        name=path.stem,
        path=path,
        version=str(document["version"]),
        status=str(document.get("status", "draft")),
        title=str(document.get("name") or table.get("businessName") or path.stem.replace("_", " ").capitalize()),
        description=_text(table.get("description")) or _text(words.get("purpose")),
        purpose=_text(words.get("purpose")),
        limitations=_text(words.get("limitations")),
        usage=_text(words.get("usage")),
        columns=columns,
        primary_key=primary_key,
        source=source,
        publication=publication,
        write_mode=write_mode,
        engine=custom.get("engine", "duckdb"),
        incremental=incremental,
        incremental_key=custom.get("incrementalKey") or (primary_key if incremental == "key" else ()),
        outlives_inputs=custom.get("outlivesInputs", False),
        slow_inputs=custom.get("slowInputs", ()),
        optional_inputs=custom.get("optionalInputs", ()),
        merge_strategy=custom.get("mergeStrategy", "auto"),
        sequence=custom.get("sequence", ()),
        delete_marker=custom.get("deleteMarker"),
        validity=validity,
        sort_order=custom.get("sortOrder", ()),
        dedupe_key=custom.get("dedupeKey", "meta.id"),
        dedupe_window=custom.get("dedupeWindow", timedelta(minutes=60)),
        event_time=custom.get("eventTime", "" if lands else "meta.dt"),
        watermark_delay=custom.get("watermarkDelay", timedelta(0)),
        loud=custom.get("loud", False),
        max_event_bytes=custom.get("maxEventBytes", 1_048_576),
        target_file_bytes=custom.get("targetFileSize"),
        time_travel=custom.get("timeTravel"),
        closed=extra is False,
        extra_schema=extra if isinstance(extra, dict) else {},
        json_schema=custom.get("eventSchema", {}),
        event_schema_title=title,
        checks=_checks(table, columns, is_stream=is_stream, write_mode=write_mode, findings=findings),
        sla=_sla(document, domain, findings),
        owners=read_team(document.get("team"), ("team",), findings) or domain.owners,
        support=read_support(document.get("support") or [], ("support",), findings) or domain.support,
        tags=tuple(dict.fromkeys((*domain.defaults.get("tags", ()), *(document.get("tags") or ()), *(table.get("tags") or ())))),
        classification=_classification(columns, domain),
        readers=declared_readers(document, domain.name),
        document=document,
        lines=lines,
    )


def _write_mode(source: SourceSpec | None, incremental: str, *, validity: bool) -> str:
    """How the table is written where the contract does not say."""
    if source is not None and source.kind in LANDED_KINDS:
        return "merge" if validity else "overwrite" if source.slices is not None else "append"
    return "append" if incremental == "append" else "merge" if incremental == "key" else "overwrite"


def _text(value: object) -> str:
    return str(value or "").strip()


def _classification(columns: tuple[Column, ...], domain: Domain) -> str:
    """The strictest classification of a column, else the domain's default, else internal."""
    order = ("public", "internal", "confidential", "restricted")
    base = str(domain.defaults.get("classification", "internal"))
    given = [c.classification for column in columns for _, c in column.walk() if c.classification in order]
    return max((base, *(word for word in given if word)), key=order.index) if base in order else base


def _primary_key(columns: tuple[Column, ...]) -> tuple[str, ...]:
    keyed = [(c.primary_key, path) for column in columns for path, c in column.walk() if c.primary_key is not None]
    return tuple(path for _, path in sorted(keyed, key=lambda pair: pair[0]))


def _source(document: Mapping[str, Any], findings: Findings) -> tuple[SourceSpec | None, Publication | None, str | None]:
    """Where the rows come from, what is published, and the title of the stream's event schema."""
    found: SourceSpec | None = None
    publication: Publication | None = None
    title: str | None = None
    for index, server in enumerate(document.get("servers") or ()):
        path: DocumentPath = ("servers", index)
        for word in _PLACES:
            if word in server:
                findings.error(
                    "contract-place-in-server",
                    (*path, word),
                    f"The server {server['server']} names a {word}, which is the profile's to know.",
                    "Remove it; name a connection instead.",
                )
        custom = read_custom("server", server, path, findings)
        if "publishes" in custom:
            publication = _published(server, custom, path, findings, publication)
            continue
        if "source" not in custom:
            if custom and not findings.failed:
                findings.error(
                    "contract-source-missing",
                    path,
                    f"The server {server['server']} has {', '.join(custom)} but no source.",
                    "Add the custom property source, e.g. stream.",
                )
            continue
        if found is not None:
            findings.error("contract-source-twice", path, "The contract has two sources.", "Keep one server with a source.")
        if server["type"] != "custom":
            findings.error(
                "contract-server-type",
                (*path, "type"),
                f"The server {server['server']} has a source but the type {server['type']}.",
                "Write type: custom.",
            )
        if custom["source"] in LANDED_KINDS:
            found = landed_source(custom["source"], custom, path, findings)
            continue
        stream, title = custom.get("stream"), custom.get("schemaTitle")
        if custom["source"] == "stream" and stream is None:
            findings.error("contract-stream-missing", path, "The source is a stream but none is named.", "Add the custom property stream.")
        topics = custom.get("topics") or ((stream,) if stream else ())
        found = SourceSpec(custom["source"], stream, topics, custom.get("connection"), custom.get("path"), findings.line(path))
    return found, publication, title


def _published(
    server: Mapping[str, Any], custom: Mapping[str, Any], path: DocumentPath, findings: Findings, other: Publication | None
) -> Publication | None:
    if other is not None:
        findings.error("contract-source-twice", path, "The contract publishes twice.", "Give the second its own product.")
    if server["type"] != "custom":
        findings.error(
            "contract-server-type",
            (*path, "type"),
            f"The server {server['server']} publishes but has the type {server['type']}.",
            "Write type: custom.",
        )
    return publication_of(custom, path, findings)


def _checks(
    table: Mapping[str, Any], columns: tuple[Column, ...], *, is_stream: bool, write_mode: str, findings: Findings
) -> tuple[Check, ...]:
    by_path = {path: c for column in columns for path, c in column.walk()}
    default: Scope = "commit" if is_stream or write_mode == "append" else "partition" if write_mode == "overwrite" else "table"
    reader = RuleReader(by_path, is_stream=is_stream, default_scope=default, findings=findings)
    checks = reader.read(table.get("quality") or (), (*_SCHEMA, "quality"))
    for path, declared, dotted in _walk(table["properties"], (*_SCHEMA, "properties"), ""):
        checks += reader.read(declared.get("quality") or (), (*path, "quality"), dotted)
    return tuple(checks)


def _walk(properties: Any, path: DocumentPath, parent: str) -> list[tuple[DocumentPath, Mapping[str, Any], str]]:
    """Every declared property with its place in the document and its dotted path, lists and maps entered."""
    found: list[tuple[DocumentPath, Mapping[str, Any], str]] = []
    for index, declared in enumerate(properties):
        found += _walk_one(declared, (*path, index), f"{parent}{declared['name']}")
    return found


def _walk_one(declared: Mapping[str, Any], path: DocumentPath, dotted: str) -> list[tuple[DocumentPath, Mapping[str, Any], str]]:
    found = [(path, declared, dotted), *_walk(declared.get("properties") or (), (*path, "properties"), f"{dotted}.")]
    if declared.get("items"):
        found += _walk_one(declared["items"], (*path, "items"), f"{dotted}.element")
    for side in ("key", "value"):
        if side in (declared.get("map") or {}):
            found += _walk_one(declared["map"][side], (*path, "map", side), f"{dotted}.{side}")
    return found


def _sla(document: Mapping[str, Any], domain: Domain, findings: Findings) -> Sla:
    lengths: dict[str, timedelta | None] = {word: domain.defaults.get(word) for word in ("latency", "frequency", "retention")}
    objective = window = column = None
    for index, promise in enumerate(document.get("slaProperties") or ()):
        path: DocumentPath = ("slaProperties", index)
        custom = read_custom("sla", promise, path, findings)
        name = promise["property"]
        if name not in lengths:
            continue
        try:
            lengths[name] = parse_duration(promise["value"], promise.get("unit", "d" if name == "retention" else "s"))
        except ValueError as reason:
            findings.error(
                "contract-sla-value",
                (*path, "value"),
                f"The promise {name} is {show(promise['value'])} {promise.get('unit', '')}".rstrip() + f", which {reason}.",
                "Write e.g. value: 5, unit: minutes.",
            )
        if name == "latency":
            objective, window = custom.get("objective"), custom.get("window")
        if name == "retention" and promise.get("element"):
            column = str(promise["element"]).rsplit(f"{document['schema'][0]['name']}.", maxsplit=1)[-1]
    return Sla(lengths["latency"], lengths["frequency"] or timedelta(seconds=60), lengths["retention"], objective, window, column)

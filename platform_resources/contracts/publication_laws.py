"""What the contract of a product that publishes files must keep: an outbound server that tells all, and columns that an index can have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from platform_resources.contracts.findings import Findings, a, did_you_mean, show
from platform_resources.contracts.model import Contract
from platform_resources.contracts.publications import DEFAULT_FILE_BYTES, INDEX_COLUMNS, PROPERTIES, Publication, path_fault
from platform_resources.contracts.slices import Slices, cadence_of, placeholders
from platform_resources.contracts.yaml_source import DocumentPath

_SCHEMA: DocumentPath = ("schema", 0)
_NAMES = ("{wiki_id}", "{first}", "{last}")
_SECRET = ("confidential", "restricted")


def publication_of(custom: Mapping[str, Any], path: DocumentPath, findings: Findings) -> Publication | None:
    """The publication of an outbound server, its faults reported; None where they leave none.

    Args:
        custom: the server's custom properties, converted.
        path: of the server.
        findings: takes what is wrong.
    """
    for given in custom:
        if given not in PROPERTIES:
            findings.warning(
                "contract-custom-misplaced",
                path,
                f"The custom property {given} has no effect on a server that publishes.",
                did_you_mean(given, PROPERTIES, otherwise="Remove it."),
            )
    name = custom.get("path")
    if name is None:
        findings.error(
            "contract-publication-incomplete",
            path,
            "The server publishes, but has no path.",
            "Add the custom property path: the files' names.",
        )
        return None
    if (fault := path_fault(name)) is not None:
        findings.error("contract-path", path, f"The path {show(name, limit=120)} {fault[0]}.", fault[1])
        return None
    slices = _slices(name, custom, path, findings)
    if slices is None:
        return None
    return Publication(
        custom["publishes"],
        name,
        slices,
        custom.get("connection"),
        custom.get("revisions", "all"),
        custom.get("text", True),
        custom.get("fileSize", DEFAULT_FILE_BYTES),
        findings.line(path),
    )


def _slices(name: str, custom: Mapping[str, Any], path: DocumentPath, findings: Findings) -> Slices | None:
    plain = name
    for known in _NAMES:
        plain = plain.replace(known, "")
    cadence = custom.get("cadence") or cadence_of(placeholders(plain))
    if cadence is None:
        findings.error("contract-path", path, f"The path {show(name)} does not tell a whole date.", "Name the year, e.g. {slice:%Y%m%d}.")
        return None
    if "start" not in custom:
        findings.error("contract-start", path, f"The dumps are {cadence}, but nothing tells the first.", "Add start, e.g. 2026-01-01.")
        return None
    slices = Slices(cadence, custom["start"])
    if slices.floor(slices.start) != slices.start:
        findings.error(
            "contract-start",
            path,
            f"The start {slices.start:%Y-%m-%dT%H:%M} is no beginning of a {cadence} slice.",
            f"Write start: {slices.floor(slices.start):%Y-%m-%d}.",
        )
        return None
    return slices


def check_publication(contract: Contract, findings: Findings) -> None:
    """The laws between a publication and the table that is its index."""
    if contract.publication is None:
        return
    if contract.readers is not None:
        findings.error(
            "contract-not-public",
            ("roles",),
            f"What {contract.key} publishes is for everybody, but its roles let {' and '.join(contract.readers)} only read it.",
            "Remove the roles, or the server that publishes.",
        )
    elif contract.classification in _SECRET:
        findings.error(
            "contract-not-public",
            _SCHEMA,
            f"What {contract.key} publishes is for everybody, but it is classified as {contract.classification}.",
            "Let the classification of its columns, or its domain's default, be public; or remove the server that publishes.",
        )
    for column in contract.columns:
        known = INDEX_COLUMNS.get(column.name)
        if known is None:
            findings.error(
                "contract-index-column",
                _SCHEMA,
                f"The index of a dump cannot tell {column.name}.",
                did_you_mean(column.name, INDEX_COLUMNS),
            )
        elif known.type != column.type:
            findings.error(
                "contract-index-column",
                _SCHEMA,
                f"The column {column.name} of the index of a dump is {a(str(known.type))}, but is declared as {a(str(column.type))}.",
                "Declare it as string." if str(known.type) == "string" else "Declare it as integer.",
            )
        if column.partitioned:
            findings.error(
                "contract-index-column",
                _SCHEMA,
                f"The index of a dump is partitioned by its dates, so {column.name} cannot be partitioned.",
                "Remove partitioned.",
            )
    for name, known in INDEX_COLUMNS.items():
        if known.required and not contract.has_column(name):
            findings.error("contract-index-column", _SCHEMA, f"The index of a dump lacks the column {name}.", "Declare it.")
    if contract.source is not None:
        findings.error("contract-source-twice", ("servers",), "A product that publishes has no source.", "Remove one of the two servers.")
    if contract.incremental != "full":
        findings.error(
            "contract-write-mode",
            _SCHEMA,
            f"A dump is written whole for each date, but the product is declared incremental: {contract.incremental}.",
            "Remove incremental.",
        )

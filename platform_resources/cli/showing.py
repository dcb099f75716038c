"""`sdp show`: one product, everything that its contract, its transform and its table say of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
import yaml

from platform_resources.addresses import shown_address
from platform_resources.cli.output import Col, Command, answer, draw_table, duration, human, json_option
from platform_resources.cli.products import damaged_or, listed, raise_damage, read_table
from platform_resources.cli.snippets import ENGINES, snippet
from platform_resources.config import Settings, load_settings
from platform_resources.contracts.exporting import exported
from platform_resources.contracts.model import Check, Column, Contract
from platform_resources.contracts.registry import Registry
from platform_resources.errors import PlatformError
from platform_resources.parts import Parts
from platform_resources.runs import REFUSED, look_at

if TYPE_CHECKING:
    from pyiceberg.table import Table
    from rich.console import Console


@click.command("show", cls=Command, reads_tables=True)
@click.argument("product")
@click.option("--snippet", "engine", type=click.Choice(list(ENGINES)), help="Print a Python program that reads it without this platform.")
@click.option("--odcs", is_flag=True, help="Print the contract as the standard's YAML, with the servers of this profile.")
@json_option
def show_command(product: str, engine: str | None, odcs: bool, as_json: bool) -> None:
    """One product (domain/product): what it is, its columns and checks, what it promises, whom it feeds, how to read it."""
    settings = load_settings()
    registry = Registry.load(settings.project)
    contract = registry.get(product)
    if engine is not None:
        if Parts(settings).lakehouse.table(contract.identifier) is None:
            from platform_resources.sourcing import not_materialised

            raise not_materialised(contract)
        program = snippet(engine, contract, settings)
        answer({"engine": engine, "program": program}, as_json=as_json, human=lambda _: click.echo(program, nl=False))
        return
    if odcs:
        document = exported(contract, _servers(settings, contract))
        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=130)
        answer(document, as_json=as_json, human=lambda _: click.echo(text, nl=False))
        return
    shown = _shown(settings, registry, contract)
    answer(shown, as_json=as_json, human=lambda console: _draw_product(console, shown))
    raise_damage([shown["error"]])


def _shown(settings: Settings, registry: Registry, contract: Contract) -> dict[str, Any]:
    read = read_table(Parts(settings).lakehouse, contract.identifier)
    table = None if isinstance(read, PlatformError) else read
    head = table.current_snapshot() if table is not None else None
    inputs = inputs_of(settings, registry)
    program = f'source("{contract.key}").polars()'
    return {
        **listed(registry, contract, read),
        "identifier": contract.identifier,
        "description": contract.description,
        "purpose": contract.purpose,
        "usage": contract.usage,
        "limitations": contract.limitations,
        "file": str(contract.path.relative_to(settings.project)) if contract.path.is_relative_to(settings.project) else str(contract.path),
        "topics": list(contract.source.topics) if contract.source else [],
        "support": [{"channel": s.channel, "tool": s.tool, "url": s.url} for s in contract.support],
        "tags": list(contract.tags),
        "readers": None if contract.readers is None else list(contract.readers),
        "write_mode": contract.write_mode,
        "incremental": contract.incremental,
        "primary_key": list(contract.primary_key),
        "columns": [_column(path, column) for path, column in contract.walk()] + _own_columns(contract),
        "checks": [_check(check) for check in contract.checks],
        "slo": {
            "latency_seconds": contract.sla.latency,
            "frequency_seconds": contract.sla.frequency,
            "retention_seconds": contract.sla.retention,
            "objective": contract.sla.objective, "window": contract.sla.window,
        },
        "inputs": list(inputs.get(contract.key, ())),
        "consumers": sorted(key for key, used in inputs.items() if contract.key in used),
        "snapshot_id": head.snapshot_id if head is not None else None,
        "location": table.location() if table is not None else None,
        "metadata_location": table.metadata_location if table is not None else None,
        "refused_branches": _refused(table),
        "snippets": {
            "sql": f'sdp query "select * from {contract.identifier} limit 10"',  # noqa: S608 - a text to paste
            "python": f'from platform_resources import source\n{program}  # or .duckdb(), .arrow(), .at("2026-01-01T00:00:00Z")',
        },
    }  # fmt: skip


def _servers(settings: Settings, contract: Contract) -> list[dict[str, Any]]:
    """Where the product's events and table are under this profile, in the standard's words; no secret is among them."""
    if not contract.is_stream:
        at = None  # where else rows come from is another team's, and its address may hold a secret
    elif settings.log_kind == "local":
        at = {"type": "local", "path": str(settings.log_path)}
    else:
        from platform_resources.stack.kafka import running_bootstrap

        broker = settings.kafka_bootstrap or running_bootstrap(settings)
        at = {"type": "kafka", "host": broker} if broker else None
    topics = ", ".join(contract.source.topics) if contract.source else ""
    servers: list[dict[str, Any]] = [{"server": "events", **at, "format": "json", "description": f"Topics: {topics}."}] if at else []
    table = {"server": "table", "description": f"Iceberg table {contract.identifier}."}
    root, place = settings.warehouse_uri, "/".join(contract.identifier.split("."))
    if settings.catalog_type == "rest" and settings.catalog_uri:
        reached = {"catalog": settings.catalog_name, "catalogUrl": shown_address(settings.catalog_uri)}
        servers.append({**table, "type": "iceberg", **reached, "namespace": contract.domain, "warehouse": root})
    elif root.startswith("s3"):
        servers.append({**table, "type": "s3", "location": f"{root}/{place}", "format": "iceberg"})
    else:
        servers.append({**table, "type": "local", "path": f"{root.removeprefix('file://')}/{place}", "format": "iceberg"})
    return servers


def _refused(table: Table | None) -> list[dict[str, Any]]:
    """The branches that keep refused writes, the newest first."""
    if table is None:
        return []
    from platform_resources.lakehouse.reading import branches

    return [
        {"branch": name, "snapshot_id": snapshot.snapshot_id, "time": datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC)}
        for name, snapshot in branches(table)
        if name.startswith(REFUSED)
    ]


def _column(path: str, column: Column) -> dict[str, Any]:
    return {
        "name": path,
        "type": column.logical_type if column.children() else str(column.type),
        "required": column.required,
        "json": column.is_json,
        "description": column.description,
        "unit": column.unit,
        "classification": column.classification,
        "tags": list(column.tags),
    }


def _own_columns(contract: Contract) -> list[dict[str, Any]]:
    """What the platform adds to a stream's table."""
    from platform_resources.contracts.iceberg import table_definition

    bare = {"json": False, "unit": None, "classification": None, "tags": ["platform"]}
    return [
        {"name": field.name, "type": str(field.field_type), "required": field.required, "description": field.doc or "", **bare}
        for field in table_definition(contract).schema.fields
        if not contract.has_column(field.name)
    ]


def _check(check: Check) -> dict[str, Any]:
    names = ("name", "metric", "column", "severity", "scope", "description")
    return {name: getattr(check, name) for name in names}


def inputs_of(settings: Settings, registry: Registry) -> dict[str, tuple[str, ...]]:
    """What each derived product reads; one whose transform is broken reads nothing here."""
    derived = {key: contract for key, contract in registry.contracts.items() if registry.transform_path(key)}
    if not derived:
        return {}
    from platform_resources.cli.foreground import use_project
    from platform_resources.engines.loading import read_transform

    use_project(settings)
    found: dict[str, tuple[str, ...]] = {}
    for key, contract in derived.items():
        try:
            transform = read_transform(contract, registry)
        except PlatformError:
            continue
        if transform is not None:
            found[key] = transform.inputs
    return found


def _draw_product(console: Console, shown: dict[str, Any]) -> None:
    from rich.padding import Padding
    from rich.text import Text

    console.print(
        Text.assemble((shown["product"], "bold"), f"  {shown['title']}  ({shown['kind']}, {shown['status']}, version {shown['version']})")
    )
    for text in (shown["purpose"] or shown["description"], shown["usage"], shown["limitations"]):
        if text:
            console.print()
            console.print(Padding(Text(text), (0, 0, 0, 2)))
    console.print()
    for name, value in _facts(shown):
        if value not in (None, ""):
            console.print(f"  {name:<12} {human(value)}", soft_wrap=True)
    rows = [
        (
            "  " * path.count(".") + path.rpartition(".")[2],
            "json" if c["json"] else c["type"],
            "required" if c["required"] else "",
            c["description"],
        )
        for c in shown["columns"]
        for path in [c["name"]]
    ]
    _head(console, "Columns")
    draw_table(console, [Col("column", keep=True), Col("type", keep=True), Col("", keep=True), Col("what it means", wrap=True)], rows)
    if shown["checks"]:
        checks = [(c["name"], c["severity"], c["scope"], c["description"] or c["metric"]) for c in shown["checks"]]
        _head(console, "Checks")
        draw_table(
            console, [Col("check", keep=True), Col("severity", keep=True), Col("scope", keep=True), Col("what it holds", wrap=True)], checks
        )
    _draw_reading(console, shown)


def _facts(shown: dict[str, Any]) -> list[tuple[str, Any]]:
    slo = shown["slo"]
    promise = f"at most {duration(slo['latency_seconds'].total_seconds())} old" if slo["latency_seconds"] else "none"
    kept = f", kept {duration(slo['retention_seconds'].total_seconds())}" if slo["retention_seconds"] else ""
    return [
        ("stream", shown["stream"]), ("owners", ", ".join(shown["owners"])),
        ("support", ", ".join(str(item["channel"]) for item in shown["support"])), ("promise", promise + kept),
        ("class", shown["classification"]), ("readers", "" if shown["readers"] is None else ", ".join(shown["readers"])),
        ("primary key", ", ".join(shown["primary_key"])), ("inputs", ", ".join(shown["inputs"])),
        ("consumers", ", ".join(shown["consumers"])), ("rows", damaged_or(shown, shown["rows"])),
        ("snapshot", shown["snapshot_id"] and str(shown["snapshot_id"])),
        ("contract", shown["file"]),
    ]  # fmt: skip


def _draw_reading(console: Console, shown: dict[str, Any]) -> None:
    """How to read the product: what was refused, this platform's ways, those of others."""
    from platform_resources.lakehouse.reading import NEWEST

    def say(text: str) -> None:
        console.print(text, soft_wrap=True)

    refused = shown["refused_branches"]
    if refused:
        _head(console, "Refused writes, not published")
        draw_table(console, [Col("branch", keep=True), Col("time", keep=True)], [(r["branch"], r["time"]) for r in refused[:NEWEST]])
        if len(refused) > NEWEST:
            say(f"{len(refused) - NEWEST} older (--json)")
        say(look_at(shown["identifier"], refused[0]["branch"]))
    _head(console, "How to read it")
    say(shown["snippets"]["sql"])
    say(shown["snippets"]["python"])
    if shown["metadata_location"] is not None:
        console.print()
        say(f"From outside, a program that finds the newest rows ({', '.join(ENGINES)}):")
        say(f"sdp show {shown['product']} --snippet duckdb")
        say(f"The table's metadata, until its next commit: {shown['metadata_location']}")


def _head(console: Console, title: str) -> None:
    from rich.text import Text

    console.print()
    console.print(Text(title, style="bold"))

"""`sdp maintain`: what the tables need and why, and doing it here and now, with or without a running platform."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from platform_resources.cli.output import Col, Command, answer, draw_table, duration, json_option, progress
from platform_resources.config import load_settings
from platform_resources.contracts.registry import Registry
from platform_resources.errors import PlatformError

if TYPE_CHECKING:
    from rich.console import Console

    from platform_resources.lakehouse.health import Need
    from platform_resources.maintenance import Fact, Look

_OUTCOMES = {"done": "green", "failed": "red", "lost": "yellow", "waits": "yellow", "postponed": "yellow"}


@click.command("maintain", cls=Command, reads_tables=True)
@click.argument("product", required=False)
@click.option("--dry-run", is_flag=True, help="Only say what would be done, and why.")
@json_option
def maintain_command(product: str | None, dry_run: bool, as_json: bool) -> None:
    """Do what the facts of tables call for: of PRODUCT (domain/product) with its quarantine, or of all tables.

    Files are compacted, snapshots expired, rows past their retention removed, what killed writes left deleted. What was seen and done goes
    to platform/table_health and platform/table_maintenance, as when the platform does it by itself.
    """
    from platform_resources.lakehouse.catalog import Lakehouse
    from platform_resources.maintenance import Maintenance, maintained_tables

    settings = load_settings()
    registry = Registry.load(settings.project)
    work = Maintenance(Lakehouse(settings), registry, f"maintain-{uuid.uuid4()}")
    with progress("looking at the tables"):
        looks = work.look(maintained_tables(registry, product))
    listings = work.listings(looks, asked=product is not None)
    if dry_run:
        needs = [_needs(look, listing) for look, listing in zip(looks, listings, strict=True)]
        documents = [_look_document(look, wanted) for look, wanted in zip(looks, needs, strict=True)]
        answer(documents, as_json=as_json, human=lambda console: _draw_looks(console, looks, needs))
        _refuse([f"{look.target.identifier}: {look.error}" for look in looks if look.error is not None], "cannot be looked at")
        return
    if product is None:
        work.record_looks(looks)
    facts: list[Fact] = []
    due = [(look, listing) for look, listing in zip(looks, listings, strict=True) if look.needs or look.error or listing]
    with progress("maintaining", total=len(due)) as advance:
        for look, listing in due:
            advance(0, text=f"maintaining {look.target.identifier}")
            facts += work.maintain(look.target, orphans=listing)
            advance()
    work.record(facts)
    document = {"run_id": work.run_id, "tables": len(looks), "actions": [_fact_document(fact) for fact in facts]}
    answer(document, as_json=as_json, human=lambda console: _draw_facts(console, looks, facts))
    _refuse([f"{fact.identifier} ({fact.action}): {fact.error}" for fact in facts if fact.outcome == "failed"], "could not be maintained")


def _refuse(faults: Sequence[str], what: str) -> None:
    """One sentence for all tables at fault; what the others got stands above it."""
    if faults:
        count = "1 table" if len(faults) == 1 else f"{len(faults)} tables"
        raise PlatformError("maintenance-failed", f"{count} {what}: {'; '.join(faults)}")


def _needs(look: Look, listing: str | None) -> list[Need]:
    """What would be done to a table, the listing for orphans included."""
    from platform_resources.lakehouse.health import Need

    return [*look.needs, *([Need("orphans", listing)] if listing is not None and look.health is not None else [])]


def _look_document(look: Look, needs: Sequence[Need]) -> dict[str, Any]:
    from dataclasses import asdict

    document: dict[str, Any] = {"product": look.target.product, "table": look.target.identifier, "error": look.error, "needs": []}
    if look.health is not None:
        facts = asdict(look.health)
        facts.pop("identifier")
        document |= facts | {"needs": [asdict(need) for need in needs]}
    return document


def _fact_document(fact: Fact) -> dict[str, Any]:
    from dataclasses import asdict

    document = asdict(fact)
    return {"table": document.pop("identifier"), **document}


def _draw_looks(console: Console, looks: Sequence[Look], needs: Sequence[Sequence[Need]]) -> None:
    columns = [
        Col("table", keep=True),
        Col("files", right=True, keep=True),
        Col("size", right=True, keep=True),
        Col("what and why", wrap=True),
    ]
    rows = []
    for look, wanted in zip(looks, needs, strict=True):
        health = look.health
        said = look.error or "; ".join(f"{need.action}: {need.reason}{_size_of(need.bytes)}" for need in wanted) or "-"
        rows.append((look.target.identifier, health.files if health else None, size(health.bytes) if health else None, said))
    draw_table(console, columns, rows)
    sound = [wanted for look, wanted in zip(looks, needs, strict=True) if look.error is None]
    needy = sum(bool(wanted) for wanted in sound)
    if needy:
        console.print(f"{needy} of {len(sound)} tables would be maintained; nothing was changed.")
    elif sound:  # of those at fault alone there is nothing else to say
        console.print("No table needs anything." if len(sound) == len(looks) else "No other table needs anything.")


def _size_of(count: int) -> str:
    return f" ({size(count)})" if count else ""


def _draw_facts(console: Console, looks: Sequence[Look], facts: Sequence[Fact]) -> None:
    from rich.text import Text

    if not facts:
        console.print(f"{len(looks)} tables were looked at; none needs anything.")
        return
    columns = [
        Col("table", keep=True), Col("action", keep=True), Col("outcome", keep=True), Col("files", right=True, keep=True),
        Col("size", right=True, keep=True), Col("took", right=True, keep=True, spare=True), Col("why", wrap=True),
    ]  # fmt: skip
    rows = []
    for fact in facts:
        outcome = Text(fact.outcome, style=_OUTCOMES.get(fact.outcome, ""))
        files = f"{fact.files_before:,} → {fact.files_after:,}"
        sizes = f"{size(fact.bytes_before)} → {size(fact.bytes_after)}"
        rows.append((fact.identifier, fact.action, outcome, files, sizes, duration(fact.seconds), fact.error or fact.reason))
    draw_table(console, columns, rows)


def size(count: int) -> str:
    """Bytes for people, in powers of 1024: `0 B`, `12.3 KiB`, `1.4 GiB`."""
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"

"""A platform with Content Platform's products: what a test tells by dumps and events, and the rows that come of it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pyarrow as pa

from demo.contents import CONTENT_STREAM, VISIBILITY_STREAM
from platform_resources.contracts.sources import Complete
from platform_resources.landing.landing import Landing
from platform_resources.landing.reports import LandingReport
from platform_resources.sourcing import source
from tests.products.conftest import World

MADE = ("visibility_elsewhere", "history", "current")
INPUTS = ("content/pages_dump", "mediawiki/page_content_change", "mediawiki/revision_visibility_change")


def land(world: World, key: str, files: Mapping[str, bytes]) -> LandingReport:
    """Drop files and land them; they count as whole at once, since these are written in one go."""
    contract = world.registry.get(key)
    assert contract.source is not None
    folder = world.settings.home / "drop" / (contract.source.connection or contract.domain)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    options = replace(contract.source.options, complete=Complete(timedelta(0)))
    whole = replace(contract, source=replace(contract.source, options=options))
    return Landing(whole, lakehouse=world.lakehouse, settings=world.settings, run_id=str(uuid.uuid4())).run()


def tell(world: World, *, dumps: Mapping[str, bytes] | None = None, changes: Iterable[Any] = (), visibility: Iterable[Any] = ()) -> None:
    """Land dumps and ingest events; all of them must be taken."""
    if dumps:
        report = land(world, "content/pages_dump", dumps)
        assert (report.refused, report.quarantined) == ([], 0)
    for stream, key, events in ((CONTENT_STREAM, INPUTS[1], changes), (VISIBILITY_STREAM, INPUTS[2], visibility)):
        lines = [event if isinstance(event, bytes) else orjson.dumps(event) for event in events]
        if lines:
            report = world.produce(stream, lines)
            assert (report.accepted, report.refusals) == (len(lines), [])
            world.ingest(key)


def work(world: World, *, recompute: bool = False) -> list[str]:
    """Derive the products; the plans taken."""
    return [world.derive(f"content/{name}", recompute=recompute) for name in MADE]


def rows(world: World, name: str) -> list[dict[str, Any]]:
    """A product's rows by wiki, page and revision; slots as a dictionary."""
    table: pa.Table = source(f"content/{name}", registry=world.registry, lakehouse=world.lakehouse, reader="content").arrow()
    found = [{**row, "revision_content_slots": dict(row["revision_content_slots"])} for row in table.to_pylist()]
    return sorted(found, key=lambda row: (row["wiki_id"], row["page_id"], row["revision_id"]))

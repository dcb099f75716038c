"""A platform with the products of history: what a test tells by streams and files, and the rows that come of it."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson

from demo.histories import Event
from platform_resources.contracts.sources import Complete
from platform_resources.engines.duck import connect
from platform_resources.landing.landing import Landing
from platform_resources.sourcing import source
from tests.mediawiki.computed import STREAMS, derived
from tests.products.conftest import World


def tell(world: World, events: Iterable[tuple[str, Event]]) -> None:
    """Send events through the gate and ingest them; all must be taken."""
    by_stream: dict[str, list[bytes]] = defaultdict(list)
    for stream, event in events:
        by_stream[stream].append(orjson.dumps(event))
    for stream, lines in by_stream.items():
        report = world.produce(stream, lines)
        assert (report.accepted, report.refusals) == (len(lines), [])
        world.ingest(STREAMS[stream])


def land(world: World, key: str, files: Mapping[str, bytes]) -> None:
    """Drop files and land them, as whole at once; all lines must be taken."""
    contract = world.registry.get(key)
    assert contract.source is not None
    for name, content in files.items():
        path = world.settings.home / "drop" / contract.domain / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    options = replace(contract.source.options, complete=Complete(timedelta(0)))
    whole = replace(contract, source=replace(contract.source, options=options))
    report = Landing(whole, lakehouse=world.lakehouse, settings=world.settings, run_id=str(uuid.uuid4())).run()
    assert (report.refused, report.quarantined) == ([], 0)


def land_map(world: World, content: bytes, month: str = "2026-01") -> None:
    """The map of wikis and namespaces of a month."""
    land(world, "mediawiki/project_namespace_map", {f"project_namespace_map/snapshot={month}/map.json.gz": content})


def work(world: World) -> dict[str, str]:
    """Derive all of it; the plan of each product."""
    with connect(world.settings) as con:
        return {key.removeprefix("mediawiki/"): plan for key, plan in derived(con, world.lakehouse, world.settings).items()}


def rows(world: World, name: str) -> list[dict[str, Any]]:
    """A product's rows, as the domain reads them."""
    return source(f"mediawiki/{name}", registry=world.registry, lakehouse=world.lakehouse, reader="mediawiki").arrow().to_pylist()

"""The history of wikis: a first computation from events, and how long a thousand new ones take until they stand in it.

`python -m bench.history [--rows N] [--late N] [--repetitions N] [--json]`; rows are revisions, and events of all streams some 1.4 times
as many. They are the life of `demo.histories`, over and over under other ids, so every page and account has the history it has there and
no page is very large. All but the last of each life are ingested by the drain; every product is then computed from nothing in each round:
staged, audited by its contract's checks, committed. The limit gives the same queries to DuckDB, from Parquet files of the inputs to
Parquet files of the results: no table, no checks, no position. Then the new events come in: the drain, then each product by what changed,
as its runs do one after the other. What runs wait for each other (`frequency`) is not in it.

With one repetition nothing is computed ahead to warm up.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson

from bench.chain import LIMIT, OURS, Chain, line
from bench.harness import arguments, compare, interleaved, report
from demo.histories import Event, generate, namespace_map
from platform_resources.contracts.sources import Complete
from platform_resources.landing.landing import Landing

STREAMS = ("page_change", "revision_visibility_change", "revision_tags_change", "user_blocks_change", "user_change")
LANDED = ("history_snapshot", "project_namespace_map")
PRODUCTS = (
    "history_baseline",
    "revision_state",
    "page_history",
    "revision_history",
    "user_history",
    "actor_name",
    "history",
    "history_reduced",
)
LIFE = 5_000  # events of one life; the generator takes longer for each the more there are
APART = 10_000  # by how much the ids of one life differ from those of the next: more than a life has pages, revisions or accounts
CHUNK = 20_000


class Lives(Chain):
    """A platform with a log of lives in it."""

    def __init__(self, folder: Path, revisions: int, late: int) -> None:
        super().__init__(folder, "mediawiki", (*STREAMS, *LANDED), PRODUCTS)
        life = generate(LIFE)
        self.copies = max(1, round(revisions / sum(_is_revision(event) for _, event in life)))
        held = -(-late // self.copies)
        if held >= len(life):
            raise SystemExit(f"{late:,} new events are too many for {revisions:,} revisions")
        self.late = [(stream, _shifted(event, copy)) for copy in range(self.copies) for stream, event in life[len(life) - held :]][:late]
        self.counts: Counter[str] = Counter()
        self._fill(life[: len(life) - held])

    def _fill(self, life: list[tuple[str, Event]]) -> None:
        """The log with every life but its end, and the map of wikis where it is dropped."""
        waiting: dict[str, list[tuple[bytes | None, bytes]]] = defaultdict(list)
        for copy in range(self.copies):
            for stream, event in life:
                waiting[stream].append((None, orjson.dumps(_shifted(event, copy))))
                self.counts["events"] += 1
                self.counts["revisions"] += _is_revision(event)
                if len(waiting[stream]) == CHUNK:
                    self.log.append(stream, waiting.pop(stream))
        for stream, records in waiting.items():
            self.log.append(stream, records)
        dropped = self.settings.home / "drop" / "mediawiki" / "project_namespace_map" / "snapshot=2026-01" / "map.json.gz"
        dropped.parent.mkdir(parents=True)
        dropped.write_bytes(namespace_map())

    def land(self) -> None:
        """The map of wikis and namespaces, without which nothing is in history."""
        contract = self.registry.get("mediawiki/project_namespace_map")
        if contract.source is None:
            raise SystemExit(f"{contract.key} does not land")
        options: Any = replace(contract.source.options, complete=Complete(timedelta(0)))
        whole = replace(contract, source=replace(contract.source, options=options))
        Landing(whole, lakehouse=self.lakehouse, settings=self.settings, run_id=str(uuid.uuid4())).run()

    def come_in(self) -> Iterator[tuple[str, float]]:
        """The new events, from the log to each product: what was done, and its seconds."""
        by_stream: dict[str, list[tuple[bytes | None, bytes]]] = defaultdict(list)
        for stream, event in self.late:
            by_stream[stream].append((None, orjson.dumps(event)))
        for stream, records in by_stream.items():
            self.log.append(stream, records)
        yield "drained", self.ingest()
        for product in self.transforms:
            start = time.perf_counter()
            plan = self.derive(product)
            yield f"{product}, {plan}", time.perf_counter() - start


def _is_revision(event: Event) -> bool:
    return event.get("page_change_kind") in ("create", "edit")


_IDS = ("page_id", "rev_id", "rev_parent_id", "user_id", "user_central_id")


def _shifted(event: Event, copy: int) -> Event:
    """The same event in another life: ids of pages, revisions and accounts moved up, and an id of its own."""

    def moved(value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {key: moved(inner, key) for key, inner in value.items()}
        return value + copy * APART if name in _IDS and value else value

    made: Event = moved(event)
    made["meta"] = made["meta"] | {"id": f"{copy:08x}{made['meta']['id'][8:]}"}
    return made


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__ or "", rows=1_000_000, repetitions=3)
    parser.add_argument("--late", type=int, default=1_000, help="events that come in afterwards (default 1,000)")
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-history-"))
    try:
        lives = Lives(folder, chosen.rows, chosen.late)
        events, revisions = lives.counts["events"], lives.counts["revisions"]
        lives.land()
        results = [line("ingestion, log to the tables of the streams", lives.ingest(), events, per_second=True)]
        lives.export()
        seconds = interleaved(
            {LIMIT: lives.bare, OURS: lives.run}, chosen.repetitions, before=lives.clean, warm_up=min(chosen.repetitions - 1, 1)
        )
        results += compare(seconds, LIMIT, rows=events, per_second=True)
        results += [line(f"  {name}", statistics.median(taken[-chosen.repetitions :]), revisions) for name, taken in lives.seconds.items()]
        lives.clean()
        lives.run()
        came = list(lives.come_in())
        until_history = sum(taken for name, taken in came if not name.startswith("history_reduced"))
        results.append(line(f"{len(lives.late):,} new events, log to their rows in history", until_history, revisions))
        results += [line(f"  {name}", taken, revisions) for name, taken in came]
        report(results, as_json=chosen.json, title=f"History of {revisions:,} revisions ({events:,} events)")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()

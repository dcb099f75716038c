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

from bench.harness import Result, arguments, compare, interleaved, machine, report
from demo.histories import BLOCKS, PAGE_CHANGE, TAGS, USER_CHANGE, VISIBILITY, Event, generate, namespace_map
from platform_resources.config import SOURCE_ROOT, Settings
from platform_resources.contracts.iceberg import table_definition
from platform_resources.contracts.registry import Registry
from platform_resources.contracts.sources import Complete
from platform_resources.engines.audit import audit
from platform_resources.engines.derivation import Derivation
from platform_resources.engines.duck import connect, create_empty_tables, session
from platform_resources.engines.loading import read_transform
from platform_resources.engines.transform import Transform
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.reading import duckdb_scan_sql
from platform_resources.landing.landing import Landing
from platform_resources.streams.ingestion import Drain
from platform_resources.streams.log import open_log

STREAMS = {
    PAGE_CHANGE: "page_change",
    VISIBILITY: "revision_visibility_change",
    TAGS: "revision_tags_change",
    BLOCKS: "user_blocks_change",
    USER_CHANGE: "user_change",
}
LANDED = ("history_snapshot", "project_namespace_map")
CHAIN = (
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
LIMIT = "the same queries, bare"


class Bench:
    """One platform with a log of lives in it, and a folder for the same rows as Parquet."""

    def __init__(self, folder: Path, revisions: int, late: int) -> None:
        self.folder = folder
        self.settings = Settings(home=folder / "home", project=SOURCE_ROOT, drain_seconds=24 * 3600.0)
        self.registry = Registry.load(SOURCE_ROOT)
        self.lakehouse, self.log = Lakehouse(self.settings), open_log(self.settings)
        self.transforms = {product: self._transform(product) for product in CHAIN}
        self.seconds: dict[str, list[float]] = {product: [] for product in CHAIN}
        life = generate(LIFE)
        self.copies = max(1, round(revisions / sum(_is_revision(event) for _, event in life)))
        held = -(-late // self.copies)
        if held >= len(life):
            raise SystemExit(f"{late:,} new events are too many for {revisions:,} revisions")
        self.late = [(stream, _shifted(event, copy)) for copy in range(self.copies) for stream, event in life[len(life) - held :]][:late]
        self.counts: Counter[str] = Counter()
        self._fill(life[: len(life) - held])

    def _transform(self, product: str) -> Transform:
        transform = read_transform(self.registry.get(f"mediawiki/{product}"), self.registry)
        if transform is None:
            raise SystemExit(f"mediawiki/{product} has no transform")
        return transform

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

    def ingest(self) -> None:
        """Drain the log into the tables of the streams."""
        for product in STREAMS.values():
            contract = self.registry.get(f"mediawiki/{product}")
            drain = Drain(contract, lakehouse=self.lakehouse, log=self.log, run_id=str(uuid.uuid4()), settings=self.settings)
            done = drain.run(until="end")
            if done.quarantined:
                raise SystemExit(f"the drain refused {done.quarantined} events, so this is no measurement: {done}")

    def export(self) -> None:
        """The inputs as Parquet, for the limit."""
        for product in (*STREAMS.values(), *LANDED):
            table = self.lakehouse.table(f"mediawiki.{product}")
            if table is not None:
                with session(self.settings) as con:
                    file = self.folder / f"{product}.parquet"
                    con.execute(f"COPY (SELECT * FROM {duckdb_scan_sql(table)}) TO '{file}' (COMPRESSION zstd)")

    def clean(self) -> None:
        """Forget every product that is computed."""
        for product in CHAIN:
            self.lakehouse.drop(f"mediawiki.{product}")

    def derive(self, product: str) -> str:
        """Compute, audit and commit one product, as its run does; the plan that was made."""
        contract = self.registry.get(f"mediawiki/{product}")
        derivation = Derivation(
            contract, self.transforms[product], lakehouse=self.lakehouse, registry=self.registry, settings=self.settings
        )
        derived = derivation.stage(run_id=str(uuid.uuid4()))
        if derived.staged is not None:
            with session(self.settings) as con:
                failed = [outcome for outcome in audit(con, derived.staged, contract) if not outcome.passed and outcome.check.blocking]
            if failed:
                raise SystemExit(f"{contract.key} would not be published: {failed}")
            derived.staged.commit()
        return derived.plan

    def chain(self) -> None:
        """Every product after the other; the seconds of each are kept."""
        for product in CHAIN:
            start = time.perf_counter()
            self.derive(product)
            self.seconds[product].append(time.perf_counter() - start)

    def bare(self) -> None:
        """The same queries, Parquet to Parquet."""
        with connect(self.settings) as con:
            con.execute("CREATE SCHEMA mediawiki")
            for product in (*STREAMS.values(), *LANDED):
                file = self.folder / f"{product}.parquet"
                if file.exists():
                    con.execute(f"CREATE VIEW mediawiki.{product} AS SELECT * FROM '{file}'")
                else:
                    create_empty_tables(con, {f"mediawiki.{product}": table_definition(self.registry.get(f"mediawiki/{product}")).schema})
            for product, transform in self.transforms.items():
                file = self.folder / f"{product}.parquet"
                con.execute(f"COPY ({transform.text}) TO '{file}' (COMPRESSION zstd)")
                con.execute(f"CREATE VIEW mediawiki.{product} AS SELECT * FROM '{file}'")

    def come_in(self) -> Iterator[tuple[str, float]]:
        """The new events, from the log to each product: what was done, and its seconds."""
        by_stream: dict[str, list[tuple[bytes | None, bytes]]] = defaultdict(list)
        for stream, event in self.late:
            by_stream[stream].append((None, orjson.dumps(event)))
        for stream, records in by_stream.items():
            self.log.append(stream, records)
        start = time.perf_counter()
        self.ingest()
        yield "drained", time.perf_counter() - start
        for product in CHAIN:
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


def _line(name: str, seconds: float, rows: int, *, per_second: bool = False) -> Result:
    value, unit = (rows / seconds, "rows/s") if per_second else (seconds, "s")
    return Result(name, value, unit, None, None, None, None, rows, machine())


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__ or "", rows=1_000_000, repetitions=3)
    parser.add_argument("--late", type=int, default=1_000, help="events that come in afterwards (default 1,000)")
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-history-"))
    try:
        bench = Bench(folder, chosen.rows, chosen.late)
        events, revisions = bench.counts["events"], bench.counts["revisions"]
        bench.land()
        start = time.perf_counter()
        bench.ingest()
        results = [_line("ingestion, log to the tables of the streams", time.perf_counter() - start, events, per_second=True)]
        bench.export()
        things = {LIMIT: bench.bare, "all eight products": bench.chain}
        warm_up = 0 if chosen.repetitions == 1 else 1
        seconds = interleaved(things, chosen.repetitions, before=bench.clean, warm_up=warm_up)
        results += compare(seconds, LIMIT, rows=events, per_second=True)
        results += [_line(f"  {name}", statistics.median(taken[-chosen.repetitions :]), revisions) for name, taken in bench.seconds.items()]
        bench.clean()
        bench.chain()
        came = list(bench.come_in())
        until_history = sum(taken for name, taken in came if not name.startswith("history_reduced"))
        results.append(_line(f"{len(bench.late):,} new events, log to their rows in history", until_history, revisions))
        results += [_line(f"  {name}", taken, revisions) for name, taken in came]
        report(results, as_json=chosen.json, title=f"History of {revisions:,} revisions ({events:,} events)")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()

"""Publishing a dump: a whole publication of `content/dump_history` beside its own parts and beside what packing alone takes.

Used by `bench.dumps --write`. The inputs are tables of the real contracts, filled with generated revisions; each measurement is a process
of its own, which says its seconds, the bytes of XML and its memory.
"""

from __future__ import annotations

import random
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa

from bench.harness import Result, compare, interleaved, resident_mb
from platform_resources.config import SOURCE_ROOT, Settings
from platform_resources.contracts.iceberg import table_definition
from platform_resources.contracts.registry import Registry
from platform_resources.engines.duck import session
from platform_resources.engines.inputs import pin_inputs
from platform_resources.engines.loading import read_transform
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.conforming import arrow_schema_of
from platform_resources.lakehouse.staging import stage_append
from platform_resources.lakehouse.stamp import Stamp
from platform_resources.serving import export_xml
from platform_resources.serving.dump_query import DumpQuery
from platform_resources.serving.packing import Packer
from platform_resources.serving.publishing import Publishing

PRODUCT, SLICE, NOW = "content/dump_history", "2026-02", datetime(2026, 2, 5, tzinfo=UTC)
_START = datetime(2020, 1, 1, tzinfo=UTC)
_SHA1 = "61o9wqbehiqpmke7163b1675fic2cri"
_WORDS = ["the", "of", "[[link]]", "'''bold'''", "Википедия", "{{template|a=b}}", "百科全书", "<ref>", "& nbsp;", '"', "𝄞", "== H =="]


def settings_of(folder: Path) -> Settings:
    """A platform in that folder."""
    return Settings(project=SOURCE_ROOT, home=folder / "home")


def fill(folder: Path, size: int) -> int:
    """Let content.history hold about `size` bytes of text of one wiki, and the map know it; gives the revisions."""
    house, registry = Lakehouse(settings_of(folder)), Registry.load(SOURCE_ROOT)
    space = {
        "hostname": "bench.example.org", "language": "en", "sitename": "Benchmark", "dbname": "benchwiki", "case_setting": "first-letter",
        "home_page": "https://bench.example.org/wiki/Main_Page", "mw_version": "MediaWiki 1.43.0", "namespace": 0,
        "namespace_canonical_name": "", "namespace_localized_name": "", "namespace_case_setting": "first-letter", "namespace_is_content": 1,
        "snapshot": "2026-01", "_file_name": "map", "_file_hash": "0", "_line": 1, "_slice": date(2026, 1, 1), "_landed_at": NOW,
    }  # fmt: skip
    schema = arrow_schema_of(table_definition(registry.get("mediawiki/project_namespace_map")).schema)
    rows = pa.Table.from_pylist([{name: space[name] for name in schema.names}], schema=schema)
    stage_append(house, table_definition(registry.get("mediawiki/project_namespace_map")), rows, Stamp(run_id="map")).commit()
    definition, count = table_definition(registry.get("content/history")), [0]
    schema = arrow_schema_of(definition.schema)
    reader = pa.RecordBatchReader.from_batches(schema, _batches(schema, size, count))
    stage_append(house, definition, reader, Stamp(run_id="history")).commit()
    return count[0]


def _batches(schema: pa.Schema, size: int, count: list[int]) -> Iterator[pa.RecordBatch]:
    draw = random.Random(7)
    texts = [_text(draw, draw.randint(100, 3_000)) for _ in range(300)]
    written = 0
    while written < size:
        rows = [_row(count[0] + number, texts[draw.randrange(len(texts))]) for number in range(500)]
        written += sum(row["revision_size"] for row in rows)
        count[0] += len(rows)
        yield pa.RecordBatch.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)


def _text(draw: random.Random, words: int) -> str:
    return " ".join(draw.choice(_WORDS) + (f" {draw.randrange(10**6)}" if draw.random() < 0.3 else "") for _ in range(words))


def _row(number: int, text: str) -> dict[str, Any]:
    at = _START + timedelta(seconds=number)
    slot = {
        "content_body": text, "content_format": "text/x-wiki", "content_model": "wikitext", "content_sha1": _SHA1,
        "content_size": len(text.encode()), "origin_rev_id": number + 1,
    }  # fmt: skip
    return {
        "wiki_id": "benchwiki", "page_id": number // 20 + 1, "page_namespace_id": 0, "page_title": f"Page_{number // 20}",
        "revision_id": number + 1, "revision_parent_id": number or None, "revision_dt": at, "user_id": 7, "user_text": "Ann",
        "user_is_visible": True, "revision_comment": f"edit {number}", "revision_comment_is_visible": True,
        "revision_is_minor_edit": number % 5 == 0, "revision_sha1": _SHA1, "revision_size": slot["content_size"],
        "revision_content_is_visible": True, "revision_content_slots": [("main", slot)], "row_content_update_dt": at,
        "row_visibility_update_dt": at,
    }  # fmt: skip


class _Nowhere:
    """A sink that keeps nothing."""

    def write(self, data: bytes) -> None: ...

    def finish(self) -> None: ...

    def abandon(self) -> None: ...


def _publish(folder: Path) -> int:
    settings, registry = settings_of(folder), Registry.load(SOURCE_ROOT)
    contract = registry.get(PRODUCT)
    transform = read_transform(contract, registry)
    assert transform is not None
    shutil.rmtree(settings.public_path, ignore_errors=True)
    run = f"bench-{time.time_ns()}"
    house = Lakehouse(settings)
    made = Publishing(contract, transform, lakehouse=house, registry=registry, settings=settings, run_id=run, clock=lambda: NOW).publish(
        SLICE
    )
    return sum(one.xml_bytes for one in made.files) if made is not None else 0


def _documents(folder: Path) -> Iterator[str]:
    """The XML of the dump, piece by piece."""
    settings, registry = settings_of(folder), Registry.load(SOURCE_ROOT)
    contract = registry.get(PRODUCT)
    transform = read_transform(contract, registry)
    assert transform is not None
    with TemporaryDirectory() as scratch, session(settings) as con:
        inputs = pin_inputs(transform.inputs, registry, Lakehouse(settings), Path(scratch))
        query = DumpQuery(con, contract, transform, inputs, NOW)
        for wiki in query.wikis():
            for pages in list(query.ranges(wiki)):
                yield from (export_xml.revision(row) for row in query.revisions(pages))


def _rows(folder: Path) -> int:
    return sum(len(text.encode()) for text in _documents(folder))


def _pack(folder: Path) -> int:
    """Packing alone: the same text, already in memory, on as many threads as the writer takes."""
    with ThreadPoolExecutor(min(4, len(_cores()))) as pool:
        packer = Packer(_Nowhere(), "xml.bz2", pool)
        for file in sorted(folder.glob("text-*")):
            packer.write(file.read_text(encoding="utf-8"))
        return packer.close().xml_bytes


def _cores() -> set[int]:
    import os

    return os.sched_getaffinity(0)


WRITINGS: Mapping[str, Callable[[Path], int]] = {"publish": _publish, "rows": _rows, "limit: bzip2": _pack}


def measure(folder: Path, size: int, repetitions: int, reading: Callable[[list[str]], Any]) -> list[Result]:
    """A line for each writing. `reading` makes of a command what `bench.dumps` measures."""
    revisions = fill(folder, size)
    block, number = [], 0
    for text in _documents(folder):
        block.append(text)
        if len(block) >= 1_000:
            (folder / f"text-{number:06}").write_text("".join(block), encoding="utf-8")
            block, number = [], number + 1
    (folder / f"text-{number:06}").write_text("".join(block), encoding="utf-8")
    things = {name: reading([sys.executable, "-m", "bench.dumps", "--writer", str(folder), name]) for name in WRITINGS}
    seconds = interleaved(things, repetitions)
    lines = compare(seconds, "publish", rows=revisions)
    return [
        replace(
            line,
            name=f"{line.name}, {things[key].count / 1e6 / (line.value or 1):,.1f} MB/s of XML",
            peak_mb=statistics.median(things[key].peaks),
            baseline_mb=statistics.median(things[key].baselines),
        )
        for key, line in zip(seconds, lines, strict=True)
    ]


def work(folder: Path, name: str) -> None:
    """One measurement: prints seconds, bytes and memory as `bench.dumps` reads them."""
    baseline, start = resident_mb("VmRSS"), time.perf_counter()
    count = WRITINGS[name](folder)
    print(time.perf_counter() - start, count, baseline, resident_mb("VmHWM"))

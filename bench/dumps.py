"""Dumps of MediaWiki, read by the platform and by the field's own readers (mwxml, mwsql) in the same rounds, and written by the platform.

`python -m bench.dumps [--size MB] [--repetitions N] [--json] [--write]`. The files are the same for a seed: a full history with one page
of many revisions, and the `page` table as mysqldump writes it. Each reading is a process of its own and tells its seconds and its peak
memory; `reader` gives what the peer gives, `rows` the contract's blocks. The limits are Expat without a handler, and Arrow's CSV reader
on the same rows. With `--write` a table of the history's revisions is published: `publish` is a whole publication, `rows` its query and
its XML without packing, and the limit is what packing the same XML takes on as many threads. MediaWiki's own writer needs a wiki and is
not measured here.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO
from xml.parsers import expat

import pyarrow as pa
from pyarrow import csv
from pyiceberg.types import BooleanType, DoubleType, LongType, StringType, TimestamptzType

from bench import dump_writing
from bench.harness import Result, compare, interleaved, report, resident_mb
from bench.peers import dump_readers
from platform_resources.contracts.model import Column, Contract, SourceSpec
from platform_resources.contracts.sources import SqlDumpOptions, XmlDumpOptions
from platform_resources.landing import mediawiki_export, mysqldump, sql_dump, xml_dump
from platform_resources.landing.source import Delivery

MEGABYTE = 1_000_000
_WORDS = [
    "the",
    "of",
    "[[link]]",
    "'''bold'''",
    "Википедия",
    "{{template|a=b}}",
    "百科全书",
    "&lt;ref&gt;",
    "&amp;nbsp;",
    "&quot;",
    "𝄞",
    "== H ==",
]
_HEAD = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" \
xsi:schemaLocation="http://www.mediawiki.org/xml/export-0.11/ http://www.mediawiki.org/xml/export-0.11.xsd" version="0.11" xml:lang="en">
  <siteinfo>
    <sitename>Benchmark</sitename>
    <dbname>benchwiki</dbname>
    <base>https://bench.example.org/wiki/Main_Page</base>
    <generator>MediaWiki 1.43.0</generator>
    <case>first-letter</case>
    <namespaces>
      <namespace key="0" case="first-letter" />
      <namespace key="1" case="first-letter">Talk</namespace>
    </namespaces>
  </siteinfo>
"""
_SHA1 = "61o9wqbehiqpmke7163b1675fic2cri"


def write_history(stream: BinaryIO, size: int, *, seed: int = 7, giant_page: int = 100_000) -> int:
    """A full history of about `size` bytes in `stream`; returns its revisions. The first page has up to `giant_page` of them."""
    draw = random.Random(seed)
    texts = [_text(draw, draw.randint(1, 300)) for _ in range(200)] + [_text(draw, draw.randint(2_000, 8_000)) for _ in range(20)]
    lengths = [len(text.encode()) for text in texts]
    written = stream.write(_HEAD.encode())
    revision = page = 0
    while written < size:
        page += 1
        head = f"  <page>\n    <title>Page {page} &amp; Страница</title>\n    <ns>0</ns>\n    <id>{page}</id>\n"
        written += stream.write(head.encode())
        for number in range(giant_page if page == 1 else draw.randint(1, 60)):
            revision += 1
            written += stream.write(_revision(draw, revision, number, texts, lengths).encode())
            if written >= size:
                break
        written += stream.write(b"  </page>\n")
    stream.write(b"</mediawiki>\n")
    return revision


def _revision(draw: random.Random, revision: int, number: int, texts: list[str], lengths: list[int]) -> str:
    chosen = draw.randrange(len(texts))
    parent = f"      <parentid>{revision - 1}</parentid>\n" if number else ""
    minor = "      <minor />\n" if revision % 5 == 0 else ""
    user = (
        f"<username>User {revision % 997}</username>\n        <id>{revision % 997}</id>"
        if revision % 7
        else f"<ip>192.0.2.{revision % 250}</ip>"
    )
    contributor = f"<contributor>\n        {user}\n      </contributor>" if revision % 101 else '<contributor deleted="deleted" />'
    return (
        f"    <revision>\n      <id>{revision}</id>\n{parent}"
        f"      <timestamp>20{revision % 20 + 4:02}-01-{revision % 28 + 1:02}T12:{revision % 60:02}:00Z</timestamp>\n"
        f"      {contributor}\n{minor}      <comment>/* section */ edit {revision}</comment>\n      <origin>{revision}</origin>\n"
        f"      <model>wikitext</model>\n      <format>text/x-wiki</format>\n"
        f'      <text bytes="{lengths[chosen]}" sha1="{_SHA1}" xml:space="preserve">{texts[chosen]}</text>\n'
        f"      <sha1>{_SHA1}</sha1>\n    </revision>\n"
    )


def _text(draw: random.Random, words: int) -> str:
    return " ".join(draw.choice(_WORDS) + ("\n" if draw.random() < 0.1 else "") for _ in range(words))


_TABLE_HEAD = """-- MySQL dump 10.19  Distrib 10.6.16-MariaDB, for debian-linux-gnu (x86_64)
--
-- Host: localhost    Database: benchwiki
-- ------------------------------------------------------
/*!40101 SET NAMES utf8mb4 */;
/*!40103 SET TIME_ZONE='+00:00' */;

DROP TABLE IF EXISTS `page`;
CREATE TABLE `page` (
  `page_id` int(8) unsigned NOT NULL AUTO_INCREMENT,
  `page_namespace` int(11) NOT NULL DEFAULT 0,
  `page_title` varbinary(255) NOT NULL DEFAULT '',
  `page_is_redirect` tinyint(1) unsigned NOT NULL DEFAULT 0,
  `page_is_new` tinyint(1) unsigned NOT NULL DEFAULT 0,
  `page_random` double unsigned NOT NULL DEFAULT 0,
  `page_touched` binary(14) NOT NULL,
  `page_links_updated` varbinary(14) DEFAULT NULL,
  `page_latest` int(8) unsigned NOT NULL DEFAULT 0,
  `page_len` int(8) unsigned NOT NULL DEFAULT 0,
  `page_content_model` varbinary(32) DEFAULT NULL,
  `page_lang` varbinary(35) DEFAULT NULL,
  PRIMARY KEY (`page_id`)
) ENGINE=InnoDB AUTO_INCREMENT=100 DEFAULT CHARSET=binary;

"""


def write_table(stream: BinaryIO, size: int, *, seed: int = 7) -> int:
    """The `page` table of about `size` bytes as mysqldump writes it, in statements of 1 MB; returns its rows."""
    draw = random.Random(seed)
    titles = ["Albert_Einstein", "L\\'Hôpital", "Юпитер_(планета)", 'The_\\"Quoted\\"_Title', "Back\\\\slash", "List_of_(1),(2)", "東京"]
    written = stream.write(_TABLE_HEAD.encode())
    number = 0
    while written < size:
        tuples, length = [], 0
        while length < 1_000_000 and written + length < size:
            number += 1
            touched = f"2024{number % 12 + 1:02}{number % 28 + 1:02}{number % 24:02}0102"
            links = "NULL" if number % 9 == 0 else f"'{touched}'"
            title = f"{titles[number % len(titles)]}_{number}"
            tuples.append(
                f"({number},{number % 16},'{title}',{number % 2},0,{draw.random():.12g},'{touched}',{links},{number * 7},{number % 90_000},"
                f"'wikitext',NULL)"
            )
            length += len(tuples[-1]) + 1
        written += stream.write(f"INSERT INTO `page` VALUES {','.join(tuples)};\n".encode())
    stream.write(b"/*!40103 SET TIME_ZONE=@OLD_TIME_ZONE */;\n\n-- Dump completed on 2024-01-01 00:00:00\n")
    return number


# --- readings, each in a process of its own

_HISTORY = (
    Column("wiki_id", StringType(), required=True),
    Column("page_id", LongType(), required=True),
    Column("page_title", StringType()),
    Column("revision_id", LongType(), required=True),
    Column("revision_parent_id", LongType()),
    Column("revision_dt", TimestamptzType()),
    Column("user_id", LongType()),
    Column("user_text", StringType()),
    Column("revision_comment", StringType()),
    Column("revision_is_minor_edit", BooleanType()),
    Column("content_model", StringType()),
    Column("content_body", StringType()),
    Column("content_size", LongType()),
    Column("content_sha1", StringType()),
)
_PAGE = (
    Column("page_id", LongType(), required=True),
    Column("page_namespace", LongType(), required=True),
    Column("page_title", StringType(), required=True),
    Column("page_is_redirect", BooleanType()),
    Column("page_is_new", BooleanType()),
    Column("page_random", DoubleType()),
    Column("page_touched", TimestamptzType()),
    Column("page_links_updated", TimestamptzType()),
    Column("page_latest", LongType()),
    Column("page_len", LongType()),
    Column("page_content_model", StringType()),
    Column("page_lang", StringType()),
)


def _contract(columns: tuple[Column, ...], source: SourceSpec) -> Contract:
    return Contract("bench", "dump", Path("dump.yaml"), "1.0.0", "active", "", columns, source=source)


def _expat(stream: BinaryIO) -> int:
    parser = expat.ParserCreate()
    while chunk := stream.read(1 << 17):
        parser.Parse(chunk, False)
    return 0


def _xml_rows(stream: BinaryIO) -> int:
    contract = _contract(_HISTORY, SourceSpec("xml_dump", options=XmlDumpOptions()))
    return sum(len(block.rows) for block in xml_dump.read(stream, Delivery("history.xml", ""), contract))


def _sql_rows(stream: BinaryIO) -> int:
    contract = _contract(_PAGE, SourceSpec("sql_dump", options=SqlDumpOptions()))
    return sum(len(block.rows) for block in sql_dump.read(stream, Delivery("page.sql", ""), contract))


def _csv(stream: BinaryIO) -> int:
    return sum(len(batch) for batch in csv.open_csv(stream, csv.ReadOptions(use_threads=False)))


READINGS: Mapping[str, Mapping[str, Callable[[BinaryIO], int]]] = {
    "history.xml": {
        "limit: Expat": _expat,
        "reader": lambda stream: sum(1 for _ in mediawiki_export.revisions(stream, "history.xml")),
        "rows": _xml_rows,
    },
    "page.sql": {
        "reader": lambda stream: sum(len(found.numbers) for found in mysqldump.rows(stream, "page.sql")),
        "rows": _sql_rows,
    },
    "page.csv": {"limit: Arrow CSV": _csv},
}
PEERS = {"history.xml": ("xml", "mwxml"), "page.sql": ("sql", "mwsql")}


class Reading:
    """A reading of one file by one reader; called, it gives the seconds that the process itself measured."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words
        self.count = 0
        self.peaks: list[float] = []
        self.baselines: list[float] = []

    def __call__(self) -> float:
        """Read it once."""
        said = subprocess.run(self._words, check=True, capture_output=True, text=True).stdout.split()
        self.count = int(said[1])
        self.baselines.append(float(said[2]))
        self.peaks.append(float(said[3]))
        return float(said[0])


def measure(folder: Path, size: int, repetitions: int) -> Iterator[list[Result]]:
    """The results of the history, then of the table."""
    for name, write in (("history.xml", write_history), ("page.sql", write_table)):
        with (folder / name).open("wb") as stream:
            write(stream, size * MEGABYTE)
    with (folder / "page.sql").open("rb") as stream, (folder / "page.csv").open("wb") as target:
        for found in mysqldump.rows(stream, "page.sql"):
            target.write(_as_csv(found))
    python = dump_readers.environment()
    for name, others in (("history.xml", ()), ("page.sql", ("page.csv",))):
        things = {
            reader: Reading([sys.executable, "-m", "bench.dumps", "--worker", str(folder / file), reader])
            for file in (name, *others)
            for reader in READINGS[file]
        }
        kind, peer = PEERS[name]
        if isinstance(python, Path):
            things[peer] = Reading([str(python), str(dump_readers.WORKER), kind, str(folder / name)])
        seconds = interleaved(things, repetitions)
        lines = compare(seconds, "reader", rows=things["reader"].count)
        megabytes = (folder / name).stat().st_size / 1e6
        yield [
            replace(
                line,
                name=f"{name}: {line.name}, {megabytes / (line.value or 1):,.0f} MB/s",
                peak_mb=statistics.median(things[key].peaks),
                baseline_mb=statistics.median(things[key].baselines),
            )
            for key, line in zip(seconds, lines, strict=True)
        ]
        if isinstance(python, str):
            yield [replace(lines[0], name=f"{name}: {peer}", value=None, skipped=python)]


def _as_csv(found: mysqldump.Rows) -> bytes:
    table = pa.table({name: column.cast(pa.string()) for name, column in found.columns.items()})
    target = pa.BufferOutputStream()
    csv.write_csv(table, target, csv.WriteOptions(include_header=False))
    written: bytes = target.getvalue().to_pybytes()
    return written


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1000, help="megabytes of each generated file (default 1,000)")
    parser.add_argument("--repetitions", type=int, default=5, help="interleaved rounds (default 5)")
    parser.add_argument("--json", action="store_true", help="one JSON object per line instead of a table")
    parser.add_argument("--write", action="store_true", help="publish a dump instead of reading some")
    parser.add_argument("--worker", nargs=2, metavar=("FILE", "READER"), help=argparse.SUPPRESS)
    parser.add_argument("--writer", nargs=2, metavar=("FOLDER", "WRITING"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        file = Path(options.worker[0])
        read = READINGS[file.name][options.worker[1]]
        with file.open("rb") as stream:
            baseline, start = resident_mb("VmRSS"), time.perf_counter()
            count = read(stream)
            print(time.perf_counter() - start, count, baseline, resident_mb("VmHWM"))
        return
    if options.writer:
        dump_writing.work(Path(options.writer[0]), options.writer[1])
        return
    with tempfile.TemporaryDirectory() as folder:
        if options.write:
            report(dump_writing.measure(Path(folder), options.size * MEGABYTE, options.repetitions, Reading), as_json=options.json)
            return
        for results in measure(Path(folder), options.size, options.repetitions):
            report(results, as_json=options.json)


if __name__ == "__main__":
    main()

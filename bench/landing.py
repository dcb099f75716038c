"""Landing of files: a delimited file and newline-delimited JSON as blocks of the contract's rows, against bare readers in the same run.

`python -m bench.landing [--rows N] [--repetitions N] [--json] [--profile csv|ndjson]`. What is measured of ours is what a run does but for
the commit: hash, encoding, line numbers, exact types, refusals. The limit is pyarrow's reader, which is told the types and keeps neither
lines nor bad records. DuckDB and Polars read the same file into an Arrow table.
"""

from __future__ import annotations

import cProfile
import csv
import json
import pstats
import random
import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.json as pj
from pyiceberg.types import DateType, DoubleType, LongType, StringType, TimestamptzType

from bench.harness import arguments, compare, interleaved, report
from platform_resources.config import Settings
from platform_resources.contracts.iceberg import arrow_type
from platform_resources.contracts.model import Column, Contract, SourceSpec
from platform_resources.contracts.sources import Complete, FilesOptions
from platform_resources.landing.files import FileSource

COLUMNS = (
    Column("id", LongType(), required=True),
    Column("wiki_id", StringType()),
    Column("title", StringType()),
    Column("day", DateType()),
    Column("dt", TimestamptzType()),
    Column("views", LongType()),
    Column("share", DoubleType()),
)
SCHEMA = pa.schema([(column.name, arrow_type(column.type)) for column in COLUMNS])


def write(folder: Path, rows: int) -> None:
    """The same rows as a.csv and a.ndjson: titles with commas and quotes, a twentieth of the values empty."""
    draw = random.Random(7)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    with (folder / "a.csv").open("w", newline="", encoding="utf-8") as text, (folder / "a.ndjson").open("w", encoding="utf-8") as lines:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(SCHEMA.names)
        for number in range(rows):
            moment = start + timedelta(seconds=draw.randrange(31_536_000))
            title = draw.choice(["Main_Page", "Zürich", 'A, "quoted" one', "東京", "Special:Search"]) + str(draw.randrange(100_000))
            values = [number, draw.choice(["enwiki", "dewiki", "jawiki"]), title, moment.date().isoformat()]
            values += [moment.isoformat().replace("+00:00", "Z"), draw.randrange(10**6), draw.random()]
            values = [None if index and draw.random() < 0.05 else value for index, value in enumerate(values)]
            writer.writerow(values)
            lines.write(json.dumps(dict(zip(SCHEMA.names, values, strict=True)), ensure_ascii=False) + "\n")


class Bench:
    """One folder with the file in each format, and the ways to read it."""

    def __init__(self, folder: Path, rows: int) -> None:
        self.folder, self.rows = folder, rows
        write(folder, rows)

    def landing(self, kind: str) -> Callable[[], None]:
        """Ours, to the last block."""
        options = FilesOptions(complete=Complete(timedelta(0)))
        source = SourceSpec("files", path=f"a.{kind}", options=options)
        contract = Contract("bench", "landing", Path("landing.yaml"), "1.0.0", "active", "", COLUMNS, source=source)
        settings = Settings(home=self.folder / "home", connections={"bench": str(self.folder)})

        def read() -> None:
            files = FileSource(contract, settings)
            [delivery] = files.pending({})
            self._check(sum(len(block.rows) for block in files.read(delivery)))

        return read

    def things(self, kind: str) -> dict[str, Callable[[], None]]:
        """By name, the limit first."""
        path = self.folder / f"a.{kind}"
        arrow, duck, polars = (self._csv if kind == "csv" else self._ndjson)(path)
        ours = self.landing(kind)
        return {"pyarrow": arrow, "landing": ours, "DuckDB": duck, "Polars": polars}

    def _csv(self, path: Path) -> tuple[Callable[[], None], ...]:
        options = pv.ConvertOptions(column_types=SCHEMA, strings_can_be_null=True)
        return (
            lambda: self._check(pv.read_csv(path, convert_options=options).num_rows),
            lambda: self._check(_duck(f"FROM read_csv('{path}', columns = {_DUCK})")),
            lambda: self._check(pl.read_csv(path, schema=_POLARS, try_parse_dates=True).height),
        )

    def _ndjson(self, path: Path) -> tuple[Callable[[], None], ...]:
        as_text = [pa.field(field.name, pa.string()) if pa.types.is_date(field.type) else field for field in SCHEMA]  # it reads no dates
        options = pj.ParseOptions(explicit_schema=pa.schema(as_text))
        return (
            lambda: self._check(pj.read_json(path, parse_options=options).num_rows),
            lambda: self._check(_duck(f"FROM read_json('{path}', format = 'nd', columns = {_DUCK})")),
            lambda: self._check(pl.read_ndjson(path, schema=_POLARS).height),
        )

    def _check(self, rows: int) -> None:
        if rows != self.rows:
            raise SystemExit(f"{rows} of {self.rows} rows were read, so this is no measurement")


_DUCK = {"id": "bigint", "wiki_id": "varchar", "title": "varchar", "day": "date", "dt": "timestamptz", "views": "bigint", "share": "double"}
_POLARS = {
    "id": pl.Int64, "wiki_id": pl.String, "title": pl.String, "day": pl.Date, "dt": pl.Datetime("us", "UTC"), "views": pl.Int64,
    "share": pl.Float64,
}  # fmt: skip


def _duck(query: str) -> int:
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        return con.sql(query).to_arrow_table().num_rows


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__ or "", rows=1_000_000)
    parser.add_argument("--profile", choices=["csv", "ndjson"], help="profile one landing instead of measuring")
    chosen = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-landing-"))
    try:
        bench = Bench(folder, chosen.rows)
        if chosen.profile:
            with cProfile.Profile() as profile:
                bench.landing(chosen.profile)()
            pstats.Stats(profile).sort_stats("tottime").print_stats(25)
            return
        for kind in ("csv", "ndjson"):
            seconds = interleaved(bench.things(kind), chosen.repetitions)
            results = compare(seconds, "pyarrow", rows=chosen.rows, per_second=True)
            report(results, as_json=chosen.json, title=f"Rows per second, {kind} to the contract's types")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()

"""Memory while a file lands does not grow with the file: each format in a process of its own, with a file that would not fit."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from platform_resources.config import SOURCE_ROOT

pytestmark = pytest.mark.storm

LIMIT_MB = 400  # of which interpreter and libraries take some 150
SIZE_MB = 1_000
READ = """
import sys
from datetime import timedelta
from pathlib import Path
from pyiceberg.types import LongType, StringType
from bench.harness import resident_mb
from platform_resources.config import Settings
from platform_resources.contracts.model import Column, Contract, SourceSpec
from platform_resources.contracts.sources import Complete, FilesOptions
from platform_resources.landing.files import FileSource

folder, name = sys.argv[1:]
options = FilesOptions(complete=Complete(timedelta(0)))
columns = (Column("a", LongType()), Column("b", StringType()))
contract = Contract("shop", "drop", Path("x"), "1.0.0", "active", "", columns, source=SourceSpec("files", path=name, options=options))
source = FileSource(contract, Settings(home=Path(folder) / "home", connections={"shop": folder}))
[delivery] = source.pending({})
rows = refused = 0
for block in source.read(delivery):
    rows, refused = rows + len(block.rows), refused + len(block.refused)
print(rows, refused, int(resident_mb('VmHWM')))
"""
TEXT = "text " * 20
ROWS = SIZE_MB * 1_000_000 // 115


def delimited(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"a,b\n")
        for chunk in chunks(ROWS):
            file.write("".join(f'{n},"{TEXT}\n"\n' if n % 1000 == 0 else f"{n},{TEXT}\n" for n in chunk).encode())


def packed(path: Path) -> None:
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b"a,b\n")
        for chunk in chunks(ROWS):
            file.write("".join(f"{n},{TEXT}\n" for n in chunk).encode())


def lines(path: Path) -> None:
    with path.open("wb") as file:
        for chunk in chunks(ROWS):
            file.write("".join(f'{{"a": {n}, "b": "{TEXT}"}}\n' for n in chunk).encode())


def listed(path: Path) -> None:
    """A quarter: a list is parsed record by record."""
    with path.open("wb") as file:
        file.write(b"[{}")
        for chunk in chunks(ROWS // 4):
            file.write("".join(f',{{"a": {n}, "b": {json.dumps(TEXT)}}}' for n in chunk).encode())
        file.write(b"]")


def parquet(path: Path) -> None:
    schema = pa.schema([("a", pa.int64()), ("b", pa.string())])
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        for chunk in chunks(ROWS):
            writer.write_table(pa.table({"a": list(chunk), "b": [f"{n}{TEXT}" for n in chunk]}, schema=schema))


def chunks(rows: int) -> Iterator[range]:
    for start in range(0, rows, 200_000):
        yield range(start, min(start + 200_000, rows))


FILES: dict[str, Callable[[Path], None]] = {
    "a.csv": delimited,
    "a.csv.gz": packed,
    "a.ndjson": lines,
    "a.json": listed,
    "a.parquet": parquet,
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_lands_in_bounded_memory(tmp_path: Path, name: str) -> None:
    FILES[name](tmp_path / name)
    command = [sys.executable, "-c", READ, str(tmp_path), name]
    done = subprocess.run(command, cwd=SOURCE_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows, refused, peak = map(int, done.stdout.split())
    assert refused == 0
    assert rows == (ROWS // 4 + 1 if name == "a.json" else ROWS)
    assert peak < LIMIT_MB, f"{peak} MB"
    (tmp_path / name).unlink()

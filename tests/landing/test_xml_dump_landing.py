"""Dumps landed whole: compressed files in a folder become the table that their contract says, in memory that no dump can fill."""

from __future__ import annotations

import bz2
import gzip
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from bench.dumps import MEGABYTE, write_history, write_table
from platform_resources.config import SOURCE_ROOT, Settings
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.reading import arrow_table
from platform_resources.landing.landing import Landing
from tests.landing.dump_contracts import dump_contract

HISTORY = (
    "name: wiki_id, logicalType: string, required: true",
    "name: revision_id, logicalType: integer, required: true",
    "name: page_id, logicalType: integer, required: true",
    "name: revision_dt, logicalType: timestamp",
    "name: user_text, logicalType: string",
    "name: content_body, logicalType: string",
)
PAGE = (
    "name: page_id, logicalType: integer, required: true",
    "name: page_title, logicalType: string, required: true",
    "name: page_is_redirect, logicalType: boolean",
    "name: page_touched, logicalType: timestamp",
    "name: page_random, logicalType: number",
)
MOST_MEGABYTES = 500


class Wiki:
    """A drop folder, and what lands from it."""

    def __init__(self, home: Path, kind: str, *columns: str, **server: str) -> None:
        self.folder = home / "drop"
        self.folder.mkdir(parents=True, exist_ok=True)
        self.settings = Settings(home=home / "sdp", connections={"wiki": str(self.folder)})
        self.lakehouse = Lakehouse(self.settings)
        self.contract = dump_contract(kind, *columns, path='"*"', complete='"0 seconds"', **server)

    def land(self) -> Any:
        return Landing(self.contract, lakehouse=self.lakehouse, settings=self.settings, run_id=uuid.uuid4().hex).run()

    def rows(self, *columns: str) -> list[tuple[Any, ...]]:
        table = self.lakehouse.table(self.contract.identifier)
        assert table is not None
        found = arrow_table(table)
        return sorted(zip(*(found[name].to_pylist() for name in columns), strict=True))


def test_a_compressed_history_lands_whole_and_a_cut_one_not_at_all(tmp_path: Path) -> None:
    wiki = Wiki(tmp_path, "xml_dump", *HISTORY)
    with bz2.open(wiki.folder / "a.xml.bz2", "wb") as stream:
        count = write_history(stream, MEGABYTE // 4, giant_page=50)
    with gzip.open(wiki.folder / "b.xml.gz", "wb") as stream:
        write_history(stream, MEGABYTE // 10)
    whole = gzip.decompress((wiki.folder / "b.xml.gz").read_bytes())
    (wiki.folder / "b.xml.gz").write_bytes(gzip.compress(whole[:-200]))
    report = wiki.land()
    assert (report.inserted, report.quarantined, report.deliveries) == (count, 0, 1)
    assert [(one.delivery, one.code) for one in report.refused] == [("b.xml.gz", "delivery-truncated")]
    assert wiki.rows("revision_id", "_file_name", "_line") == [(number, "a.xml.bz2", number) for number in range(1, count + 1)]
    (wiki.folder / "b.xml.gz").write_bytes(gzip.compress(whole))
    assert wiki.land().deliveries == 1
    assert wiki.land().deliveries == 0


def test_a_table_of_a_sql_dump_lands_and_a_corrected_file_replaces_it(tmp_path: Path) -> None:
    wiki = Wiki(tmp_path, "sql_dump", *PAGE, table="page")
    file = wiki.folder / "page.sql.gz"
    with gzip.open(file, "wb") as stream:
        count = write_table(stream, MEGABYTE // 2)
    assert wiki.land().inserted == count
    assert wiki.rows("page_id", "_line") == [(number, number) for number in range(1, count + 1)]
    with gzip.open(file, "wb") as stream:
        fewer = write_table(stream, MEGABYTE // 10)
    wiki.land()
    assert len(wiki.rows("page_id")) == fewer < count


@pytest.mark.storm
@pytest.mark.parametrize(("kind", "write"), [("xml_dump", write_history), ("sql_dump", write_table)])
def test_a_dump_of_a_gigabyte_lands_in_bounded_memory(tmp_path: Path, kind: str, write: Callable[[BinaryIO, int], int]) -> None:
    """Less than 500 MB resident in the process that lands it, libraries among them; the history has a page of 100,000 revisions."""
    (tmp_path / "drop").mkdir()
    with (tmp_path / "drop" / "dump").open("wb") as stream:
        count = write(stream, 1000 * MEGABYTE)
    words = [sys.executable, "-m", "tests.landing.test_xml_dump_landing", str(tmp_path), kind]
    said = subprocess.run(words, cwd=SOURCE_ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert said.returncode == 0, said.stderr
    inserted, megabytes = map(int, said.stdout.split())
    assert inserted == count
    assert megabytes < MOST_MEGABYTES


if __name__ == "__main__":
    from bench.harness import resident_mb

    landed = Wiki(Path(sys.argv[1]), sys.argv[2], *(HISTORY if sys.argv[2] == "xml_dump" else PAGE)).land()
    print(landed.inserted, int(resident_mb("VmHWM")))

"""A contract drafted from a sample lands that very sample, whole, without anybody touching it."""

from __future__ import annotations

import bz2
import gzip
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from platform_resources.config import Settings
from platform_resources.contracts.model import Contract, Domain
from platform_resources.contracts.reading import read_contract
from platform_resources.contracts.sources import Complete
from platform_resources.errors import PlatformError
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.reading import arrow_table
from platform_resources.landing.landing import Landing
from platform_resources.landing.sampling import draft_from_file
from tests.cli.conftest import Project, project

__all__ = ["project"]
CSV = 'Station ID,day,warmest,open,note\n007,2026-01-01,-3.5,true,"a, b"\n12,2026-01-02,14,false,\n'
RECORDS = [{"id": 1, "at": "2026-01-01T00:00:00Z", "geo": {"lat": 1.5}, "tags": ["a"]}, {"id": 2, "at": None, "geo": None, "tags": []}]


def _parquet(path: Path) -> None:
    table = {
        "id": pa.array([1, 2], pa.int32()),
        "price": pa.array([Decimal("1.50"), None], pa.decimal128(9, 2)),
        "at": pa.array([datetime(2026, 1, 1, tzinfo=UTC), None], pa.timestamp("us", "UTC")),
        "day": pa.array([date(2026, 1, 1), None]),
        "tags": pa.array([["a"], []], pa.list_(pa.string())),
    }
    pq.write_table(pa.table(table), path)


MAKE: dict[str, Callable[[Path], Any]] = {
    "stations.csv": lambda path: path.write_text(CSV),
    "stations-2026-01-31.csv.gz": lambda path: path.write_bytes(gzip.compress(CSV.replace(",", ";").replace('"a; b"', "ab").encode())),
    "stations.tsv": lambda path: path.write_text("a\tb\n1\tx\n2\ty\n"),
    "things.ndjson": lambda path: path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS)),
    "things.json": lambda path: path.write_text(json.dumps(RECORDS)),
    "things_20260131.parquet": _parquet,
}


def _landed(settings: Settings, sample: Path) -> tuple[Contract, pa.Table, int]:
    """The contract, its rows and the number of bad records, once the sample was dropped where the draft says."""
    folder = settings.project / "data_products" / "shop"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "things.yaml").write_text(draft_from_file(sample, domain="shop", product="things"))
    domain = Domain("shop", folder, owners=("team:shop",))
    contract, problems = read_contract(folder / "things.yaml", domain=domain, project=settings.project)
    assert contract is not None, problems
    assert contract.source is not None
    assert contract.source.path is not None
    dropped = settings.drop_path / "shop" / Path(contract.source.path).parent / sample.name
    dropped.parent.mkdir(parents=True)
    shutil.copy(sample, dropped)
    whole: Any = replace(contract.source.options, complete=Complete(timedelta(0)))  # type: ignore[type-var]
    contract = replace(contract, source=replace(contract.source, options=whole))
    lakehouse = Lakehouse(settings)
    report = Landing(contract, lakehouse=lakehouse, settings=settings, run_id="r").run()
    assert report.refused == []
    table = lakehouse.table("shop.things")
    assert table is not None
    return contract, arrow_table(table), report.quarantined


@pytest.mark.parametrize("name", MAKE)
def test_a_sample_lands_by_its_own_draft(settings: Settings, tmp_path: Path, name: str) -> None:
    MAKE[name](tmp_path / name)
    contract, rows, bad = _landed(settings, tmp_path / name)
    assert (rows.num_rows, bad) == (2, 0)
    if name.startswith("stations"):
        assert {"station_id", "day", "warmest"} <= {column.name for column in contract.columns} or name.endswith(".tsv")
    assert (contract.slices is not None) == ("2026" in name)


def test_types_of_a_draft_are_those_seen(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "stations.csv").write_text(CSV)
    contract, rows, _ = _landed(settings, tmp_path / "stations.csv")
    assert [(column.name, column.source_name, str(column.type)) for column in contract.columns] == [
        ("station_id", "Station ID", "string"),
        ("day", "day", "date"),
        ("warmest", "warmest", "double"),
        ("open", "open", "boolean"),
        ("note", "note", "string"),
    ]
    assert rows.select(["station_id", "day", "warmest", "open"]).to_pylist()[0] == {
        "station_id": "007", "day": date(2026, 1, 1), "warmest": -3.5, "open": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    "name", ["canonical_data/wikis.tsv", "canonical_data/countries.tsv", "canonical_data/wikis.csv", "canonical_data/countries.csv"]
)
def test_real_dimensions_land_by_their_draft(settings: Settings, realdata: Path, name: str) -> None:
    if not (realdata / name).is_file():
        pytest.skip(f"no {name}")
    _, rows, bad = _landed(settings, realdata / name)
    lines = (realdata / name).read_text().count("\n")
    assert abs(rows.num_rows + bad - (lines - 1)) <= 1
    assert bad == 0


def test_dumps_are_drafted_from_their_own_words(settings: Settings, tmp_path: Path) -> None:
    dump = (
        "-- MySQL dump 10.13\n/*!40101 SET NAMES utf8mb4 */;\nDROP TABLE IF EXISTS `page`;\nCREATE TABLE `page` (\n"
        "  `page_id` int(8) unsigned NOT NULL,\n  `page_title` varbinary(255) NOT NULL,\n  `page_touched` binary(14) NOT NULL,\n"
        "  PRIMARY KEY (`page_id`)\n) ENGINE=InnoDB DEFAULT CHARSET=binary;\n"
        "INSERT INTO `page` VALUES (1,'A','20260101000000'),(2,'B','20260102000000');\n-- Dump completed on 2026-01-03\n"
    )
    (tmp_path / "page.sql.bz2").write_bytes(bz2.compress(dump.encode()))
    contract, rows, bad = _landed(settings, tmp_path / "page.sql.bz2")
    assert [str(column.type) for column in contract.columns] == ["long", "string", "timestamptz"]
    assert (rows.num_rows, bad) == (2, 0)
    text = draft_from_file(_named(tmp_path / "w-20260101-pages.xml"), domain="shop", product="things")
    assert "source\n" in text or "xml_dump" in text
    assert "{slice:%Y%m%d}" in text


def _named(path: Path) -> Path:
    path.write_text("<mediawiki/>")
    return path


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("a.csv", "", "sample-empty"),
        ("a.json", "{}", "sample-malformed"),
        ("a.json", "[1]", "sample-malformed"),
        ("a.parquet", "x", "sample-malformed"),
        ("a.ndjson", "{", "sample-malformed"),
    ],
)
def test_a_sample_that_is_none_is_told(tmp_path: Path, name: str, text: str, code: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(PlatformError) as caught:
        draft_from_file(tmp_path / name, domain="shop", product="things")
    assert caught.value.code == code


def test_new_product_from_a_sample_of_files(project: Project) -> None:
    project.ok("new", "domain", "weather", "--owner", "weather-team@example.org")
    sample = project.write("stations.csv", CSV)
    made = project.json("new", "product", "weather/station", "--from-sample", str(sample))
    assert made == {"product": "weather/station", "stream": None, "files": ["data_products/weather/station.yaml"]}
    records = project.write("things.ndjson", "".join(json.dumps(record) + "\n" for record in RECORDS))
    assert "drop files as" in project.ok("new", "product", "weather/thing", "--from-sample", str(records), "--lands")
    project.ok("check")

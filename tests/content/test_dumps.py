"""The published dumps of the domain content, on Wikimedia's own rows: what its own dumper made of them is the oracle."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pyarrow as pa
import pytest

from platform_resources.config import SOURCE_ROOT, Settings
from platform_resources.contracts.iceberg import table_definition
from platform_resources.contracts.registry import Registry
from platform_resources.engines.loading import read_transform
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.conforming import arrow_schema_of
from platform_resources.lakehouse.staging import stage_append
from platform_resources.lakehouse.stamp import Stamp
from platform_resources.landing import mediawiki_export
from platform_resources.serving.publishing import Published, Publishing
from tests.conftest import REALDATA
from tests.serving.export_schema import SPACE, violations

FOLDER = REALDATA / "content_history"
SAMPLE = FOLDER / "MediawikiDumperOutputTest.Simplewiki.Sample.xml"
REGISTRY = Registry.load(SOURCE_ROOT)
NOW = datetime(2024, 1, 5, tzinfo=UTC)

Row = dict[str, Any]


@pytest.fixture(scope="module")
def real(requires: Callable[[str], None], tmp_path_factory: pytest.TempPathFactory) -> Lakehouse:
    """A lakehouse with the real rows: the history of two wikis and the map of namespaces."""
    requires("realdata")
    house = Lakehouse(Settings(home=tmp_path_factory.mktemp("content"), duckdb_threads=1))
    _fill(house, "content/history", [_revision(row) for row in _lines("wmf_content_mediawiki_content_history_v1.json.gz")])
    landed = {"_file_name": "map.json", "_file_hash": "0", "_slice": date(2023, 9, 1), "_landed_at": NOW}
    rows = [
        {**row, **landed, "_line": line} for line, row in enumerate(_lines("wmf_raw_mediawiki_project_namespace_map.json.gz"))
        if row["dbname"] in ("simplewiki", "commonswiki", "abwiki")
    ]  # fmt: skip
    _fill(house, "mediawiki/project_namespace_map", rows)
    return house


def _lines(name: str) -> list[Row]:
    with gzip.open(FOLDER / name, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _revision(row: Row) -> Row:
    """A real row with its times as such, and in place of what is hidden nothing, as content.history keeps it."""
    made = {name: datetime.fromisoformat(value) if name.endswith("_dt") else value for name, value in row.items()}
    if not row["revision_content_is_visible"]:
        made |= {"revision_sha1": None, "revision_size": None}
    return {**made, "revision_content_slots": list(row["revision_content_slots"].items())}


def _fill(house: Lakehouse, key: str, rows: list[Row]) -> None:
    definition = table_definition(REGISTRY.get(key))
    schema = arrow_schema_of(definition.schema)
    table = pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)
    stage_append(house, definition, table, Stamp(run_id=f"load-{key}")).commit()


@pytest.fixture(scope="module")
def published(real: Lakehouse) -> Published:
    """The dumps of 2024-01-01 with all revisions."""
    return publish(real, "content/dump_history", "2024-01")


def publish(house: Lakehouse, key: str, slice_key: str) -> Published:
    contract = REGISTRY.get(key)
    transform = read_transform(contract, REGISTRY)
    assert transform is not None
    publishing = Publishing(
        contract, transform, lakehouse=house, registry=REGISTRY, settings=house.settings, run_id=f"{key}-{slice_key}", clock=lambda: NOW
    )
    published = publishing.publish(slice_key)
    assert published is not None
    return published


def _public(house: Lakehouse) -> Path:
    return house.settings.public_path / "public_dumps"


def _document(house: Lakehouse, published: Published, wiki: str) -> bytes:
    [name] = [one.name for one in published.files if one.pages.wiki_id == wiki]
    return bz2.decompress((_public(house) / name).read_bytes())


def canonical(document: bytes) -> str:
    """The canonical XML of a dump, without the three things in which the sample itself is not valid, and without the program's name.

    Of the schema's required elements it lacks `comment` where there is none; it gives hidden texts -1 bytes; and where a row has no
    format it says `error-no-format`. `test_the_sample_breaks_the_schema_there_and_nowhere_else` proves that these are all.
    """
    root = ElementTree.fromstring(document)
    for generator in root.iter(f"{SPACE}generator"):
        generator.text = None
    for revision in root.iter(f"{SPACE}revision"):
        for comment in revision.findall(f"{SPACE}comment"):
            if not comment.text and not comment.attrib:
                revision.remove(comment)
        for text in revision.iter(f"{SPACE}text"):
            if text.get("deleted"):
                text.attrib.pop("bytes", None)
                for form in revision.findall(f"{SPACE}format"):
                    form.text = None
    return ElementTree.canonicalize(ElementTree.tostring(root, encoding="unicode"), strip_text=False)


def test_the_real_rows_give_wikimedias_own_sample(real: Lakehouse, published: Published) -> None:
    assert [one.name for one in published.files] == [
        "history/commonswiki/20240101/commonswiki-20240101-pages-meta-history-p13327093p13327093.xml.bz2",
        "history/simplewiki/20240101/simplewiki-20240101-pages-meta-history-p45046p279900.xml.bz2",
    ]
    document = _document(real, published, "simplewiki")
    told = re.sub(r">\s+<", ">\n<", canonical(document)).splitlines()
    assert told == re.sub(r">\s+<", ">\n<", canonical(SAMPLE.read_bytes())).splitlines()
    assert published.files[1].revision_count == 33


def test_the_sample_breaks_the_schema_there_and_nowhere_else(requires: Callable[[str], None]) -> None:
    requires("realdata")
    found = {sentence.removeprefix("mediawiki/page/revision") for sentence in violations(SAMPLE.read_bytes())}
    assert found == {" lacks comment", "/text has bytes=-1", "/format is 'error-no-format'"}


def test_both_wikis_are_valid_and_read_back_as_the_rows_they_are_made_of(real: Lakehouse, published: Published) -> None:
    rows = {row["revision_id"]: row for row in _lines("wmf_content_mediawiki_content_history_v1.json.gz")}
    seen = 0
    for wiki in ("simplewiki", "commonswiki"):
        document = _document(real, published, wiki)
        assert violations(document) == []
        for one in mediawiki_export.revisions(io.BytesIO(document), wiki):
            row = rows[one.id or 0]
            assert not one.faults
            assert (one.site.dbname, one.page.id, one.page.title) == (wiki, row["page_id"], row["page_title"].replace("_", " "))
            assert one.parent_id == row.get("revision_parent_id")
            assert one.dt == datetime.fromisoformat(row["revision_dt"])
            visible = row["user_is_visible"] and "user_text" in row
            assert (one.user_id, one.user_text) == ((row.get("user_id"), row["user_text"]) if visible else (None, None))
            assert one.comment == (row["revision_comment"] if row["revision_comment_is_visible"] else None)
            assert one.is_minor_edit == row["revision_is_minor_edit"]
            slots = row["revision_content_slots"] if row["revision_content_is_visible"] else {}
            told = {content.role: (content.body, content.model, content.origin) for content in one.contents if content.is_visible}
            assert told == {role: (slot["content_body"], slot["content_model"], slot["origin_rev_id"]) for role, slot in slots.items()}
            seen += 1
    assert seen == sum(datetime.fromisoformat(row["revision_dt"]) < datetime(2024, 1, 1, tzinfo=UTC) for row in rows.values()) == 83


def test_current_dumps_have_the_newest_revision_before_their_date(real: Lakehouse) -> None:
    published = publish(real, "content/dump_current", "2024-01-01")
    found = list(mediawiki_export.revisions(io.BytesIO(_document(real, published, "simplewiki")), "simplewiki"))
    rows = [row for row in _lines("wmf_content_mediawiki_content_history_v1.json.gz") if row["wiki_id"] == "simplewiki"]
    newest = {row["page_id"]: row["revision_id"] for row in sorted(rows, key=lambda row: row["revision_dt"]) if row["revision_dt"] < "2024"}
    assert {one.page.id: one.id for one in found} == newest
    assert violations(_document(real, published, "simplewiki")) == []


def test_nothing_that_is_hidden_is_in_the_files(real: Lakehouse, published: Published) -> None:
    document = _document(real, published, "simplewiki").decode()
    assert "redacted" not in document
    assert document.count('<text deleted="deleted" />') == 4
    assert document.count('<contributor deleted="deleted" />') == 4
    assert document.count('<comment deleted="deleted" />') == 3


def test_checksums_status_and_page_tell_of_the_files(real: Lakehouse, published: Published) -> None:
    folder = _public(real) / "history" / "simplewiki" / "20240101"
    [file] = [one for one in published.files if one.pages.wiki_id == "simplewiki"]
    data = (_public(real) / file.name).read_bytes()
    own = file.name.rpartition("/")[2]
    assert (folder / "simplewiki-20240101-sha1sums.txt").read_text() == f"{hashlib.sha1(data).hexdigest()}  {own}\n"
    assert (folder / "simplewiki-20240101-md5sums.txt").read_text() == f"{hashlib.md5(data).hexdigest()}  {own}\n"
    status = json.loads((folder / "dumpstatus.json").read_text())
    assert (status["status"], status["date"], status["product"]) == ("done", "2024-01-01", "content/dump_history")
    assert status["files"][own] == {
        "size": len(data), "xml_size": len(bz2.decompress(data)), "sha1": file.sha1, "md5": file.md5, "first_page": 45046,
        "last_page": 279900, "pages": 2, "revisions": 33,
    }  # fmt: skip
    page = (folder / "index.html").read_text()
    assert f'<a href="{own}">' in page
    assert "2 pages and 33 revisions" in page

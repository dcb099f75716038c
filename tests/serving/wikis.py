"""Revisions of wikis, the project that publishes them, and looks at what became public."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from platform_resources.config import Settings
from platform_resources.contracts.iceberg import table_definition
from platform_resources.contracts.model import Contract
from platform_resources.contracts.registry import Registry
from platform_resources.engines.loading import read_transform
from platform_resources.engines.transform import Transform
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.conforming import arrow_schema_of
from platform_resources.lakehouse.reading import arrow_table
from platform_resources.lakehouse.staging import PartitionScope, stage_overwrite
from platform_resources.lakehouse.stamp import Stamp
from platform_resources.landing import mediawiki_export
from platform_resources.landing.compression import decompressed
from platform_resources.serving.publishing import Published, Publishing

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
PATH = "{wiki_id}/{slice:%Y%m%d}/{wiki_id}-{slice:%Y%m%d}-history-p{first}p{last}.xml.bz2"

DOMAIN = "name: archive\ntitle: Archive\ndescription: Keeps texts.\nowners: [team:archive]\nsupport: []\n"
CONTRACT = """\
apiVersion: v3.2.0
kind: DataContract
id: archive.dump
version: 1.0.0
status: draft
description: {{purpose: Texts of the wikis.}}
servers:
  - server: public
    type: custom
    customProperties:
      - {{property: publishes, value: xml_dump}}
      - {{property: path, value: '{path}'}}
      - {{property: cadence, value: monthly}}
      - {{property: start, value: '2026-01-01'}}
{server}schema:
  - name: dump
    logicalType: object
    quality: [{quality}]
    properties:
      - {{name: wiki_id, logicalType: string, required: true, primaryKey: true, description: Wiki.}}
      - {{name: file, logicalType: string, required: true, primaryKey: true, description: Name.}}
      - {{name: first_page_id, logicalType: integer, description: First.}}
      - {{name: last_page_id, logicalType: integer, description: Last.}}
      - {{name: bytes, logicalType: integer, description: Size.}}
      - {{name: sha1, logicalType: string, description: Hash.}}
      - {{name: md5, logicalType: string, description: Hash.}}
      - {{name: pages, logicalType: integer, description: Pages.}}
      - {{name: revisions, logicalType: integer, description: Revisions.}}
{sla}"""
REVISION = """\
apiVersion: v3.2.0
kind: DataContract
id: archive.revision
version: 1.0.0
status: draft
description: {purpose: Revisions.}
servers:
  - {server: s, type: custom, customProperties: [{property: source, value: platform}]}
schema:
  - name: revision
    logicalType: object
    properties:
      - {name: wiki_id, logicalType: string, description: Wiki.}
      - {name: page_id, logicalType: integer, description: Page.}
      - {name: page_namespace_id, logicalType: integer, physicalType: int, description: Namespace.}
      - {name: page_title, logicalType: string, description: Title.}
      - {name: page_redirect_target, logicalType: string, description: Target.}
      - {name: revision_id, logicalType: integer, description: Revision.}
      - {name: revision_parent_id, logicalType: integer, description: Parent.}
      - {name: revision_dt, logicalType: timestamp, description: Time.}
      - {name: user_id, logicalType: integer, description: Author.}
      - {name: user_text, logicalType: string, description: Author.}
      - {name: user_is_visible, logicalType: boolean, description: Flag.}
      - {name: revision_comment, logicalType: string, description: Comment.}
      - {name: revision_comment_is_visible, logicalType: boolean, description: Flag.}
      - {name: revision_is_minor_edit, logicalType: boolean, description: Flag.}
      - {name: revision_sha1, logicalType: string, description: Hash.}
      - {name: revision_size, logicalType: integer, description: Size.}
      - {name: revision_content_is_visible, logicalType: boolean, description: Flag.}
      - name: revision_content_slots
        logicalType: map
        description: Slots.
        map:
          key: {logicalType: string}
          value:
            logicalType: object
            properties:
              - {name: content_body, logicalType: string, description: Text.}
              - {name: content_format, logicalType: string, description: Format.}
              - {name: content_model, logicalType: string, description: Model.}
              - {name: content_sha1, logicalType: string, description: Hash.}
              - {name: content_size, logicalType: integer, description: Size.}
              - {name: origin_rev_id, logicalType: integer, description: Origin.}
"""
SQL = """\
select
    *,
    'Wiki' as site_name, 'https://' || wiki_id || '.example.org/wiki/Main_Page' as site_base, 'first-letter' as site_case,
    'en' as site_language,
    case when wiki_id <> 'unknownwiki' then [
        {namespace_id: 0, namespace_name: '', namespace_case: 'first-letter'},
        {namespace_id: 1, namespace_name: 'Talk', namespace_case: 'first-letter'}
    ] end as site_namespaces
from archive.revision
"""


def slot(body: str | None, *, model: str = "wikitext", origin: int | None = None, size: int | None = None) -> dict[str, Any]:
    """A slot whose hash is made up."""
    known = len(body.encode()) if body is not None else size
    return {
        "content_body": body, "content_format": "text/x-wiki", "content_model": model, "content_sha1": "61o9wqbehiqpmke7163b1675fic2cri",
        "content_size": known, "origin_rev_id": origin,
    }  # fmt: skip


def revision(wiki: str, page: int, number: int, body: str | None = "text", *, day: int | None = None, **other: Any) -> dict[str, Any]:
    """A revision of January 2026 (its `day`, default by its number), visible but for what `other` says."""
    row = {
        "wiki_id": wiki, "page_id": page, "page_namespace_id": 0, "page_title": f"Page_{page}", "page_redirect_target": None,
        "revision_id": number, "revision_parent_id": None, "user_id": 7, "user_text": "Ann", "user_is_visible": True,
        "revision_dt": datetime(2026, 1, day or number % 28 + 1, 12, tzinfo=UTC), "revision_comment": f"edit {number}",
        "revision_comment_is_visible": True, "revision_is_minor_edit": number % 2 == 0, "revision_sha1": "61o9wqbehiqpmke7163b1675fic2cri",
        "revision_size": len((body or "").encode()), "revision_content_is_visible": True,
        "revision_content_slots": [("main", slot(body, origin=number))],
    }  # fmt: skip
    return {**row, **other}


@dataclass
class Archive:
    """The product `archive/dump`, the rows its query reads, and its public place."""

    root: Path
    runs: int = 0
    now: datetime = NOW
    settings: Settings = field(init=False)

    def __post_init__(self) -> None:
        (self.root / "workspace.yaml").write_text(
            "load_from:\n  - python_module:\n"
            "      {module_name: data_products.archive.definitions, location_name: archive, working_directory: .}\n"
        )
        self.settings = Settings(project=self.root, home=self.root / "home", duckdb_threads=1)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "domain.yaml").write_text(DOMAIN)
        (self.folder / "revision.yaml").write_text(REVISION)
        if not (self.folder / "dump.yaml").exists():
            self.define()

    @property
    def folder(self) -> Path:
        return self.root / "data_products" / "archive"

    @property
    def public(self) -> Path:
        return self.settings.public_path / "archive"

    def define(self, *, path: str = PATH, server: str = "", quality: str = "", sla: str = "", sql: str = SQL) -> Archive:
        """Say what the contract and the query are."""
        (self.folder / "dump.yaml").write_text(CONTRACT.format(path=path, server=server, quality=quality, sla=sla))
        (self.folder / "dump.sql").write_text(sql)
        return self

    def load(self) -> tuple[Registry, Contract, Transform]:
        registry = Registry.load(self.root)
        assert not registry.problems_of("archive"), registry.problems_of("archive")
        contract = registry.get("archive/dump")
        transform = read_transform(contract, registry)
        assert transform is not None
        return registry, contract, transform

    @property
    def lakehouse(self) -> Lakehouse:
        return Lakehouse(self.settings)

    def hold(self, rows: Sequence[dict[str, Any]]) -> None:
        """Let the input be these rows."""
        self.runs += 1
        definition = table_definition(Registry.load(self.root).get("archive/revision"))
        schema = arrow_schema_of(definition.schema)
        data = pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)
        stamp = Stamp(run_id=f"load-{self.runs}")
        stage_overwrite(self.lakehouse, definition, data, stamp, partitions=PartitionScope.table()).commit()

    def publishing(self, *, run_id: str | None = None, **options: Any) -> Publishing:
        self.runs += 1
        registry, contract, transform = self.load()
        return Publishing(
            contract, transform, lakehouse=self.lakehouse, registry=registry, settings=self.settings, run_id=run_id or f"run-{self.runs}",
            clock=lambda: self.now, **options,
        )  # fmt: skip

    def publish(self, key: str = "2026-02", **options: Any) -> Published:
        published = self.publishing(**options).publish(key)
        assert published is not None
        return published

    def names(self) -> list[str]:
        """Everything in the public place, hidden names too."""
        return sorted(path.relative_to(self.public).as_posix() for path in self.public.rglob("*") if path.is_file())

    def files(self) -> list[str]:
        """The dump files that readers see."""
        return [name for name in self.names() if ".xml" in name and not name.startswith(".")]

    def rows(self, *columns: str) -> list[tuple[Any, ...]]:
        """The index, sorted; default columns: file."""
        table = self.lakehouse.table("archive.dump")
        found = [] if table is None else arrow_table(table).to_pylist()
        return sorted(tuple(row[name] for name in columns or ("file",)) for row in found)

    def document(self, name: str) -> bytes:
        """A file unpacked, by the reader's own code."""
        packing = {"bz2": "bzip2", "gz": "gzip", "zst": "zstd"}.get(name.rsplit(".", 1)[-1], "none")
        with (self.public / name).open("rb") as raw:
            return decompressed(raw, packing, name).read()

    def revisions(self) -> list[mediawiki_export.Revision]:
        """Every revision in public, as our own reader has it."""
        return [one for name in self.files() for one in read(self.document(name))]


def read(document: bytes) -> list[mediawiki_export.Revision]:
    """A document as our own reader has it."""
    return list(mediawiki_export.revisions(io.BytesIO(document), "dump.xml"))


def some(pages: Iterable[int], *, wiki: str = "testwiki", each: int = 3, body: str = "text") -> list[dict[str, Any]]:
    """Pages with some revisions each."""
    return [revision(wiki, page, page * 100 + number, f"{body} {page}.{number}") for page in pages for number in range(each)]


def later(rows: Sequence[dict[str, Any]], days: int) -> list[dict[str, Any]]:
    """The same rows, saved later."""
    return [{**row, "revision_dt": row["revision_dt"] + timedelta(days=days)} for row in rows]

"""What `sdp check` says of a product that publishes: one sentence for each fault of its contract and of its query."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from platform_resources.config import Settings
from platform_resources.contracts.diff import diff
from platform_resources.contracts.publications import EXPORT_COLUMNS, INDEX_COLUMNS
from platform_resources.contracts.registry import Registry
from platform_resources.contracts.specs import partitions_of
from platform_resources.engines.loading import check_transform
from platform_resources.errors import PlatformError
from platform_resources.serving.outlets import open_outlet
from tests.serving.wikis import PATH, SQL, Archive

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "publish.md").read_text(encoding="utf-8")


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path)


@pytest.mark.parametrize(
    ("path", "code", "said"),
    [
        ("{wiki}/{slice:%Y%m%d}/p{first}p{last}.xml.bz2", "contract-path", "has the placeholder {wiki}, which is none of {wiki_id}"),
        ("{wiki_id}/{slice:%Y%m%d}/p{first}.xml.bz2", "contract-path", "lacks {last}, so that two files could have one name"),
        ("{wiki_id}/{slice:%Q}/p{first}p{last}.xml.bz2", "contract-path", "has %Q in a placeholder, which tells no slice"),
        ("{wiki_id}-{slice:%Y%m%d}-p{first}p{last}.xml.bz2", "contract-path", "has no folder of its own for each wiki and date"),
        ("{wiki_id}/{slice:%Y}/{first}/p{first}p{last}.xml", "contract-path", "has a folder for each range of pages"),
        ("/{wiki_id}/{slice:%Y%m%d}/p{first}p{last}.xml", "contract-path", "leaves the connection's root"),
        ("{wiki_id}/{slice:%Y%m%d}/p{first}p{last}.xml.7z", "contract-path", "does not tell how the files are packed"),
    ],
)
def test_a_path_that_cannot_be_is_refused(archive: Archive, path: str, code: str, said: str) -> None:
    archive.define(path=path)
    problems = Registry.load(archive.root).problems_of("archive/dump")
    assert [(problem.code, said in problem.message, problem.line) for problem in problems] == [(code, True, 8)], problems


@pytest.mark.parametrize(
    ("old", "new", "code", "said"),
    [
        ("value: '2026-01-01'", "value: '2026-01-15'", "contract-start", "is no beginning of a monthly slice"),
        ("      - {property: start, value: '2026-01-01'}\n", "", "contract-start", "nothing tells the first"),
        ("value: xml_dump", "value: xml", "contract-custom-value", "is not one of xml_dump"),
        ("name: file,", "name: file_name,", "contract-index-column", "The index of a dump cannot tell file_name"),
        ("name: bytes, logicalType: integer", "name: bytes, logicalType: string", "contract-index-column", "is declared as a string"),
        ("name: pages,", "name: pages, partitioned: true,", "contract-index-column", "cannot be partitioned"),
        ("quality: []", "quality: []\n    customProperties: [{property: incremental, value: key}]", "contract-write-mode", "written whole"),
        ("type: custom\n", "type: s3\n    location: s3://x\n", "contract-place-in-server", "names a location"),
        ("status: draft", "status: draft\nroles: [{role: archive}]", "contract-not-public", "its roles let archive only read it"),
        ("name: sha1,", "name: sha1, classification: restricted,", "contract-not-public", "is classified as restricted"),
    ],
)  # fmt: skip
def test_a_contract_that_cannot_publish_is_refused(archive: Archive, old: str, new: str, code: str, said: str) -> None:
    file = archive.folder / "dump.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    problems = Registry.load(archive.root).problems_of("archive/dump")
    assert (code, True) in [(problem.code, said in problem.message) for problem in problems], problems


@pytest.mark.parametrize(
    ("old", "new", "code", "said", "line"),
    [
        ("    *,", "    * exclude (revision_size),", "export-column-missing", "The query does not give revision_size", 0),
        ("'en' as site_language,", "'en' as site_language, 1 as site_nonsense,", "export-column-unknown", "no dump has", 4),
        ("'Wiki' as site_name", "1.5 as site_name", "sql-type-mismatch", "site_name is DECIMAL(2,1), a dump says string", 3),
        ("namespace_name: '',", "title: '',", "sql-type-mismatch", "site_namespaces.element has a field title that a dump", 8),
        ("'Wiki' as", "Wiki as", "sql-unknown-column", "Wiki", 3),
        ("from archive.revision", "from archive.revisions", "sql-unknown-product", "revisions", 9),
    ],
)
def test_a_query_that_gives_no_dump_is_refused(archive: Archive, old: str, new: str, code: str, said: str, line: int) -> None:
    assert old in SQL
    archive.define(sql=SQL.replace(old, new))
    registry = Registry.load(archive.root)
    problems = check_transform(registry.get("archive/dump"), registry)
    assert (code, True, line) in [(problem.code, said in problem.message, problem.line) for problem in problems], problems


def test_what_not_everybody_may_read_is_not_published(archive: Archive) -> None:
    file = archive.folder / "revision.yaml"
    file.write_text(file.read_text().replace("status: draft", "status: draft\nroles: [{role: archive}]"))
    registry = Registry.load(archive.root)
    [problem] = check_transform(registry.get("archive/dump"), registry)
    assert (problem.code, problem.severity, problem.file) == ("export-not-public", "error", "data_products/archive/dump.sql")
    assert "archive/revision may be read by archive only" in problem.message


@pytest.mark.parametrize(("old", "new", "taken"), [("-history-p", "-stub-p", True), ("{wiki_id}/{slice", "{wiki_id}/stubs-{slice", False)])
def test_two_products_do_not_publish_in_one_folder(archive: Archive, old: str, new: str, taken: bool) -> None:
    """Whatever the files are called: checksums and the index page are those of a folder."""
    text = (archive.folder / "dump.yaml").read_text().replace("archive.dump", "archive.stubs").replace("name: dump", "name: stubs")
    (archive.folder / "stubs.yaml").write_text(text.replace(old, new, 1))
    (archive.folder / "stubs.sql").write_text(SQL)
    problems = [(problem.code, problem.file, problem.line) for problem in Registry.load(archive.root).problems]
    assert problems == [("publish-folder-taken", "data_products/archive/stubs.yaml", 8)] * taken


@pytest.mark.parametrize(
    ("old", "new", "kind", "said"),
    [
        ("-history-p", "-text-p", "breaking", "the path of the published files changed from "),
        ("value: monthly", "value: yearly", "breaking", "the cadence of the published files changed from monthly to yearly"),
        ("      - {property: start", "      - {property: text, value: false}\n      - {property: start", "breaking", "from True to False"),
        ("property: start, value: '2026-01-01'", "property: start, value: '2025-01-01'", "additive", "the start of the published files"),
        ("property: publishes, value: xml_dump", "property: source, value: platform", "breaking", "no files are published any more"),
    ],
)
def test_a_change_of_what_is_published_is_told(archive: Archive, old: str, new: str, kind: str, said: str) -> None:
    file = archive.folder / "dump.yaml"
    before, text = archive.load()[1], file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    found = diff(before, Registry.load(archive.root).get("archive/dump"))
    assert any(change.kind == kind and said in change.message for change in found), found


def test_a_sound_one_has_no_problem_and_partitions_by_its_dates(archive: Archive) -> None:
    registry, contract, _ = archive.load()
    assert check_transform(contract, registry) == []
    assert contract.slices is not None and contract.slices.cadence == "monthly"
    partitions = partitions_of(contract)
    assert partitions is not None and partitions.get_first_partition_key() == "2026-01"


def test_names_lead_back_to_their_dates(archive: Archive) -> None:
    publication = archive.load()[1].publication
    assert publication is not None
    start = datetime(2026, 2, 1, tzinfo=UTC)
    name = publication.file("testwiki", start, 1, 22)
    assert name == "testwiki/20260201/testwiki-20260201-history-p1p22.xml.bz2"
    assert publication.slice_of(name) == start
    strange = ["testwiki/20260201/testwiki-20260301-history-p1p22.xml.bz2", "a/20260201/b-20260201-history-p1p2.xml.bz2", name + ".md5"]
    assert [publication.slice_of(other) for other in strange] == [None, None, None]


def test_where_files_go_is_the_profiles_to_say(archive: Archive, tmp_path: Path) -> None:
    contract = archive.load()[1]
    production = Settings(project=archive.root, home=tmp_path / "home", profile="production")
    with pytest.raises(PlatformError, match="no connection archive, in which archive/dump is published") as refused:
        open_outlet(contract, production)
    assert refused.value.code == "connection-unknown"
    unfit = production.model_copy(update={"connections": {"archive": SecretStr("ftp://example.org/x")}})
    with pytest.raises(PlatformError, match="begins with ftp") as refused:
        open_outlet(contract, unfit)
    assert refused.value.code == "connection-unfit"


def test_the_fingerprint_knows_what_is_published(archive: Archive) -> None:
    before = archive.load()[1].fingerprint
    archive.define(path=PATH.replace("history", "revisions"))
    assert archive.load()[1].fingerprint != before


def test_the_page_lists_every_column() -> None:
    for name, column in [*EXPORT_COLUMNS.items(), *INDEX_COLUMNS.items()]:
        assert f"| `{name}`" in PAGE
        assert column.meaning in PAGE

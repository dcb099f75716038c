"""What becomes public of a dump, and when: whole files, one index, earlier ones as they were; killed, fenced, refused, resumed."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from platform_resources.errors import PlatformError
from platform_resources.lakehouse.staging import Fenced
from platform_resources.lakehouse.stamp import read_position, read_watermark
from platform_resources.serving import dump_query, publishing
from platform_resources.serving.outlets import STAGING, Folder
from platform_resources.serving.publishing import Blocked, due
from tests.serving.export_schema import violations
from tests.serving.wikis import PATH, SQL, Archive, later, read, revision, some

FOLDER = "testwiki/20260201"
SMALL = "      - {property: fileSize, value: 1 MiB}\n"
BIG = "x" * 400_000  # so that 1 MiB holds two revisions
COMPANIONS = ["dumpstatus.json", "index.html", "testwiki-20260201-md5sums.txt", "testwiki-20260201-sha1sums.txt"]


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    made = Archive(tmp_path)
    made.hold(some([1, 2, 3]))
    return made


def verified(archive: Archive, folder: str = FOLDER) -> dict[str, str]:
    """The files that a reader finds through the checksums, each of which is right."""
    sums = next((archive.public / folder).glob("*-sha1sums.txt")).read_text().splitlines()
    found = {name: digest for digest, name in (line.split("  ") for line in sums)}
    for name, digest in found.items():
        assert hashlib.sha1((archive.public / folder / name).read_bytes()).hexdigest() == digest
    return found


def whole(archive: Archive) -> None:
    """Whatever a reader sees among the dump files is a whole and valid document."""
    for name in archive.files():
        assert violations(archive.document(name)) == [], name


def test_a_dump_is_files_checksums_a_page_and_the_index(archive: Archive) -> None:
    published = archive.publish()
    name = f"{FOLDER}/testwiki-20260201-history-p1p3.xml.bz2"
    assert archive.names() == sorted([name, *(f"{FOLDER}/{one}" for one in COMPANIONS)])
    assert list(verified(archive)) == ["testwiki-20260201-history-p1p3.xml.bz2"]
    [file] = published.files
    assert archive.rows("_slice", "wiki_id", "file", "bytes", "sha1", "first_page_id", "last_page_id", "pages", "revisions") == [
        (date(2026, 2, 1), "testwiki", name, (archive.public / name).stat().st_size, file.sha1, 1, 3, 3, 9)
    ]
    assert [one.id for one in archive.revisions()] == [page * 100 + n for page in (1, 2, 3) for n in (0, 1, 2)]
    table = archive.lakehouse.table("archive.dump")
    assert table is not None
    assert read_watermark(table) == datetime(2026, 2, 1, tzinfo=UTC)
    assert list(read_position(table) or {}) == ["archive/revision"]


@pytest.mark.storm
def test_a_dump_holds_what_was_saved_before_its_date(archive: Archive) -> None:
    rows = [revision("testwiki", 1, 1), revision("testwiki", 1, 2, revision_dt=datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC))]
    rows += [revision("testwiki", 1, 3, revision_dt=datetime(2026, 2, 1, tzinfo=UTC)), *later(some([9]), 40)]
    archive.hold(rows)
    archive.publish()
    assert [one.id for one in archive.revisions()] == [1, 2]


@pytest.mark.storm
def test_pages_are_called_as_their_newest_revision_says_and_ordered_by_time(archive: Archive) -> None:
    archive.hold([
        revision("testwiki", 1, 7, day=3, page_title="Old"),
        revision("testwiki", 1, 5, day=9, page_title="New_name", page_redirect_target="X_y"),
        revision("testwiki", 1, 6, day=3, page_title="Old"),
    ])  # fmt: skip
    archive.publish()
    found = archive.revisions()
    assert [one.id for one in found] == [6, 7, 5]
    assert {(one.page.title, one.page.redirect_target) for one in found} == {("New name", "X y")}


@pytest.mark.storm
@pytest.mark.parametrize("suffix", ["xml", "xml.gz", "xml.zst"])
def test_files_are_packed_as_their_name_says(archive: Archive, suffix: str) -> None:
    archive.define(path=PATH.replace("xml.bz2", suffix)).publish()
    [name] = archive.files()
    assert name.endswith(suffix)
    assert len(archive.revisions()) == 9


@pytest.mark.storm
def test_a_file_of_many_blocks_is_read_by_everyone(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    import bz2

    from platform_resources.serving import packing

    archive.publish()
    [name] = archive.files()
    one = archive.document(name)
    monkeypatch.setattr(packing, "_BLOCK", 1_000)
    archive.publish(anew=True)
    packed = (archive.public / name).read_bytes()
    assert packed.count(b"BZh9") > 3
    assert bz2.decompress(packed) == archive.document(name) == one


@pytest.mark.storm
def test_pages_go_into_files_by_size_and_are_never_split(archive: Archive) -> None:
    archive.define(server=SMALL)
    sizes = {1: 1, 2: 1, 3: 4, 4: 1, 5: 1, 6: 1}
    archive.hold([revision("testwiki", page, page * 10 + n, BIG) for page, count in sizes.items() for n in range(count)])
    archive.publish()
    assert [(one[0], one[1]) for one in archive.rows("first_page_id", "last_page_id")] == [(1, 2), (3, 3), (4, 5), (6, 6)]
    by_file = [{one.page.id for one in read(archive.document(name))} for name in archive.files()]
    assert by_file == [{1, 2}, {3}, {4, 5}, {6}]
    assert len(verified(archive)) == 4


@pytest.mark.storm
@pytest.mark.parametrize("lot", [1, 1_700, 3_000, 10**9])
def test_revisions_come_in_lots_of_any_size_in_the_same_order(archive: Archive, monkeypatch: pytest.MonkeyPatch, lot: int) -> None:
    """Whole pages together, large ones in parts, equal times and ids against the time among them."""
    rows = some([1, 2, 5, 6], each=2) + [revision("testwiki", 4, 50 - n, day=1 + n // 3) for n in range(7)]
    rows += [revision("testwiki", 3, 30 + n, day=4) for n in range(5)] + some([4], wiki="otherwiki")
    archive.hold(rows)
    monkeypatch.setattr(dump_query, "_LOT", lot)
    archive.publish()
    order = sorted(rows, key=lambda r: (r["wiki_id"], r["page_id"], r["revision_dt"], r["revision_id"]))
    assert [(one.site.dbname, one.page.id, one.id) for one in archive.revisions()] == [
        (row["wiki_id"], row["page_id"], row["revision_id"]) for row in order
    ]
    archive.define(server="      - {property: revisions, value: current}\n").publish("2026-03")
    newest = {(row["wiki_id"], row["page_id"]): row["revision_id"] for row in order}
    found = [one for name in archive.files() if "202603" in name for one in read(archive.document(name))]
    assert {(one.site.dbname, one.page.id): one.id for one in found} == newest
    assert len(found) == len(newest)


@pytest.mark.storm
def test_a_stub_has_no_text(archive: Archive) -> None:
    archive.define(server="      - {property: text, value: false}\n").publish()
    assert {one.contents[0].body for one in archive.revisions()} == {None}


@pytest.mark.storm
def test_publishing_again_replaces_files_and_takes_away_what_is_no_longer_among_them(archive: Archive) -> None:
    archive.define(server=SMALL)
    archive.hold([revision("testwiki", page, page, BIG) for page in range(1, 6)] + some([1], wiki="otherwiki"))
    assert len(archive.publish().files) == 4
    archive.hold([revision("testwiki", page, page, "now small") for page in range(1, 5)])
    published = archive.publish()
    assert archive.rows() == [(f"{FOLDER}/testwiki-20260201-history-p1p4.xml.bz2",)]
    assert len(published.removed) == 4
    assert archive.names() == sorted(f"{FOLDER}/{one}" for one in [*COMPANIONS, "testwiki-20260201-history-p1p4.xml.bz2"])
    assert {one.contents[0].body for one in archive.revisions()} == {"now small"}


@pytest.mark.storm
def test_the_same_rows_give_the_same_bytes(archive: Archive) -> None:
    first = archive.publish().files
    assert archive.publish().files == first


def test_a_suppressed_revision_stays_in_a_file_until_it_is_published_anew(archive: Archive) -> None:
    rows = [revision("testwiki", 1, 1, "SECRET"), revision("testwiki", 1, 2)]
    archive.hold(rows)
    archive.publish()
    rows[0] |= {"revision_content_is_visible": False}
    archive.hold(rows)
    archive.publish("2026-03")
    by_date = {name.split("/")[1]: archive.document(name) for name in archive.files()}
    assert (b"SECRET" in by_date["20260201"], b"SECRET" in by_date["20260301"]) == (True, False)
    archive.publish("2026-02")
    assert all(b"SECRET" not in archive.document(name) for name in archive.files())


def test_what_is_suppressed_is_gone_though_a_run_that_had_published_left_its_plan(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ended between its commit and tidying up, it was done: its snapshots must not be taken up for what is published now."""
    rows = [revision("testwiki", 1, 1, "SECRET"), revision("testwiki", 1, 2)]
    archive.hold(rows)
    monkeypatch.setenv("SDP_FAILPOINTS", "publish-after-commit:raise")
    with pytest.raises(RuntimeError):
        archive.publish()
    monkeypatch.delenv("SDP_FAILPOINTS")
    rows[0] |= {"revision_content_is_visible": False}
    archive.hold(rows)
    archive.publish()
    assert all(b"SECRET" not in archive.document(name) for name in archive.files())


@pytest.mark.storm
def test_which_pages_go_into_a_file_does_not_tell_how_long_hidden_texts_are(archive: Archive) -> None:
    archive.define(server=SMALL)
    archive.hold([revision("testwiki", page, page, BIG, revision_content_is_visible=False) for page in range(1, 6)])
    archive.publish()
    assert archive.files() == [f"{FOLDER}/testwiki-20260201-history-p1p5.xml.bz2"]


@pytest.mark.storm
def test_stopped_while_a_wiki_is_taken_away_nothing_of_it_stays(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    archive.hold(some([1, 2]) + some([1], wiki="otherwiki"))
    archive.publish()
    archive.hold(some([1, 2]))
    real, gone = Folder.remove, []

    def once(outlet: Folder, name: str) -> None:
        if gone:
            raise PlatformError("outlet-unwritable", "The folder is gone.")
        gone.append(name)
        real(outlet, name)

    monkeypatch.setattr(Folder, "remove", once)
    with pytest.raises(PlatformError, match="The folder is gone"):
        archive.publish()
    monkeypatch.undo()
    archive.publish()
    assert {name.split("/")[0] for name in archive.names()} == {"testwiki"}


@pytest.mark.storm
def test_an_older_date_makes_nothing_fresh_and_leaves_the_newer_one(archive: Archive) -> None:
    archive.publish("2026-03")
    archive.publish("2026-02")
    table = archive.lakehouse.table("archive.dump")
    assert table is not None
    assert read_watermark(table) == datetime(2026, 3, 1, tzinfo=UTC)
    assert [row[0] for row in archive.rows("_slice")] == [date(2026, 2, 1), date(2026, 3, 1)]


def test_a_failed_check_leaves_the_earlier_publication_as_it_was(archive: Archive) -> None:
    archive.define(quality="{name: few, metric: rowCount, mustBeLessThan: 2}", server=SMALL)
    archive.publish()
    before = {name: (archive.public / name).read_bytes() for name in archive.names()}
    archive.hold([revision("testwiki", page, page, BIG) for page in range(1, 6)])
    with pytest.raises(Blocked):
        archive.publish()
    assert {name: (archive.public / name).read_bytes() for name in archive.names()} == before
    assert len(archive.rows()) == 1


@pytest.mark.storm
@pytest.mark.parametrize(
    ("rows", "code", "said"),
    [
        ([revision("testwiki", 1, 1), revision("testwiki", 1, 2, page_id=None)], "export-row-invalid", "1 rows have no page_id"),
        ([revision("testwiki", 1, 1), revision("testwiki", 1, 2, revision_dt=None)], "export-row-invalid", "1 rows have no revision_dt"),
        ([revision("../etc", 1, 1)], "export-row-invalid", "the wiki_id '../etc' is no database name"),
        ([revision("testwiki", 1, 1), revision("testwiki", 1, 1)], "export-row-twice", "the revision 1 of testwiki more than once"),
        ([revision("unknownwiki", 1, 1)], "export-site-unknown", "knows no name and namespaces of that wiki"),
        (later(some([1]), 60), "publish-nothing", "no revision from before 2026-02-01"),
    ],
)
def test_a_refused_row_leaves_the_earlier_publication_as_it_was(archive: Archive, rows: list[Any], code: str, said: str) -> None:
    archive.publish()
    before = {name: (archive.public / name).read_bytes() for name in archive.names()}
    archive.hold(rows)
    with pytest.raises(PlatformError, match=said) as refused:
        archive.publish()
    assert refused.value.code == code
    shown = {name: (archive.public / name).read_bytes() for name in archive.names() if not name.startswith(STAGING)}
    assert shown == before
    archive.hold(some([1, 2, 3]))
    archive.publish()
    assert {name: (archive.public / name).read_bytes() for name in archive.files()} == {n: d for n, d in before.items() if ".xml" in n}


@pytest.mark.parametrize(
    ("key", "code"), [("2026-04", "slice-future"), ("2025-12", "partition-unknown"), ("2026-02-01", "partition-unknown")]
)
def test_a_date_that_cannot_be_is_refused(archive: Archive, key: str, code: str) -> None:
    with pytest.raises(PlatformError) as refused:
        archive.publish(key)
    assert refused.value.code == code


@pytest.mark.storm
def test_old_dumps_are_taken_away(archive: Archive) -> None:
    archive.define(sla="slaProperties:\n  - {property: retention, value: 60, unit: d}\n")
    archive.publish("2026-02")
    archive.now += timedelta(days=40)
    archive.publish("2026-04")
    assert {name.split("/")[1] for name in archive.names()} == {"20260401"}
    with pytest.raises(PlatformError, match="past its retention"):
        archive.publish("2026-02")


@pytest.mark.storm
def test_another_products_folder_is_not_taken(archive: Archive) -> None:
    archive.publish()
    status = archive.public / FOLDER / "dumpstatus.json"
    status.write_text(json.dumps({**json.loads(status.read_text()), "product": "archive/other"}))
    with pytest.raises(PlatformError, match="where archive/other does") as refused:
        archive.publish()
    assert refused.value.code == "publish-folder-taken"


@pytest.mark.storm
def test_an_input_without_rows_is_told(tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="archive/revision, which archive/dump is made of, has no rows yet"):
        Archive(tmp_path).publish()


@pytest.mark.storm
def test_a_place_that_cannot_be_written_is_told(archive: Archive) -> None:
    archive.public.parent.mkdir(parents=True)
    archive.public.write_text("a file in the way")
    with pytest.raises(PlatformError) as refused:
        archive.publish()
    assert refused.value.code == "outlet-unwritable"


@pytest.mark.storm
def test_a_full_disk_leaves_nothing_half_written_and_the_next_run_goes_on(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    archive.define(server=SMALL)
    archive.hold([revision("testwiki", page, page, BIG) for page in range(1, 6)])
    sinks = []
    real = publishing.Packer.close

    def full(packer: Any) -> Any:
        sinks.append(packer)
        if len(sinks) == 2:
            raise PlatformError("outlet-full", "There is no room left.")
        return real(packer)

    monkeypatch.setattr(publishing.Packer, "close", full)
    with pytest.raises(PlatformError, match="no room left"):
        archive.publish()
    assert archive.files() == []
    assert not [name for name in archive.names() if "/." in name]
    monkeypatch.undo()
    assert archive.publish().kept == 1
    whole(archive)


@pytest.mark.storm
@pytest.mark.parametrize("moment", ["publish-after-file", "publish-before-reveal", "publish-after-status", "publish-after-move"])
def test_two_runs_at_once_the_older_ends_and_the_newer_publishes(archive: Archive, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """The newer begins and ends while the older is at work, has staged its rows, is about to show its files, or has shown them."""
    waiting = [moment]

    def begin(name: str) -> None:
        if name in waiting:
            waiting.remove(name)
            archive.hold(some([1, 2, 3, 4]))
            archive.publish(run_id="newer", anew=True)

    monkeypatch.setattr(publishing, "failpoint", begin)
    with pytest.raises(Fenced):
        archive.publishing(run_id="older").publish("2026-02")
    assert archive.rows() == [(f"{FOLDER}/testwiki-20260201-history-p1p4.xml.bz2",)]
    assert list(verified(archive)) == ["testwiki-20260201-history-p1p4.xml.bz2"]
    assert archive.files() == [f"{FOLDER}/testwiki-20260201-history-p1p4.xml.bz2"]
    assert json.loads((archive.public / FOLDER / "dumpstatus.json").read_text())["status"] == "done"


@pytest.mark.storm
def test_a_run_that_has_published_does_nothing_again(archive: Archive) -> None:
    archive.publish(run_id="same")
    assert archive.publishing(run_id="same").publish("2026-02") is None


@pytest.mark.storm
def test_what_is_due_is_the_newest_date_that_is_not_there(archive: Archive) -> None:
    _, contract, _ = archive.load()
    table = archive.lakehouse.table("archive.dump")
    assert due(contract, table, datetime(2025, 12, 31, tzinfo=UTC)) is None
    assert due(contract, table, archive.now) == "2026-03"
    archive.publish("2026-02")
    assert due(contract, archive.lakehouse.table("archive.dump"), archive.now) == "2026-03"
    archive.publish("2026-03")
    assert due(contract, archive.lakehouse.table("archive.dump"), archive.now) is None


# --- killed

PRELOAD = ["platform_resources.serving.publishing", "tests.serving.wikis"]
FEW = ["publish-after-move@2"]
ALL = [
    "publish-before-rename", "publish-after-plan", "publish-before-finish", "publish-before-finish@2", "publish-before-rename@2",
    "publish-before-facts", "publish-before-rename@3", "publish-after-file", "publish-after-file@3", "after-data-files",
    "publish-before-reveal", "publish-after-status", "publish-after-move", "publish-after-move@2", "publish-after-companion",
    "publish-after-companion@3", "publish-before-commit", "before-commit", "after-commit", "publish-after-commit",
]  # fmt: skip


def _publish(root: Path, failpoints: str) -> None:
    os.environ["SDP_FAILPOINTS"] = failpoints
    archive = Archive(root)
    archive.publish(run_id=f"run-{os.getpid()}")


def killed(root: Path, failpoints: str) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    process = context.Process(target=_publish, args=(root, failpoints))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL, failpoints


def survives(archive: Archive, point: str) -> None:
    """Killed there in place of an earlier dump: only whole files are seen, and the next run ends with what it should have ended with."""
    archive.define(server=SMALL)
    archive.hold([revision("testwiki", page, page, f"old {BIG}") for page in range(1, 4)])
    old = archive.publish().files
    archive.hold([revision("testwiki", page, page, f"new {BIG}") for page in range(1, 7)])
    killed(archive.root, point)
    whole(archive)
    shown = {name: archive.document(name) for name in archive.files()}
    if shown.keys() != {one.name for one in old} or any(b">new" in data for data in shown.values()):
        status = json.loads((archive.public / FOLDER / "dumpstatus.json").read_text())
        assert status["status"] == "in-progress" or len(verified(archive)) == 3
    published = archive.publish()
    assert len(published.files) == 3
    assert all(b">new" in archive.document(name) for name in archive.files())
    assert list(verified(archive)) == [name.rpartition("/")[2] for name in archive.files()]
    assert [row[0] for row in archive.rows()] == archive.files()
    assert not [name for name in archive.names() if name.startswith(".")]


@pytest.mark.parametrize("point", FEW)
def test_killed_at_the_worst_moments(archive: Archive, point: str) -> None:
    survives(archive, point)


@pytest.mark.storm
@pytest.mark.parametrize("point", [point for point in ALL if point not in FEW])
def test_killed_at_any_moment(archive: Archive, point: str) -> None:
    survives(archive, point)


def test_a_killed_run_is_taken_up_from_its_own_snapshot_and_finished_files_are_not_written_again(archive: Archive) -> None:
    archive.define(server=SMALL)
    archive.hold([revision("testwiki", page, page, f"old {BIG}") for page in range(1, 7)])
    killed(archive.root, "publish-after-file@2")
    staged = [path for path in (archive.public / STAGING).rglob("*.bz2") if not path.name.startswith(".")]
    assert len(staged) == 2
    archive.hold([revision("testwiki", page, page, f"new {BIG}") for page in range(1, 7)])
    inode = staged[0].stat().st_ino
    published = archive.publish()
    assert published.kept == 2
    assert all(b">old" in archive.document(name) for name in archive.files())
    assert inode in {(archive.public / name).stat().st_ino for name in archive.files()}


@pytest.mark.storm
def test_a_finished_file_that_is_no_longer_what_it_was_is_written_again(archive: Archive) -> None:
    archive.define(server=SMALL)
    archive.hold([revision("testwiki", page, page, BIG) for page in range(1, 7)])
    killed(archive.root, "publish-after-file@2")
    first, _ = sorted(path for path in (archive.public / STAGING).rglob("*.bz2"))
    first.write_bytes(first.read_bytes()[:-1])
    assert archive.publish().kept == 1
    assert len(verified(archive)) == 3
    whole(archive)


@pytest.mark.storm
@pytest.mark.parametrize("change", ["code", "anew"])
def test_what_other_code_or_another_wish_left_is_not_taken_up(archive: Archive, change: str) -> None:
    archive.define(server=SMALL)
    archive.hold([revision("testwiki", page, page, f"old {BIG}") for page in range(1, 7)])
    killed(archive.root, "publish-after-file@2")
    archive.hold([revision("testwiki", page, page, f"new {BIG}") for page in range(1, 7)])
    if change == "code":
        archive.define(server=SMALL, sql=SQL + "where true\n")
    published = archive.publish(anew=change == "anew")
    assert published.kept == 0
    assert all(b">new" in archive.document(name) for name in archive.files())


def test_every_crash_point_is_tried() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in Path(publishing.__file__).parent.glob("*.py"))
    import re

    assert set(re.findall(r'failpoint\("([^"]+)"\)', source)) <= {point.partition("@")[0] for point in ALL}

"""Files that are dropped: which are taken, when they are whole, what tells a new content from an old one."""

from __future__ import annotations

import bz2
import gzip
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import zstandard
from pyiceberg.types import LongType, StringType

from platform_resources.config import Settings
from platform_resources.contracts.model import Column, Contract, SourceSpec
from platform_resources.contracts.slices import Slices
from platform_resources.contracts.sources import Complete, Dialect, FilesOptions
from platform_resources.errors import PlatformError
from platform_resources.landing import files
from platform_resources.landing.files import DatedPath, FileSource
from platform_resources.landing.source import Delivery, DeliveryRefused

NOW = Complete(timedelta(0))
COLUMNS = (Column("a", LongType()), Column("b", StringType()))


def contract(path: str = "*", slices: Slices | None = None, columns: tuple[Column, ...] = COLUMNS, **options: Any) -> Contract:
    chosen = FilesOptions(**{"complete": NOW, **options})
    source = SourceSpec("files", path=path, options=chosen, slices=slices)
    return Contract("shop", "drop", Path("drop.yaml"), "1.0.0", "active", "", columns, source=source)


@pytest.fixture
def drop(settings: Settings) -> Path:
    folder = settings.drop_path / "shop"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def source(settings: Settings) -> Callable[..., FileSource]:
    return lambda *given, **options: FileSource(contract(*given, **options), settings)


def rows(source: FileSource, delivery: Delivery) -> list[dict[str, Any]]:
    return [row for block in source.read(delivery) for row in block.rows.to_pylist()]


def names(source: FileSource, landed: dict[str, str] | None = None) -> list[str]:
    return [delivery.name for delivery in source.pending(landed or {})]


def test_a_file_is_pending_until_it_landed_and_again_when_its_content_changes(drop: Path, source: Callable[..., FileSource]) -> None:
    (drop / "a.csv").write_text("a,b\n1,x\n")
    one = source("*.csv")
    [delivery] = one.pending({})
    assert (delivery.name, delivery.slice, delivery.bytes) == ("a.csv", None, 8)
    assert rows(one, delivery) == [{"a": 1, "b": "x"}]
    landed = one.reached(delivery)
    assert not one.pending(landed)
    os.utime(drop / "a.csv", (0, 0))
    (drop / "a.csv").rename(drop / "b.tmp")
    (drop / "b.tmp").rename(drop / "a.csv")
    assert not one.pending(landed)
    seen = (drop / "a.csv").stat()
    (drop / "a.csv").write_text("a,b\n2,x\n")  # as long, and as old as anybody can make it
    os.utime(drop / "a.csv", ns=(seen.st_atime_ns, seen.st_mtime_ns))
    [again] = one.pending(landed)
    assert again.version != delivery.version
    assert rows(one, again) == [{"a": 2, "b": "x"}]


def test_hashes_are_remembered_and_forgotten_without_harm(
    drop: Path, source: Callable[..., FileSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_CLOCK_STEP", timedelta(0))
    (drop / "a.csv").write_text("a,b\n1,x\n")
    time.sleep(0.02)
    [delivery] = source().pending({})
    read: list[str] = []
    usual = files.Hashed.finish
    monkeypatch.setattr(files.Hashed, "finish", lambda self: read.append("read") or usual(self))
    assert source().pending({}) == [delivery]
    assert not read
    cache = next((drop.parent.parent / "landing").iterdir())
    for text in ("", "{", '{"a.csv": ["other", "0000"]}'):
        cache.write_text(text)
        assert source().pending({}) == [delivery]
    assert len(read) == 3


def test_a_touched_clock_hides_no_change(drop: Path, source: Callable[..., FileSource], monkeypatch: pytest.MonkeyPatch) -> None:
    """Same size, same inode, same mtime, and the hash of the content before is remembered."""
    monkeypatch.setattr(files, "_CLOCK_STEP", timedelta(0))
    (drop / "a.csv").write_text("a,b\n1,x\n")
    time.sleep(0.02)
    [before], seen = source().pending({}), (drop / "a.csv").stat()
    (drop / "a.csv").write_text("a,b\n2,x\n")
    os.utime(drop / "a.csv", ns=(seen.st_atime_ns, seen.st_mtime_ns))
    [after] = source().pending({})
    assert after.version != before.version


def test_a_file_that_changes_while_it_is_hashed_waits(
    drop: Path, source: Callable[..., FileSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    (drop / "a.csv").write_text("a,b\n1,")
    usual = files.Hashed.finish

    def slowly(hashed: files.Hashed) -> str:
        version = usual(hashed)
        (drop / "a.csv").write_text("a,b\n1,x\n")
        return version

    monkeypatch.setattr(files.Hashed, "finish", slowly)
    assert not source().pending({})


def test_a_content_hashed_within_a_step_of_the_clock_is_not_remembered(drop: Path, source: Callable[..., FileSource]) -> None:
    (drop / "a.csv").write_text("a,b\n1,x\n")
    source().pending({})
    assert not (drop.parent.parent / "landing").exists()


@pytest.mark.parametrize("name", ["a.csv.tmp", "a.csv.part", ".a.csv", "_SUCCESS", "_tmp/a.csv", ".hidden/a.csv", "a.csv~"])
def test_unfinished_names_are_no_files(drop: Path, source: Callable[..., FileSource], name: str) -> None:
    (drop / name).parent.mkdir(exist_ok=True)
    (drop / name).write_text("a,b\n1,x\n")
    assert not names(source("**/*")) and not names(source("**"))


def test_a_file_settles_before_it_is_read(drop: Path, source: Callable[..., FileSource]) -> None:
    (drop / "a.csv").write_text("a,b\n1,")
    os.utime(drop / "a.csv", (0, 0))  # an old mtime says nothing: copies keep it
    assert not names(source(complete=Complete(timedelta(seconds=30))))
    settled = source(complete=Complete(timedelta(seconds=0.2)))
    assert not names(settled)
    time.sleep(0.25)
    assert names(settled) == ["a.csv"]


def test_a_marker_says_that_a_file_is_whole(drop: Path, source: Callable[..., FileSource]) -> None:
    one = source("**/*.csv", complete=Complete(timedelta(0), "{name}.done"))
    (drop / "a[1].csv").write_text("a,b\n1,x\n")
    (drop / "a1.csv.done").touch()
    assert not names(one)
    (drop / "a[1].csv.done").touch()
    assert names(one) == ["a[1].csv"]
    later = time.time() + 5
    os.utime(drop / "a[1].csv", (later, later))  # written again: the marker is of what was there before
    assert not names(one)
    (drop / "done-b.csv").touch()
    (drop / "b.csv").write_text("a,b\n1,x\n")
    os.utime(drop / "done-b.csv", (later, later))
    assert names(source("*.csv", complete=Complete(timedelta(0), "done-{name}"))) == ["b.csv"]
    per_folder = source("*/*.csv", complete=Complete(timedelta(0), "_SUCCESS"))
    (drop / "day").mkdir()
    (drop / "day" / "a.csv").write_text("a,b\n1,x\n")
    assert not names(per_folder)
    (drop / "day" / "_SUCCESS").touch()
    assert names(per_folder) == ["day/a.csv"]
    os.utime(drop / "day" / "a.csv", (later, later))
    assert not names(per_folder)
    assert not names(source("*", complete=Complete(timedelta(0), "{name}.done")), {})


def test_slices_come_from_the_path_oldest_first(drop: Path, source: Callable[..., FileSource]) -> None:
    for name in ("2026-01-02/b.csv", "2026-01-01/c.csv", "2026-01-01/a.csv", "2025-12-31/a.csv", "2026-02-30/a.csv", "x/a.csv"):
        (drop / name).parent.mkdir(exist_ok=True)
        (drop / name).write_text("a,b\n1,x\n")
    daily = Slices("daily", datetime(2026, 1, 1, tzinfo=UTC))
    found = source("{slice:%Y-%m-%d}/*.csv", daily).pending({})
    assert [(one.name, one.slice) for one in found] == [
        ("2026-01-01/a.csv", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01/c.csv", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-02/b.csv", datetime(2026, 1, 2, tzinfo=UTC)),
    ]


@pytest.mark.parametrize(
    ("path", "name", "start"),
    [
        ("{slice:%Y}/{slice:%m}/x-{slice:%Y-%m-%d}.tsv.gz", "2026/03/x-2026-03-04.tsv.gz", datetime(2026, 3, 4)),
        ("{slice:%Y}/{slice:%m}/x-{slice:%Y-%m-%d}.tsv.gz", "2026/04/x-2026-03-04.tsv.gz", None),
        ("p-{slice:%Y%m%d-%H}0000.gz", "p-20260304-050000.gz", datetime(2026, 3, 4, 5)),
        ("{slice:%G-W%V}.csv", "2026-W02.csv", datetime(2026, 1, 5)),
        ("{slice:%Y%j}.csv", "2026032.csv", datetime(2026, 2, 1)),
        ("**/x-{slice:%Y}.csv", "x-2026.csv", datetime(2026, 1, 1)),
        ("**/x-{slice:%Y}.csv", "a/b/x-2026.csv", datetime(2026, 1, 1)),
        ("a.b-{slice:%Y}?[0-9].csv", "aXb-2026_1.csv", None),
        ("a.b-{slice:%Y}?[!0-9].csv", "a.b-2026_x.csv", datetime(2026, 1, 1)),
        ("*-{slice:%Y}.csv", "a/b-2026.csv", None),
    ],
)
def test_a_dated_path_names_slices(path: str, name: str, start: datetime | None) -> None:
    expected = (False, None) if start is None else (True, start.replace(tzinfo=UTC))
    assert DatedPath(path).match(name) == expected


def test_a_path_stays_below_its_connection() -> None:
    for path in ("../x", "/etc/passwd", "a/../../b"):
        with pytest.raises(PlatformError, match="leads out"):
            DatedPath(path)


def test_a_path_lists_only_the_folder_it_names(drop: Path) -> None:
    assert DatedPath("a/b/x-*.csv").folder == "a/b/"
    assert DatedPath("x-*.csv").folder == ""
    assert DatedPath("a/{slice:%Y}/x.csv").folder == "a/"


PACKED: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": (".gz", gzip.compress),
    "bzip2": (".bz2", bz2.compress),
    "zstd": (".zst", lambda data: zstandard.ZstdCompressor(write_checksum=True).compress(data)),
}


@pytest.mark.parametrize("compression", PACKED)
def test_packed_files_are_read_member_by_member(drop: Path, source: Callable[..., FileSource], compression: str) -> None:
    suffix, pack = PACKED[compression]
    data = "a,b\n" + "".join(f"{n},x{n}\n" for n in range(100_000))
    parts = [data[:7], "", data[7:500_000], data[500_000:]]
    (drop / f"a.csv{suffix}").write_bytes(b"".join(pack(part.encode()) for part in parts))
    [delivery] = source().pending({})
    assert [row["a"] for row in rows(source(), delivery)] == list(range(100_000))


@pytest.mark.parametrize("compression", PACKED)
@pytest.mark.parametrize("harm", ["cut", "cut in second", "flipped", "plain", "followed"])
def test_a_damaged_file_is_refused_whole(drop: Path, source: Callable[..., FileSource], compression: str, harm: str) -> None:
    suffix, pack = PACKED[compression]
    data = ("a,b\n" + "".join(f"{n},x{n * 7919 % 1000}\n" for n in range(20_000))).encode()
    good = pack(data)
    bad = {
        "cut": good[:-1],
        "cut in second": good + pack(data[4:])[:-3],
        "flipped": good[: len(good) // 2] + bytes([good[len(good) // 2] ^ 0x10]) + good[len(good) // 2 + 1 :],
        "plain": data,
        "followed": good + b"more and more of it",
    }[harm]
    (drop / f"a.csv{suffix}").write_bytes(bad)
    [delivery] = source().pending({})
    with pytest.raises(DeliveryRefused) as error:
        rows(source(), delivery)
    assert error.value.code == "file-damaged"
    assert f"a.csv{suffix} cannot be decompressed as {compression}" in error.value.message
    if harm.startswith("cut"):
        assert "its end is missing" in error.value.message


def test_a_file_that_changes_while_it_is_read_is_refused_for_now(drop: Path, source: Callable[..., FileSource]) -> None:
    text = "a,b\n" + "1,x\n" * 3_000_000
    (drop / "a.csv").write_text(text)
    one = source()
    [delivery] = one.pending({})
    blocks = one.read(delivery)
    next(blocks)
    with (drop / "a.csv").open("a") as file:
        file.write("2,y\n")
    with pytest.raises(DeliveryRefused, match="changed while it was read") as error:
        list(blocks)
    assert error.value.code == "file-changed"
    [again] = one.pending({})
    assert again.version != delivery.version


def test_what_is_no_format_is_told(drop: Path, source: Callable[..., FileSource]) -> None:
    (drop / "a.dat").write_text("a,b\n1,x\n")
    [delivery] = source().pending({})
    with pytest.raises(DeliveryRefused, match="Nothing tells the format"):
        rows(source(), delivery)
    assert rows(source(format="csv"), delivery) == [{"a": 1, "b": "x"}]


def test_encoding_and_dialect_are_the_contracts(drop: Path, source: Callable[..., FileSource]) -> None:
    (drop / "a.tsv").write_bytes("a;b\n1;é\n".encode("latin-1"))
    one = source(encoding="iso8859-1", dialect=Dialect(delimiter=";"))
    assert rows(one, one.pending({})[0]) == [{"a": 1, "b": "é"}]


def test_a_drop_folder_may_come_later_but_a_connections_folder_must_be_there(settings: Settings, tmp_path: Path) -> None:
    assert not FileSource(contract(), settings).pending({})
    gone = Settings(home=settings.home, connections={"shop": str(tmp_path / "gone")})
    with pytest.raises(PlatformError) as error:
        FileSource(contract(), gone).pending({})
    assert error.value.code == "source-unreachable"
    with pytest.raises(PlatformError, match="cannot be read from a connection whose address begins with http"):
        FileSource(contract(), Settings(home=settings.home, connections={"shop": "http://localhost/x"}))


def test_a_file_that_went_away_is_told(drop: Path, source: Callable[..., FileSource]) -> None:
    with pytest.raises(PlatformError) as error:
        rows(source(), Delivery("gone.csv", "0"))
    assert error.value.code == "source-unreachable"

"""Files that a team drops: which of those lying there a product takes, when one is whole, what tells one content from another.

How a format is read is its own module's. Nothing is kept but a cache of hashes under SDP_HOME/landing, which may be lost at any time.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from platform_resources.config import Settings
from platform_resources.contracts.model import Contract
from platform_resources.contracts.sources import Complete, FilesOptions, SqlDumpOptions, XmlDumpOptions, compression_of, format_of
from platform_resources.errors import PlatformError
from platform_resources.landing.compression import decompressed
from platform_resources.landing.connections import address_of, connection_name
from platform_resources.landing.encoding import as_utf8
from platform_resources.landing.places import Found, Place, place_at
from platform_resources.landing.pulled import Pulled
from platform_resources.landing.source import Block, Delivery, DeliveryRefused, Landed

_CHUNK = 1 << 20
LOOK_BYTES = 256 << 20
"""What is hashed at most where somebody only looks: a sensor has a minute for all products of its location."""
_VERSION_DIGITS = 16
_UNFINISHED = (".tmp", ".part", ".partial", ".filepart", ".crdownload", "~")
# A file system's clock may stand still for as long: a change within it has the same times as the content that was hashed.
_CLOCK_STEP = timedelta(seconds=2)
_PIECES = re.compile(r"\{slice:([^{}]*)\}|(\*\*/?)|(\*)|(\?)|(\[[^\]/]+\])|([^{}*?\[]+|.)", re.DOTALL)
_WIDTHS = {"Y": 4, "G": 4, "j": 3}  # of strftime's directives in a dated path; the others have two digits


class FileSource:
    """The files of one contract's connection and path, for every kind of source that comes as files.

    Args:
        contract, settings: what is read, and where from.
        looking: only whether something is pending is asked. Of big files that are new or changed the version is then empty, since
            telling it takes reading them; a landing reads them, and finds what was only touched.

    Raises:
        PlatformError: `connection-unknown`, `connection-unfit`.
    """

    def __init__(self, contract: Contract, settings: Settings, *, looking: bool = False) -> None:
        source = contract.source
        assert source is not None  # noqa: S101 - opened for sources only
        if not isinstance(source.options, FilesOptions | XmlDumpOptions | SqlDumpOptions):
            raise TypeError(f"{contract.key} comes from no files")
        self._contract, self._options, self._slices = contract, source.options, source.slices
        self._path = DatedPath(source.path or "*")
        may_lack = settings.connection(connection_name(contract)) is None  # the drop folder comes with its first file
        self._place = place_at(address_of(contract, settings), settings, may_lack=may_lack)
        self._looking = looking
        self._hashes = Hashes(settings.home / "landing" / f"{contract.identifier}.json")

    def pending(self, landed: Landed) -> Sequence[Delivery]:
        """The files that are whole, and whose content is not what landed under their name.

        One whose name is no text, or that may not be read, is a delivery too, so that it is refused by itself.
        """
        deliveries, left = [], LOOK_BYTES
        with self._hashes:
            for found, start in self._ready():
                version: str | None = ""
                if (unfit := _unfit(found)) is not None:
                    deliveries.append(Delivery(unfit, found.signature, start, found.size, found.changed))
                    continue
                try:
                    if not self._looking or self._hashes.knows(found):
                        version = self._hashes.version(self._place, found)
                    elif found.size <= left:
                        version, left = self._hashes.version(self._place, found), left - found.size
                except DeliveryRefused:
                    version = found.signature
                if version is not None and landed.get(found.name) != version:
                    deliveries.append(Delivery(found.name, version, start, found.size, found.changed))
        return sorted(deliveries, key=lambda one: (one.slice or datetime.min.replace(tzinfo=UTC), one.name))

    def read(self, delivery: Delivery) -> Iterator[Block]:
        """The file's rows, with its hash verified while it is read."""
        if "\\x" in delivery.name and self._place.found(delivery.name) is None:
            raise DeliveryRefused(
                "file-name", f"The name of the file {delivery.name} is no UTF-8 text.", "Put it there under another name."
            )
        with self._place.open(delivery.name) as raw:
            hashed = Hashed(raw)
            try:
                yield from self._blocks(io.BufferedReader(hashed, _CHUNK), delivery)
            except OSError as error:
                raise PlatformError(
                    "source-unreachable",
                    f"The file {delivery.name} can no longer be read: {error}.",
                    "It is tried again; see that its place can be reached.",
                ) from None
            if hashed.finish() != delivery.version:
                raise DeliveryRefused(
                    "file-changed", f"The file {delivery.name} changed while it was read.", "It is read again when it is whole."
                )

    def reached(self, delivery: Delivery) -> Landed:
        """The file's name and version."""
        return {delivery.name: delivery.version}

    def slice_of(self, name: str) -> datetime | None:
        """The slice that a file of that name belongs to; None without slices."""
        _, start = self._path.match(name)
        return None if self._slices is None or start is None else self._slices.floor(start)

    def _ready(self) -> Iterator[tuple[Found, datetime | None]]:
        """The files of the path that are whole, each with the start of its slice."""
        listed = list(self._place.listing(self._path.folder))
        names = {found.name: found for found in listed}
        now = datetime.now(UTC)
        for found in listed:
            matched, start = self._path.match(found.name)
            if not matched or is_unfinished(found.name) or not is_complete(found, self._options.complete, names, now):
                continue
            if self._slices is not None and start is not None:
                start = self._slices.floor(start)
                if start < self._slices.start:
                    continue
            yield found, start

    def _blocks(self, raw: BinaryIO, delivery: Delivery) -> Iterator[Block]:
        """The rows by the kind of source and the file's format."""
        name, contract, options = delivery.name, self._contract, self._options
        content = decompressed(raw, compression_of(options.compression, name), name)
        if isinstance(options, XmlDumpOptions):
            from platform_resources.landing import xml_dump

            return xml_dump.read(content, delivery, contract)
        if isinstance(options, SqlDumpOptions):
            from platform_resources.landing import sql_dump

            return sql_dump.read(content, delivery, contract)
        return _READERS[_format(options, name)](content, delivery, contract, options)


def _format(options: FilesOptions, name: str) -> str:
    found = format_of(options, name)
    if found is None:
        raise DeliveryRefused(
            "file-format",
            f"Nothing tells the format of {name}.",
            "Add `format` (csv, tsv, ndjson, json or parquet) to the contract's server.",
        )
    return found


def _delimited(delimiter: str) -> Callable[[BinaryIO, Delivery, Contract, FilesOptions], Iterator[Block]]:
    def read(content: BinaryIO, delivery: Delivery, contract: Contract, options: FilesOptions) -> Iterator[Block]:
        from platform_resources.landing import delimited

        text = as_utf8(content, options.encoding, delivery.name)
        return delimited.read(text, delivery, contract, options.dialect, delimiter)

    return read


def _ndjson(content: BinaryIO, delivery: Delivery, contract: Contract, options: FilesOptions) -> Iterator[Block]:
    from platform_resources.landing import json_records

    return json_records.read_lines(as_utf8(content, options.encoding, delivery.name), delivery, contract)


def _json(content: BinaryIO, delivery: Delivery, contract: Contract, options: FilesOptions) -> Iterator[Block]:
    from platform_resources.landing import json_records

    return json_records.read_list(as_utf8(content, options.encoding, delivery.name), delivery, contract, options.records)


def _parquet(content: BinaryIO, delivery: Delivery, contract: Contract, options: FilesOptions) -> Iterator[Block]:
    """Read from a copy that nobody else writes: Parquet is read from its end, and is hashed from its beginning."""
    from platform_resources.landing import parquet_files

    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(content, copy, _CHUNK)
        copy.seek(0)
        yield from parquet_files.read(copy, delivery, contract)


_READERS: Mapping[str, Callable[[BinaryIO, Delivery, Contract, FilesOptions], Iterator[Block]]] = {
    "csv": _delimited(","),
    "tsv": _delimited("\t"),
    "ndjson": _ndjson,
    "json": _json,
    "parquet": _parquet,
}


def is_complete(found: Found, complete: Complete, names: Mapping[str, Found], now: datetime) -> bool:
    """Whether a file is whole, as the contract tells it.

    A marker counts for what was written before it, so that a corrected file waits for a marker of its own. An object is whole as soon as
    it is there.
    """
    if complete.marker is None:
        return found.whole or now - found.changed >= complete.settled
    folder, slash, own = found.name.rpartition("/")
    before, placeholder, behind = complete.marker.partition("{name}")
    if placeholder and (before or behind) and own.startswith(before) and own.endswith(behind):
        return False  # a marker itself
    marker = names.get(f"{folder}{slash}{complete.marker.replace('{name}', own)}")
    return marker is not None and marker.written >= found.written


def _unfit(found: Found) -> str | None:
    """A name that is no text, as it can be told; None of any other."""
    try:
        found.name.encode()
    except UnicodeEncodeError:
        return found.name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return None


def is_unfinished(name: str) -> bool:
    """Whether a name says that its file is no data, or none yet: hidden, a marker, a writer's temporary name."""
    parts = name.split("/")
    return any(part.startswith((".", "_")) for part in parts) or parts[-1].lower().endswith(_UNFINISHED)


class DatedPath:
    """A contract's `path`: `*`, `?`, `[...]` within a folder, `**/` over folders, and `{slice:%Y-%m-%d}` for the slice's start.

    `folder` is where all of its files lie, ending with `/`, or empty.
    """

    def __init__(self, path: str) -> None:
        if path.startswith("/") or ".." in path.split("/"):
            raise PlatformError(
                "contract-path", f"The path {path} leads out of its connection.", "Give one below the connection's root, without `..`."
            )
        literal = re.split(r"[{*?\[]", path, maxsplit=1)[0]
        self.folder = literal[: literal.rfind("/") + 1]
        self._directives: list[str] = []
        self._regex = re.compile("".join(map(self._piece, _PIECES.finditer(path))))

    def match(self, name: str) -> tuple[bool, datetime | None]:
        """Whether the path means a name, and the moment that its placeholders name; placeholders that disagree mean no file."""
        match = self._regex.fullmatch(name)
        if match is None:
            return False, None
        values = dict(zip(self._directives, match.groups(), strict=True))
        if not values:
            return True, None
        if any(values[directive] != text for directive, text in zip(self._directives, match.groups(), strict=True)):
            return False, None
        if "V" in values:
            values["u"] = "1"
        try:
            moment = datetime.strptime(" ".join(values.values()), " ".join(f"%{directive}" for directive in values))
        except ValueError:
            return False, None
        return True, moment.replace(tzinfo=UTC)

    def _piece(self, piece: re.Match[str]) -> str:
        dated, deep, star, one, some, text = piece.groups()
        if dated is not None:
            return re.sub(r"%(.)|([^%]+)", self._directive, dated)
        if deep is not None:
            return "(?:[^/]+/)*" if deep.endswith("/") else ".*"
        if star is not None:
            return "[^/]*"
        if one is not None:
            return "[^/]"
        if some is not None:
            return "[" + some[1:-1].replace("\\", "\\\\").replace("!", "^", some[1] == "!") + "]"
        return re.escape(text)

    def _directive(self, match: re.Match[str]) -> str:
        if match[1] is None:
            return re.escape(match[2])
        self._directives.append(match[1])
        return rf"(\d{{{_WIDTHS.get(match[1], 2)}}})"


class Hashed(Pulled):
    """A file that is hashed as it is read."""

    def __init__(self, raw: BinaryIO) -> None:
        super().__init__()
        self._raw, self._hash = raw, hashlib.sha256()

    def pull(self, size: int) -> bytes:
        """The next bytes of the file."""
        data = self._raw.read(size)
        self._hash.update(data)
        return data

    def finish(self) -> str:
        """The version of the whole file, read to its end."""
        while data := self._raw.read(_CHUNK):
            self._hash.update(data)
        return self._hash.hexdigest()[:_VERSION_DIGITS]


@dataclass
class Hashes:
    """Versions of files by their signatures, kept in one file while this is entered and left; nothing depends on it but time."""

    file: Path

    def __enter__(self) -> Hashes:
        try:
            self._known: dict[str, list[str]] = json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self._known = {}
        self._seen: dict[str, list[str]] = {}
        return self

    def __exit__(self, *_: object) -> None:
        if self._seen != self._known:
            with suppress(OSError):
                self.file.parent.mkdir(parents=True, exist_ok=True)
                fresh = self.file.with_name(f"{self.file.name}.{os.getpid()}.tmp")
                fresh.write_text(json.dumps(self._seen), encoding="utf-8")
                fresh.replace(self.file)

    def knows(self, found: Found) -> bool:
        """Whether the version of a file can be told without reading it."""
        return self._known.get(found.name, [None])[0] == found.signature

    def version(self, place: Place, found: Found) -> str | None:
        """The version of a file's content, read unless its signature is known; None when it changed meanwhile."""
        known = self._known.get(found.name)
        if known is not None and known[0] == found.signature:
            self._seen[found.name] = known
            return known[1]
        begun = datetime.now(UTC)
        try:
            with place.open(found.name) as raw:
                version = Hashed(raw).finish()
        except (PlatformError, OSError):
            if place.found(found.name) is None:
                return None  # gone meanwhile
            raise
        after = place.found(found.name)
        if after is None or after.signature != found.signature:
            return None
        if begun - found.changed > _CLOCK_STEP:
            self._seen[found.name] = [found.signature, version]
        return version

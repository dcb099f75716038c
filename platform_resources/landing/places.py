"""Where files lie: a folder, or a prefix of an object store. What is there, told apart by signs that touching does not forge, and bytes.

Which of the files a product takes, and when, is `files`'s.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from platform_resources.config import Settings
from platform_resources.errors import PlatformError
from platform_resources.landing.pulled import Pulled
from platform_resources.landing.source import DeliveryRefused
from platform_resources.object_store import ObjectStore


@dataclass(frozen=True, slots=True)
class Found:
    """One file.

    Attributes:
        name: below the root, with `/`.
        size: bytes.
        changed: when the store last saw it change, UTC: a folder's ctime, which no program can set.
        written: when its content says it was written: mtime.
        signature: two contents never share it: size, both times and inode of a file; ETag, size and time of an object.
        whole: whether it is known to be complete, as objects are, which appear all at once.
    """

    name: str
    size: int
    changed: datetime
    written: datetime
    signature: str
    whole: bool = False


class Place(Protocol):
    """A root with files below it."""

    def listing(self, prefix: str) -> Iterator[Found]:
        """The files whose names begin with the prefix (whole folders: it ends with `/` or is empty), in no order.

        Raises:
            PlatformError: `source-unreachable`.
        """
        ...

    def open(self, name: str) -> BinaryIO:
        """The file's bytes, to be read forwards; a folder's can be sought in.

        Raises:
            DeliveryRefused: `file-unreadable`.
            PlatformError: `source-unreachable`.
        """
        ...

    def found(self, name: str) -> Found | None:
        """The file as it is now; None when it is gone."""
        ...


def place_at(address: str, settings: Settings, *, may_lack: bool) -> Place:
    """The place at a connection's address: a path, file:// or s3://bucket/prefix.

    Args:
        address: where.
        settings: how an object store is reached.
        may_lack: whether a folder that does not exist is empty, rather than unreachable.

    Raises:
        PlatformError: `connection-unfit`.
    """
    scheme = urlsplit(address).scheme
    if scheme in ("s3", "s3a"):
        parts = urlsplit(address)
        return Bucket(settings.connected_store, parts.netloc, parts.path.strip("/"))
    if scheme == "file" or address.startswith("/"):
        return Folder(Path(unquote(urlsplit(address).path) if scheme == "file" else address), may_lack=may_lack)
    raise PlatformError(
        "connection-unfit",
        f"Files cannot be read from a connection whose address begins with {scheme or 'no scheme'}.",
        "Set it in SDP_CONNECTIONS to a folder (/path or file:///path) or s3://bucket/prefix.",
    )


class Folder:
    """A folder of this machine, mounted ones too."""

    def __init__(self, root: Path, *, may_lack: bool = False) -> None:
        self._root, self._may_lack = root, may_lack

    def listing(self, prefix: str) -> Iterator[Found]:
        """The regular files below, links followed to files only."""
        if not self._root.is_dir():
            if self._may_lack:
                return
            raise _unreachable(str(self._root), "it is no folder")
        for folder, _, names in os.walk(self._root / prefix):
            for name in names:
                found = self._found(Path(folder) / name)
                if found is not None:
                    yield found

    def open(self, name: str) -> BinaryIO:
        """The file, seekable."""
        try:
            return (self._root / name).open("rb")
        except PermissionError:
            raise DeliveryRefused(
                "file-unreadable", f"The file {name} may not be read by this account.", "Give it the right to read, as the others have."
            ) from None
        except OSError as error:
            raise _unreachable(str(self._root / name), error.strerror or str(error)) from None

    def found(self, name: str) -> Found | None:
        """The file as it is now."""
        return self._found(self._root / name)

    def _found(self, path: Path) -> Found | None:
        try:
            seen = path.stat()
        except OSError:  # gone, or a link to nowhere
            return None
        if not stat.S_ISREG(seen.st_mode):
            return None
        signature = f"{seen.st_size}-{seen.st_mtime_ns}-{seen.st_ctime_ns}-{seen.st_ino}"
        changed, written = (datetime.fromtimestamp(at, UTC) for at in (seen.st_ctime, seen.st_mtime))
        return Found(path.relative_to(self._root).as_posix(), seen.st_size, changed, written, signature)


class Bucket:
    """A prefix of an object store with the S3 API."""

    def __init__(self, store: ObjectStore, bucket: str, prefix: str) -> None:
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""
        self._client: Any = store.boto3()

    def listing(self, prefix: str) -> Iterator[Found]:
        """The objects below."""
        with _told(self._address(prefix)):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix + prefix)
            for page in pages:
                for entry in page.get("Contents", ()):
                    if not entry["Key"].endswith("/"):
                        yield self._found(entry["Key"], entry["ETag"], entry["Size"], entry["LastModified"])

    def open(self, name: str) -> BinaryIO:
        """The object as it is streamed."""
        with _told(self._address(name)):
            body = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)["Body"]
        return io.BufferedReader(_Body(body, self._address(name)), 1 << 20)

    def found(self, name: str) -> Found | None:
        """The object as it is now."""
        from botocore.exceptions import ClientError

        with _told(self._address(name)):
            try:
                head = self._client.head_object(Bucket=self._bucket, Key=self._prefix + name)
            except ClientError as error:
                if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404:
                    return None
                raise
            return self._found(self._prefix + name, head["ETag"], head["ContentLength"], head["LastModified"])

    def _found(self, key: str, tag: str, size: int, at: datetime) -> Found:
        at = at.astimezone(UTC)
        signature = f"{tag.strip(chr(34))}-{size}-{at.isoformat(timespec='seconds')}"
        return Found(key.removeprefix(self._prefix), size, at, at, signature, whole=True)

    def _address(self, name: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}{name}"


class _Body(Pulled):
    """An object's bytes as they come over the wire, which may break."""

    def __init__(self, body: Any, address: str) -> None:
        super().__init__()
        self._body, self._address = body, address

    def pull(self, size: int) -> bytes:
        with _told(self._address):
            data: bytes = self._body.read(size)
            return data

    def close(self) -> None:
        self._body.close()
        super().close()


@contextmanager
def _told(address: str) -> Iterator[None]:
    """What a client of the store raises, as a sentence."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise _unreachable(address, str(error)) from None


def _unreachable(address: str, reason: str) -> PlatformError:
    return PlatformError(
        "source-unreachable",
        f"Files at {address} cannot be read: {reason.strip().rstrip('.')}.",
        "See that the place is there and may be read, or correct the connection in SDP_CONNECTIONS.",
    )

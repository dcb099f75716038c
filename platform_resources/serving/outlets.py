"""Public places that files are published in: a folder, or a prefix of an object store. A file is there whole or not at all.

In a folder it is written under another name of the same file system and renamed; an object appears when its upload is completed. What
is written, and in which order it is shown, is `publishing`'s.
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from urllib.parse import unquote, urlsplit

from platform_resources.config import Settings
from platform_resources.contracts.model import Contract
from platform_resources.errors import PlatformError
from platform_resources.failpoints import failpoint
from platform_resources.object_store import ObjectStore

STAGING = ".publishing/"  # what is not shown yet lies under this prefix of the root
_PART = 16 * 2**20  # bytes of an object that memory holds; S3 takes 10,000 parts, so objects of 160 GB
_COPIED_AT_ONCE = 5 * 2**30  # S3 copies no more in one request


class Sink(Protocol):
    """A file that comes to be: nobody sees it before `finish`."""

    def write(self, data: bytes) -> None:
        """Add bytes."""
        ...

    def finish(self) -> None:
        """Let it be there, in place of one of its name."""
        ...

    def abandon(self) -> None:
        """Leave nothing of it."""
        ...


class Outlet(Protocol):
    """A place to publish in. Names are below its root, with `/`."""

    def create(self, name: str) -> Sink:
        """A new file."""
        ...

    def open(self, name: str) -> BinaryIO | None:
        """The bytes of a file, to be read forwards; None where there is none."""
        ...

    def move(self, name: str, to: str) -> bool:
        """Rename a file, in place of one that is there; False where there is none."""
        ...

    def remove(self, name: str) -> None:
        """Let a file be gone."""
        ...

    def names(self, prefix: str) -> Iterator[str]:
        """The names that begin with a prefix, in no order."""
        ...

    def sweep(self, prefix: str) -> None:
        """Remove everything below a prefix that ends with `/`, half-written files too."""
        ...


def put(outlet: Outlet, name: str, data: bytes) -> None:
    """Write a small file."""
    sink = outlet.create(name)
    try:
        sink.write(data)
        sink.finish()
    except BaseException:
        sink.abandon()
        raise


def outlet_name(contract: Contract) -> str:
    """The connection of what a product publishes: the contract's, else its domain's name."""
    return (contract.publication.connection if contract.publication is not None else None) or contract.domain


def outlet_address(contract: Contract, settings: Settings) -> str:
    """The URI of that connection, no trailing slash; where the profile has none, the folder `SDP_HOME/public/<connection>`.

    Raises:
        PlatformError: `connection-unknown` in production, where a pod's folder would be gone with it.
    """
    name = outlet_name(contract)
    address = settings.connection(name)
    if address is None and settings.profile == "production":
        raise PlatformError(
            "connection-unknown",
            f"The profile has no connection {name}, in which {contract.key} is published.",
            f'Set SDP_CONNECTIONS, a JSON object with an entry "{name}" (e.g. s3://bucket/public).',
            file="/".join(contract.path.parts[-3:]),
            line=contract.publication.line if contract.publication is not None else 0,
        )
    return address or f"file://{settings.public_path / name}"


def open_outlet(contract: Contract, settings: Settings) -> Outlet:
    """Where a product publishes.

    Raises:
        PlatformError: `connection-unknown`, `connection-unfit`.
    """
    address = outlet_address(contract, settings)
    parts = urlsplit(address)
    if parts.scheme in ("s3", "s3a"):
        return Bucket(settings.connected_store, parts.netloc, parts.path.strip("/"))
    if parts.scheme == "file" or address.startswith("/"):
        return Folder(Path(unquote(parts.path) if parts.scheme == "file" else address))
    raise PlatformError(
        "connection-unfit",
        f"Files cannot be published in a connection whose address begins with {parts.scheme or 'no scheme'}.",
        "Set it in SDP_CONNECTIONS to a folder (/path or file:///path) or s3://bucket/prefix.",
    )


class Folder:
    """A folder of this machine, mounted ones too."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def create(self, name: str) -> _FileSink:
        """A file under another name beside its own."""
        with _told(self._root / name):
            return _FileSink(self._root / name)

    def open(self, name: str) -> BinaryIO | None:
        """The file."""
        with _told(self._root / name):
            try:
                return (self._root / name).open("rb")
            except FileNotFoundError:
                return None

    def move(self, name: str, to: str) -> bool:
        """Rename, which a file system does at once."""
        with _told(self._root / to):
            target = self._root / to
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                (self._root / name).rename(target)
            except FileNotFoundError:
                return False
            _settle(target.parent)
        return True

    def remove(self, name: str) -> None:
        """Unlink, and the folders that are empty then."""
        path = self._root / name
        with _told(path):
            path.unlink(missing_ok=True)
            for folder in path.parents:
                if folder == self._root or folder.name == STAGING.rstrip("/"):
                    break
                try:
                    folder.rmdir()
                except OSError:
                    break

    def names(self, prefix: str) -> Iterator[str]:
        """The regular files below, those that are being written left out."""
        for folder, folders, names in os.walk(self._root / prefix.rpartition("/")[0]):
            folders[:] = [one for one in folders if f"{one}/" != STAGING or prefix.startswith(STAGING)]
            for name in names:
                found = (Path(folder) / name).relative_to(self._root).as_posix()
                if found.startswith(prefix) and not name.startswith("."):
                    yield found

    def sweep(self, prefix: str) -> None:
        """Remove the folder."""
        with _told(self._root / prefix):
            with suppress(FileNotFoundError):
                shutil.rmtree(self._root / prefix)
            for folder in (self._root / prefix).parents:
                if folder == self._root:
                    break
                with suppress(OSError):
                    folder.rmdir()


class _FileSink:
    """A file under a name that begins with a dot, until it is finished."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._hidden = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
        self._file = self._hidden.open("xb")

    def write(self, data: bytes) -> None:
        with _told(self._path):
            self._file.write(data)

    def finish(self) -> None:
        with _told(self._path):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            failpoint("publish-before-rename")
            self._hidden.rename(self._path)
            _settle(self._path.parent)

    def abandon(self) -> None:
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._hidden.unlink(missing_ok=True)


def _settle(folder: Path) -> None:
    """Let a renaming outlive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """What the file system refuses, as a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise PlatformError(
                "outlet-full",
                f"There is no room left to publish {path}.",
                "Make room; the next run goes on where it stopped.",
            ) from None
        raise PlatformError(
            "outlet-unwritable",
            f"{path} cannot be written: {error.strerror or error}.",
            "See that the folder may be written, or set the connection in SDP_CONNECTIONS to another.",
        ) from None


class Bucket:
    """A prefix of an object store with the S3 API."""

    def __init__(self, store: ObjectStore, bucket: str, prefix: str) -> None:
        self._bucket, self._prefix = bucket, f"{prefix}/" if prefix else ""
        self._client: Any = store.boto3()

    def create(self, name: str) -> _Upload:
        """An object, which appears when its upload is completed."""
        return _Upload(self._client, self._bucket, self._prefix + name)

    def open(self, name: str) -> BinaryIO | None:
        """The object as it is streamed."""
        with _told_by_store(self._address(name)):
            try:
                body: BinaryIO = self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)["Body"]
            except self._client.exceptions.NoSuchKey:
                return None
        return body

    def move(self, name: str, to: str) -> bool:
        """Copy inside the store and delete."""
        from botocore.exceptions import ClientError

        source = {"Bucket": self._bucket, "Key": self._prefix + name}
        with _told_by_store(self._address(to)):
            try:
                size = self._client.head_object(**source)["ContentLength"]
            except ClientError as error:
                if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404:
                    return False
                raise
            if size > _COPIED_AT_ONCE:
                self._client.copy(source, self._bucket, self._prefix + to)
            else:
                self._client.copy_object(Bucket=self._bucket, Key=self._prefix + to, CopySource=source)
            self._client.delete_object(**source)
        return True

    def remove(self, name: str) -> None:
        """Delete the object."""
        with _told_by_store(self._address(name)):
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)

    def names(self, prefix: str) -> Iterator[str]:
        """The objects below, those that are not shown yet left out."""
        with _told_by_store(self._address(prefix)):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix + prefix)
            for page in pages:
                for entry in page.get("Contents", ()):
                    name = entry["Key"].removeprefix(self._prefix)
                    if prefix.startswith(STAGING) or not name.startswith(STAGING):
                        yield name

    def sweep(self, prefix: str) -> None:
        """Delete the objects and the uploads that nobody completed."""
        with _told_by_store(self._address(prefix)):
            for name in list(self.names(prefix)):
                self.remove(name)
            pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=self._prefix + prefix)
            for page in pages:
                for entry in page.get("Uploads", ()):
                    self._client.abort_multipart_upload(Bucket=self._bucket, Key=entry["Key"], UploadId=entry["UploadId"])

    def _address(self, name: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}{name}"


class _Upload:
    """An object in parts; a small one goes at once."""

    def __init__(self, client: Any, bucket: str, key: str) -> None:
        self._client, self._where, self._address = client, {"Bucket": bucket, "Key": key}, f"s3://{bucket}/{key}"
        self._pending = bytearray()
        self._id: str | None = None
        self._parts: list[dict[str, Any]] = []

    def write(self, data: bytes) -> None:
        self._pending += data
        while len(self._pending) >= _PART:
            self._send(bytes(self._pending[:_PART]))
            del self._pending[:_PART]

    def _send(self, part: bytes) -> None:
        with _told_by_store(self._address):
            if self._id is None:
                self._id = self._client.create_multipart_upload(**self._where)["UploadId"]
            number = len(self._parts) + 1
            sent = self._client.upload_part(**self._where, UploadId=self._id, PartNumber=number, Body=part)
            self._parts.append({"PartNumber": number, "ETag": sent["ETag"]})

    def finish(self) -> None:
        if self._id is None:
            failpoint("publish-before-rename")
            with _told_by_store(self._address):
                self._client.put_object(**self._where, Body=bytes(self._pending))
            return
        if self._pending:
            self._send(bytes(self._pending))
        failpoint("publish-before-rename")
        with _told_by_store(self._address):
            self._client.complete_multipart_upload(**self._where, UploadId=self._id, MultipartUpload={"Parts": self._parts})

    def abandon(self) -> None:
        if self._id is not None:
            with suppress(Exception):
                self._client.abort_multipart_upload(**self._where, UploadId=self._id)


@contextmanager
def _told_by_store(address: str) -> Iterator[None]:
    """What a client of the store raises, as a sentence."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except (BotoCoreError, ClientError) as error:
        raise PlatformError(
            "outlet-unwritable",
            f"{address} cannot be written: {str(error).strip().rstrip('.')}.",
            "See that the bucket is there and may be written, or correct the connection in SDP_CONNECTIONS.",
        ) from None

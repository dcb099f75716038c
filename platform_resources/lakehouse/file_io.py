"""Files in the object store: PyIceberg's FileIO over boto3, one request per small file, and deleting many files at once.

PyIceberg's own two were counted at a proxy and not taken. PyArrow's opens a multipart upload for the smallest file, asks before each
read and delete, and puts an empty object back where the folder was: 17 requests for one append, 72 to drop a table of 18 files, against
4 and 1 here; its read time-out does nothing on Linux, and its threads have hung at exit. s3fs runs an event loop of its own that does
not survive a fork. Parquet is still written and read by PyArrow, over these streams.
"""

from __future__ import annotations

import io
import os
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar, cast
from urllib.parse import urlparse

from pydantic import SecretStr
from pyiceberg.io import FileIO, InputFile, InputStream, OutputFile, OutputStream
from pyiceberg.io.pyarrow import PyArrowFileIO

from platform_resources.errors import PlatformError
from platform_resources.object_store import ObjectStore

PART_BYTES = 16 << 20  # a longer file goes up in parts of so many bytes
TAIL_BYTES = 128 << 10  # the first read fetches so much of a data file's end: its footer, and the whole of a small one
AHEAD_BYTES = 4 << 20  # a read that goes on where the last one ended fetches so much
CACHED_FILE_BYTES, CACHE_BYTES = 4 << 20, 64 << 20
BODY_ATTEMPTS = 4  # a response that breaks off in its body is boto3's caller to repeat; all else boto3 has repeated already
BODY_SECONDS = 0.2  # before the first repetition; doubled from one to the next
DELETE_BATCH = 1000
_T = TypeVar("_T")


class StoreError(PlatformError, OSError):
    """The object store did not do what it was asked, after every repetition. An OSError too, as of a file on a disk."""


class _Recent:
    """The last metadata files read or written, whole: they never change once written, and a commit reads what the last one wrote."""

    def __init__(self) -> None:
        self._entries, self._bytes, self._lock = OrderedDict[str, bytes](), 0, threading.Lock()

    def get(self, location: str) -> bytes | None:
        with self._lock:
            if location in self._entries:
                self._entries.move_to_end(location)
            return self._entries.get(location)

    def put(self, location: str, content: bytes) -> None:
        if len(content) > CACHED_FILE_BYTES:
            return
        with self._lock:
            self._bytes += len(content) - len(self._entries.pop(location, b""))
            self._entries[location] = content
            while self._bytes > CACHE_BYTES:
                self._bytes -= len(self._entries.popitem(last=False)[1])

    def drop(self, locations: Iterable[str]) -> None:
        with self._lock:
            for location in locations:
                self._bytes -= len(self._entries.pop(location, b""))


_recent = _Recent()


@lru_cache(maxsize=8)
def _client(store: ObjectStore) -> Any:
    """One client per store and process: making one takes 50 ms, and PyIceberg makes a FileIO per table it loads."""
    return store.boto3()


os.register_at_fork(after_in_child=_client.cache_clear)  # a child must not speak on its parent's connections


class S3FileIO(PyArrowFileIO):
    """Files at `s3://bucket/key`, by the properties of `ObjectStore.file_io`. What is at other schemes, or is scanned by PyIceberg
    itself, goes by PyArrow.
    """

    @property
    def client(self) -> Any:
        """The boto3 client."""
        return _client(_store(self.properties))

    def new_input(self, location: str) -> Any:
        """A file to read."""
        return S3File(location, self.client) if _is_s3(location) else super().new_input(location)

    def new_output(self, location: str) -> Any:
        """A file to write. Nothing asks first whether there is one: the names of a table's files are drawn anew for each."""
        return S3File(location, self.client) if _is_s3(location) else super().new_output(location)

    def delete(self, location: str | InputFile | OutputFile) -> None:
        """Delete a file; one that is not there is no error.

        Raises:
            StoreError: `store-unreachable`, `store-refused`.
        """
        path = location if isinstance(location, str) else location.location
        if not _is_s3(path):
            super().delete(location)
            return
        _recent.drop([path])
        bucket, key = _split(path)
        _asked(path, lambda: self.client.delete_object(Bucket=bucket, Key=key))

    def delete_many(self, locations: Iterable[str]) -> list[str]:
        """Delete files, a thousand per request; those that could not be deleted come back."""
        left, by_bucket = list[str](), dict[str, list[str]]()
        for location in locations:
            by_bucket.setdefault(_split(location)[0], []).append(location)
        for bucket, found in by_bucket.items():
            _recent.drop(found)
            for start in range(0, len(found), DELETE_BATCH):
                batch = {_split(location)[1]: location for location in found[start : start + DELETE_BATCH]}
                request = {"Objects": [{"Key": key} for key in batch], "Quiet": True}
                try:
                    answer = _asked(bucket, lambda b=bucket, r=request: self.client.delete_objects(Bucket=b, Delete=r))  # type: ignore[misc]
                except OSError:
                    left.extend(batch.values())
                else:
                    left.extend(batch[error["Key"]] for error in answer.get("Errors", []) if error.get("Code") != "NoSuchKey")
        return left

    def list_prefix(self, location: str) -> Iterator[tuple[str, int, datetime]]:
        """Every file under a folder: location, bytes, time of its last change (UTC)."""
        bucket, key = _split(location.rstrip("/") + "/")
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=key)
        iterator = iter(pages)
        while (page := _asked(location, lambda: next(iterator, None))) is not None:
            for item in page.get("Contents", []):
                yield f"s3://{bucket}/{item['Key']}", item["Size"], item["LastModified"]


class S3File(InputFile, OutputFile):
    """One object."""

    def __init__(self, location: str, client: Any) -> None:
        super().__init__(location)
        self._client = client
        self._bucket, self._key = _split(location)
        self._length: int | None = None

    def __len__(self) -> int:
        """Bytes. Of a file that was written through this object they are known."""
        if self._length is None:
            head = _asked(self.location, lambda: self._client.head_object(Bucket=self._bucket, Key=self._key))
            self._length = int(head["ContentLength"])
        return self._length

    def exists(self) -> bool:
        """Whether there is such an object."""
        try:
            len(self)
        except FileNotFoundError:
            return False
        return True

    def open(self, seekable: bool = True) -> InputStream:
        """A stream of its content: metadata whole, by one request or none; a data file by the ranges that are read.

        Raises:
            FileNotFoundError: there is no such object.
            StoreError: `store-unreachable`, `store-refused`.
        """
        if not _is_metadata(self.location):
            return cast("InputStream", _Reader(self))
        content = _recent.get(self.location)
        if content is None:
            content, self._length = self.fetch(None)
            _recent.put(self.location, content)
        return cast("InputStream", io.BytesIO(content))

    def fetch(self, span: str | None) -> tuple[bytes, int]:
        """The bytes of a range (`bytes=0-9`, `bytes=-100`; None: all) and the whole object's length.

        Raises:
            FileNotFoundError: there is no such object.
            StoreError: `store-unreachable`, `store-refused`, `store-wrong-bytes`.
        """
        options = {"Range": span} if span else {}
        attempt = 1
        while True:
            answer = _asked(self.location, lambda: self._client.get_object(Bucket=self._bucket, Key=self._key, **options))
            try:
                return _held_to(span, answer.get("ContentRange"), _asked(self.location, answer["Body"].read), self.location)
            except StoreError:
                if attempt == BODY_ATTEMPTS:
                    raise
            time.sleep(BODY_SECONDS * 2 ** (attempt - 1))
            attempt += 1

    def create(self, overwrite: bool = False) -> OutputStream:
        """A stream that becomes the object when it is closed, whole or not at all."""
        return _Writer(self)

    def to_input_file(self) -> InputFile:
        """The same object, to be read."""
        return self


class _Reader(io.RawIOBase):
    """A data file, read by ranges."""

    def __init__(self, file: S3File) -> None:
        super().__init__()
        self._file, self._at = file, 0
        tail, self._size = _tail(file)
        self._tail = (self._size - len(tail), tail)
        self._last: tuple[int, bytes] = (0, b"")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        wanted = self._size - self._at if size is None or size < 0 else min(size, self._size - self._at)
        if wanted <= 0:
            return b""
        for start, content in (self._tail, self._last):
            if start <= self._at and self._at + wanted <= start + len(content):
                return self._taken(content[self._at - start : self._at - start + wanted])
        onwards = 0 <= self._at - (self._last[0] + len(self._last[1])) <= TAIL_BYTES
        end = min(self._at + max(wanted, AHEAD_BYTES if onwards else 0), self._size)
        content, _ = self._file.fetch(f"bytes={self._at}-{end - 1}")
        self._last = (self._at, content)
        return self._taken(content[:wanted])

    def _taken(self, content: bytes) -> bytes:
        self._at += len(content)
        return content

    def readinto(self, buffer: Any) -> int:
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def readall(self) -> bytes:
        return self.read(-1)


def _tail(file: S3File) -> tuple[bytes, int]:
    try:
        return file.fetch(f"bytes=-{TAIL_BYTES}")
    except StoreError as error:
        if error.code == "store-range":  # an empty object has no range
            return b"", 0
        raise


class _Writer(io.RawIOBase):
    """Bytes on their way to an object. One request up to `PART_BYTES`, parts beyond; nothing is visible before `close`."""

    def __init__(self, file: S3File) -> None:
        super().__init__()
        self._file, self._bytes, self._pending = file, 0, bytearray()
        self._upload: str | None = None
        self._parts: list[dict[str, Any]] = []

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._bytes

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._pending += view
        self._bytes += len(view)
        while len(self._pending) >= PART_BYTES:
            with memoryview(self._pending) as pending:
                part = bytes(pending[:PART_BYTES])
            del self._pending[:PART_BYTES]
            self._put_part(part)
        return len(view)

    def close(self) -> None:
        if self.closed:
            return
        try:
            self._finish()
        except BaseException:
            self.abort()
            raise
        super().close()

    def abort(self) -> None:
        """Leave nothing behind."""
        if self._upload is not None:
            with suppress(Exception):
                self._client.abort_multipart_upload(**self._where, UploadId=self._upload)
            self._upload = None
        super().close()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            self.close()
        elif not self.closed:
            self.abort()

    def __del__(self) -> None:
        if not self.closed:
            self.abort()  # forgotten half-way: `IOBase` would close it, and publish the half

    @property
    def _client(self) -> Any:
        return self._file._client  # noqa: SLF001 - one thing in two classes

    @property
    def _where(self) -> dict[str, str]:
        return {"Bucket": self._file._bucket, "Key": self._file._key}  # noqa: SLF001

    def _put_part(self, content: bytes) -> None:
        if self._upload is None:
            self._upload = self._do(lambda: self._client.create_multipart_upload(**self._where))["UploadId"]
        number = len(self._parts) + 1
        options = {**self._where, "UploadId": self._upload, "PartNumber": number}
        answer = self._do(lambda: self._client.upload_part(Body=content, **options))
        self._parts.append({"PartNumber": number, "ETag": answer["ETag"]})

    def _finish(self) -> None:
        content = bytes(self._pending)
        if self._upload is None:
            self._do(lambda: self._client.put_object(Body=content, **self._where))
            if _is_metadata(self._file.location):
                _recent.put(self._file.location, content)
        else:
            if content:
                self._put_part(content)
            parts = {"Parts": self._parts}
            self._do(lambda: self._client.complete_multipart_upload(**self._where, UploadId=self._upload, MultipartUpload=parts))
            self._upload = None
        self._file._length = self._bytes  # noqa: SLF001

    def _do(self, request: Callable[[], _T]) -> _T:
        return _asked(self._file.location, request)


def delete_files(file_io: FileIO, locations: Iterable[str]) -> None:
    """Delete files, by as few requests as the store has it. One that is gone already, or cannot be deleted now, is passed over:
    nothing points at it any more, and orphan removal finds it.
    """
    found = list(dict.fromkeys(locations))
    if isinstance(file_io, S3FileIO):
        remote = [location for location in found if _is_s3(location)]
        file_io.delete_many(remote)
        found = [location for location in found if not _is_s3(location)]
    for location in found:
        with suppress(OSError):
            file_io.delete(location)


def _held_to(span: str | None, told: str | None, content: bytes, location: str) -> tuple[bytes, int]:
    """The content and the whole object's length, when these are the bytes that were asked for.

    A server may ignore a range and answer with the whole (RFC 9110, 14.2): right for an end that was asked for, else wrong bytes.
    """
    if told is None:
        if span is None or span.startswith("bytes=-"):
            return content, len(content)
    elif found := _CONTENT_RANGE.fullmatch(told):
        first, last, size = (int(number) for number in found.groups())
        wanted_first, _, wanted_last = (span or "bytes=0-").removeprefix("bytes=").partition("-")
        starts = first == int(wanted_first) if wanted_first else first == max(size - int(wanted_last), 0)
        ends = last == min(int(wanted_last), size - 1) if wanted_first and wanted_last else last == size - 1
        if starts and ends and len(content) == last - first + 1:
            return content, size
    answered = "the whole" if told is None else told
    raise StoreError(
        "store-wrong-bytes",
        f"The object store was asked for {span or 'the whole'} of {location} and answered with {answered}.",
        "See that what is between here and the store hands on the header Range.",
    )


_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


def _asked(location: str, request: Callable[[], _T]) -> _T:
    """Ask the store; its errors, which boto3 has repeated where that helps, become those of files, with a sentence."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError
    from urllib3.exceptions import HTTPError

    try:
        return request()
    except ClientError as error:
        raise _refusal(location, error.response) from None
    except (NoCredentialsError, PartialCredentialsError):
        raise StoreError("store-refused", f"There are no keys to read or write {location} with.", _SET_KEYS) from None
    except (BotoCoreError, HTTPError, ConnectionError, TimeoutError) as error:
        raise unreachable(location, _reason(error)) from None


_SET_KEYS = "Set SDP_S3_ACCESS_KEY and SDP_S3_SECRET_KEY to keys that may read and write the warehouse."


def unreachable(location: str, reason: str) -> StoreError:
    """The sentence for a store that gave no answer."""
    return StoreError(
        "store-unreachable",
        f"The object store did not answer for {location}: {reason}.",
        "See that it runs (`sdp stack status`) and repeat the command; nothing half-written is visible.",
    )


def _refusal(location: str, response: Mapping[str, Any]) -> OSError:
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    return refusal(location, status, str(response.get("Error", {}).get("Code", status)))


def refusal(location: str, status: int, code: str) -> OSError:
    """The error for what a store answered: an HTTP status, and S3's own code where it gave one."""
    if code == "NoSuchBucket":
        return StoreError(
            "store-bucket-missing",
            f"The object store has no bucket {_split(location)[0] or location}.",
            "Make the bucket, or set SDP_WAREHOUSE to s3://bucket/folder with one that there is.",
        )
    if status == 404:
        return FileNotFoundError(f"There is no {location} in the object store.")
    if status == 416:
        return StoreError("store-range", f"{location} is shorter than what was asked of it.", "Read it anew.")
    if status == 403:
        return StoreError("store-refused", f"The object store refused access to {location} ({code}).", _SET_KEYS)
    if status >= 500 or status == 429:
        message = f"The object store could not serve {location} ({status} {code})."
        return StoreError("store-unreachable", message, "Repeat the command when it has recovered; nothing half-written is visible.")
    return StoreError("store-refused", f"The object store refused {location} ({status} {code}).", "See the store's log for the reason.")


def _reason(error: BaseException) -> str:
    """What went wrong, in the client's words but without its addresses' query strings."""
    return " ".join(str(error).split("?", maxsplit=1)[0].split()).strip('". ') or type(error).__name__


def _is_s3(location: str) -> bool:
    return location.startswith(("s3://", "s3a://"))


def _is_metadata(location: str) -> bool:
    return location.endswith((".avro", ".metadata.json"))


def _split(location: str) -> tuple[str, str]:
    parts = urlparse(location, allow_fragments=False)
    return parts.netloc, f"{parts.path}{'?' + parts.query if parts.query else ''}".lstrip("/")


def object_store_of(file_io: FileIO) -> ObjectStore | None:
    """The object store that a table's files are in; None for a folder. A REST catalog may have named another than the settings do."""
    return _store(file_io.properties) if isinstance(file_io, S3FileIO) else None


def _store(properties: Mapping[str, str]) -> ObjectStore:
    keys = [properties.get(name) for name in ("s3.access-key-id", "s3.secret-access-key")]
    access, secret = (SecretStr(key) if key else None for key in keys)
    virtual = str(properties.get("s3.force-virtual-addressing", "false")).lower() == "true"
    return ObjectStore(properties.get("s3.endpoint"), properties.get("s3.region", "us-east-1"), access, secret, not virtual)

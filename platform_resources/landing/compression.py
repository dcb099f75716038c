"""Bytes as they lie in a file to the bytes they stand for: gzip, bzip2 and zstd, of several members too, in bounded memory.

What is cut off or damaged refuses its delivery; a fault of whoever gives the bytes passes as it is.
"""

from __future__ import annotations

import bz2
import io
from typing import BinaryIO

import pyarrow as pa

from platform_resources.landing.pulled import Pulled
from platform_resources.landing.source import DeliveryRefused

_CHUNK = 1 << 20


def decompressed(raw: BinaryIO, compression: str, name: str) -> BinaryIO:
    """The file's content, to be read forwards.

    Args:
        raw: the file as it lies there; it stays open.
        compression: none, gzip, bzip2 or zstd.
        name: the file's name, for sentences.

    Raises:
        DeliveryRefused: `file-damaged`, while it is read.
    """
    if compression == "none":
        return raw
    if compression == "bzip2":
        return io.BufferedReader(_Bzip2(raw, name), _CHUNK)
    return io.BufferedReader(_ByArrow(raw, compression, name), _CHUNK)


class _ByArrow(Pulled):
    """Gzip and zstd by Arrow, which knows members and frames, and tells a cut end."""

    def __init__(self, raw: BinaryIO, compression: str, name: str) -> None:
        super().__init__()
        self._stream = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), compression)
        self._told = (compression, name)

    def pull(self, size: int) -> bytes:
        try:
            data: bytes = self._stream.read(size)
        except OSError as error:
            raise _damaged(*self._told, str(error)) from None
        return data


class _Bzip2(Pulled):
    """Bzip2 by Python's own library: Arrow's stops at an empty member, and BZ2File passes over what comes behind a damaged one."""

    def __init__(self, raw: BinaryIO, name: str) -> None:
        super().__init__()
        self._raw, self._name = raw, name
        self._member = bz2.BZ2Decompressor()
        self._begun = False

    def pull(self, size: int) -> bytes:
        while True:
            rest = b""
            if self._member.eof:
                rest, self._member, self._begun = self._member.unused_data, bz2.BZ2Decompressor(), False
            if not rest and self._member.needs_input:
                rest = self._raw.read(_CHUNK)
                if not rest:
                    if self._begun:
                        raise _damaged("bzip2", self._name, "its end is missing")
                    return b""
            self._begun = self._begun or bool(rest)
            try:
                data = self._member.decompress(rest, size)
            except OSError as error:
                raise _damaged("bzip2", self._name, str(error)) from None
            if data:
                return data


def _damaged(compression: str, name: str, reason: str) -> DeliveryRefused:
    shown = "its end is missing" if "runcated" in reason else reason.strip().rstrip(".")
    return DeliveryRefused(
        "file-damaged",
        f"The file {name} cannot be decompressed as {compression}: {shown}.",
        "Put the whole file there again, or correct `compression` in the contract.",
    )

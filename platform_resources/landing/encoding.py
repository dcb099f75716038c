"""Text in a declared encoding to UTF-8, as it is read; no line, no field is known here."""

from __future__ import annotations

import codecs
import io
from typing import BinaryIO

from platform_resources.landing.pulled import Pulled
from platform_resources.landing.source import DeliveryRefused

_CHUNK = 1 << 20


def as_utf8(stream: BinaryIO, encoding: str, name: str) -> BinaryIO:
    """The text of a stream as valid UTF-8 without byte order mark, to be read forwards.

    Args:
        stream: bytes in `encoding`; it stays open.
        encoding: a name that Python's codecs know.
        name: the file's name, for sentences.

    Raises:
        DeliveryRefused: `file-encoding`, while it is read: line and byte of the first place that is no text.
    """
    return io.BufferedReader(_Utf8(stream, encoding, name), _CHUNK)


class _Utf8(Pulled):
    def __init__(self, stream: BinaryIO, encoding: str, name: str) -> None:
        super().__init__()
        self._stream, self._name = stream, name
        self._encoding = codecs.lookup(encoding).name
        self._same = self._encoding in ("utf-8", "utf-8-sig", "ascii")
        self._decoder = codecs.getincrementaldecoder("utf-8" if self._encoding == "utf-8-sig" else self._encoding)()
        self._first, self._lines, self._bytes = True, 0, 0

    def pull(self, size: int) -> bytes:
        while chunk := self._stream.read(_CHUNK):
            if data := self._decoded(chunk):  # nothing, while a character is not whole
                return data
        return self._decoded(b"")

    def _decoded(self, chunk: bytes) -> bytes:
        pending = self._decoder.getstate()[0]
        try:
            text = self._decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            raise self._refused(error, len(pending)) from None
        if self._same:  # the same bytes, less a character that is not whole yet
            whole = pending + chunk
            data = whole[: len(whole) - len(self._decoder.getstate()[0])]
        else:
            data = text.encode("utf-8", "surrogatepass")
        self._lines, self._bytes = self._lines + data.count(b"\n"), self._bytes + len(chunk)
        if self._first and data:
            data, self._first = data.removeprefix(codecs.BOM_UTF8), False
        return data

    def _refused(self, error: UnicodeDecodeError, pending: int) -> DeliveryRefused:
        before = error.object[: error.start].decode(self._encoding, "replace")
        line, byte = self._lines + before.count("\n") + 1, self._bytes - pending + error.start + 1
        value = f" (0x{error.object[error.start]:02x})" if error.start < len(error.object) else ""
        return DeliveryRefused(
            "file-encoding",
            f"The file {self._name} is not {self._encoding} text: line {line}, byte {byte} of its content{value}.",
            "Put it there in that encoding, or correct `encoding` in the contract.",
        )

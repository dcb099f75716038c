"""A stream of bytes that is made as it is read; what is made is the business of whoever derives from it."""

from __future__ import annotations

import io


class Pulled(io.RawIOBase):
    """Bytes pulled piece by piece, each given out in as many parts as the reader asks for. Wrap it in `io.BufferedReader`."""

    def __init__(self) -> None:
        self._piece = memoryview(b"")

    def pull(self, size: int) -> bytes:
        """The next bytes, `size` of them or any other number; empty only at the end."""
        raise NotImplementedError

    def readable(self) -> bool:
        """It is for reading."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill the buffer as far as one piece goes."""
        if not self._piece:
            self._piece = memoryview(self.pull(len(buffer)))
        size = min(len(buffer), len(self._piece))
        buffer[:size], self._piece = self._piece[:size], self._piece[size:]
        return size

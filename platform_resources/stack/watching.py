"""What changed on disk since the last look: the files of each code location, by size and time. Polling, so that it works everywhere."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

SUFFIXES = frozenset({".py", ".yaml", ".yml", ".sql"})

Seen = Mapping[str, tuple[int, int]]


def look(folder: Path) -> Seen:
    """Every file of a location that matters when it changes, with its time (ns) and size (bytes)."""
    found: dict[str, tuple[int, int]] = {}
    for path in folder.rglob("*"):
        if path.suffix in SUFFIXES and not path.name.startswith("."):
            with suppress(OSError):  # it went away between the listing and the look
                stat = path.stat()
                found[str(path)] = (stat.st_mtime_ns, stat.st_size)
    return found


class Watch:
    """The folders of some locations; tells which changed and have come to rest."""

    def __init__(self) -> None:
        self._folders: dict[str, Path] = {}
        self._told: dict[str, Seen] = {}
        self._last: dict[str, Seen] = {}

    def follow(self, name: str, folder: Path) -> None:
        """Begin to watch a location's folder, as it is now."""
        self._folders[name] = folder
        self._told[name] = self._last[name] = look(folder)

    def forget(self, name: str) -> None:
        """Watch a location no longer."""
        for known in (self._folders, self._told, self._last):
            known.pop(name, None)

    def changed(self) -> dict[str, list[Path]]:
        """Locations with changed files, which are the same in this look as in the last one: an editor has finished writing."""
        found: dict[str, list[Path]] = {}
        for name, folder in self._folders.items():
            now = look(folder)
            if now != self._told[name] and now == self._last[name]:
                told = self._told[name]
                found[name] = [Path(path) for path in sorted(now.keys() | told.keys()) if now.get(path) != told.get(path)]
                self._told[name] = now
            self._last[name] = now
        return found

    def readers_of(self, name: str, domain: str) -> list[str]:
        """Other locations whose files name a product of `domain`: they compiled its contracts into their own definitions.

        A textual look, `domain.` or `domain/` anywhere: it may name one too many, which costs a reload and nothing else.
        """
        mention = re.compile(rf"\b{re.escape(domain)}\s*[./]\s*\w".encode())
        return [other for other, folder in self._folders.items() if other != name and _mentions(look(folder), mention)]


def _mentions(files: Iterable[str], pattern: re.Pattern[bytes]) -> bool:
    for file in files:
        with suppress(OSError):
            if pattern.search(Path(file).read_bytes()):
                return True
    return False

"""What has landed, by name: the last of it in the table's position itself, all before that in a file which the position names.

A position that held every file which ever landed would be written with each snapshot, and stand in the metadata once for each of them: a
hundred thousand files are 6 MB. So a position has at most `RECENT` names; when there are more, all go into a new file beside the table's
metadata, named by its content, which never changes, and which is no orphan as long as a snapshot names it. A rollback rewinds both.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import ChainMap, OrderedDict
from collections.abc import Mapping

from pyiceberg.table import Table

from platform_resources.errors import PlatformError
from platform_resources.lakehouse.stamp import SETTLED, Position, compact_json
from platform_resources.landing.source import Landed

RECENT = 100
"""Names in a position; so many commits share one writing of the file."""
_KEPT = 8  # files held in memory, by location: what is named by its content is never another
_known: OrderedDict[str, Mapping[str, str]] = OrderedDict()


def landed_in(table: Table, position: Position | None, kind: str) -> Landed:
    """Everything that a position says has landed.

    Args:
        table: whose position it is.
        position: as the stamp has it.
        kind: its key: `files`, `snapshots` or `cursor`.

    Raises:
        PlatformError: `position-lost` when the file it names cannot be read.
    """
    recent = (position or {}).get(kind, {})
    name = (position or {}).get(SETTLED)
    return recent if name is None else ChainMap(recent, _settled(table, name))  # type: ignore[arg-type]


def moved(table: Table, position: Position | None, kind: str, reached: Landed) -> Position:
    """The position once more has landed; a file is written for it when it has become long."""
    before = position or {}
    recent = {**before.get(kind, {}), **reached}
    if len(recent) <= RECENT:
        return {**{name: value for name, value in before.items() if name == SETTLED}, kind: recent}
    return {kind: {}, SETTLED: _write(table, {**landed_in(table, position, kind), **recent})}


def _location(table: Table, name: str) -> str:
    return f"{table.location().rstrip('/')}/{name}"


def _write(table: Table, landed: Mapping[str, str]) -> str:
    text = compact_json(landed).encode()
    name = f"metadata/landed-{hashlib.sha256(text).hexdigest()[:32]}.json.zlib"  # a suffix by which no file access compresses once more
    with table.io.new_output(_location(table, name)).create(overwrite=True) as stream:
        stream.write(zlib.compress(text))
    _remember(_location(table, name), landed)
    return name


def _settled(table: Table, name: str) -> Mapping[str, str]:
    location = _location(table, name)
    found = _known.get(location)
    if found is None:
        try:
            with table.io.new_input(location).open() as stream:
                found = json.loads(zlib.decompress(stream.read()))
        except (FileNotFoundError, zlib.error, ValueError):
            raise PlatformError(
                "position-lost",
                f"The file {location}, which says what has landed in {'.'.join(table.name())}, is gone or damaged.",
                "Bring it back from a backup of the warehouse, or roll the table back to before it (`sdp table rollback`).",
            ) from None
    _remember(location, found)
    return found


def _remember(location: str, landed: Mapping[str, str]) -> None:
    _known[location] = landed
    _known.move_to_end(location)
    while len(_known) > _KEPT:
        _known.popitem(last=False)

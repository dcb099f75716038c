"""Why a landing of files found nothing: where it looked, and what lies there that it does not take. For people who expected more."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from itertools import islice
from urllib.parse import unquote

from platform_resources.config import Settings
from platform_resources.contracts.model import Contract
from platform_resources.contracts.sources import Complete, FilesOptions, SqlDumpOptions, XmlDumpOptions
from platform_resources.landing.connections import address_of, connection_name
from platform_resources.landing.files import DatedPath, is_complete, is_unfinished
from platform_resources.landing.places import Found, place_at

_MOST = 1000  # files that are looked at: it is a hint


def nothing_new(contract: Contract, settings: Settings) -> str:
    """A sentence about the files below a product's connection; "" of a product that comes from no files.

    Raises:
        PlatformError: as of listing them.
    """
    source = contract.source
    if source is None or not isinstance(source.options, FilesOptions | XmlDumpOptions | SqlDumpOptions):
        return ""
    address, path = address_of(contract, settings), source.path or "*"
    place = place_at(address, settings, may_lack=settings.connection(connection_name(contract)) is None)
    listed = list(islice(place.listing(""), _MOST))
    names, matcher, now = {found.name: found for found in listed}, DatedPath(path), datetime.now(UTC)
    counts, strange = Counter[str](), ""
    for found in listed:
        matched, start = matcher.match(found.name)
        if not matched and not is_unfinished(found.name):
            strange = strange or found.name
        before = start is not None and source.slices is not None and source.slices.floor(start) < source.slices.start
        counts[_standing(found, source.options.complete, names, now, matched=matched, before=before)] += 1
    said = [f"{number:,} {what}" for what, number in counts.items()]
    where = unquote(address.removeprefix("file://"))
    found_there = ", ".join(said) + (f" (e.g. {strange})" if strange else "") if said else "no file lies there"
    return f"Looked below {where} for {path}: {found_there}."


def _standing(found: Found, complete: Complete, names: dict[str, Found], now: datetime, *, matched: bool, before: bool) -> str:
    if is_unfinished(found.name):
        return "named like an unfinished file"
    if not matched:
        return "not of that path"
    if before:
        return "before the first slice"
    if not is_complete(found, complete, names, now):
        return "without its marker yet" if complete.marker is not None else "not unchanged for long enough yet"
    return "known already"

"""Points in time as events write them: RFC 3339 text to microseconds and back. No column, no contract."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
FIRST_MICROS = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND  # year 1
LAST_MICROS = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND  # year 9999
_DATE_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+-]\d\d:\d\d)?", re.ASCII)
_TIME = re.compile(r"(\d\d:\d\d:\d\d)(?:\.(\d+))?(?:[Zz]|[+-]00:00)?", re.ASCII)

# What `format_micros` writes: text of this shape is canonical already. RE2 syntax, since Arrow matches whole columns with it.
CANONICAL_INSTANT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{0,5}[1-9])?Z$"


def parse_micros(text: str, *, zoned: bool = True) -> int:
    """Microseconds since 1970 of an RFC 3339 date-time.

    Digits behind the microsecond are cut, as the column's type says. With `zoned` an offset is required, without it none is allowed
    except UTC's own.

    Raises:
        ValueError: the text is no such date-time, or is not a real moment.
    """
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        raise ValueError("is not an RFC 3339 date-time")
    day, clock, fraction, zone = match.groups()
    if zoned and zone is None:
        raise ValueError("has no time zone")
    if not zoned and zone is not None and zone not in ("Z", "z", "+00:00", "-00:00"):
        raise ValueError("has a time zone where none is allowed")
    offset = "+00:00" if zone is None or zone in "Zz" else zone
    moment = datetime.fromisoformat(f"{day}T{clock}.{(fraction or '')[:6]:0<6}{offset}")
    micros = (moment - _EPOCH) // _MICROSECOND
    if not FIRST_MICROS <= micros <= LAST_MICROS:
        raise ValueError("lies outside the years 1 to 9999 in UTC")
    return micros


def format_micros(micros: int, *, zoned: bool = True) -> str:
    """The canonical text of an instant: UTC, the shortest fraction, `Z` when zoned.

    Raises:
        ValueError: the instant lies outside the years 1 to 9999.
    """
    try:
        moment = _EPOCH + timedelta(microseconds=micros)
    except OverflowError as error:
        raise ValueError("lies outside the years 1 to 9999") from error
    return _shortest(moment.replace(tzinfo=None).isoformat()) + ("Z" if zoned else "")


def parse_date(text: str) -> date:
    """A calendar day `YYYY-MM-DD`.

    Raises:
        ValueError: the text is none.
    """
    if len(text) != 10 or text[4] != "-" or text[7] != "-":
        raise ValueError("is not a date YYYY-MM-DD")
    return date.fromisoformat(text)


def parse_time(text: str) -> time:
    """A time of day `HH:MM:SS[.ffffff]`, in UTC where it names a zone.

    Raises:
        ValueError: the text is none.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError("is not a time HH:MM:SS")
    return time.fromisoformat(f"{match[1]}.{(match[2] or '')[:6]:0<6}")


def format_time(moment: time) -> str:
    """The canonical text of a time of day."""
    return _shortest(moment.isoformat())


def _shortest(text: str) -> str:
    return text.rstrip("0") if "." in text else text

"""Lengths of time as contracts write them: ISO 8601 (`PT5M`, `P90D`) or a number with a unit (`5 minutes`)."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {
    "s": 1, "sec": 1, "second": 1, "m": 60, "min": 60, "minute": 60, "h": 3600, "hr": 3600, "hour": 3600, "d": 86400, "day": 86400,
    "w": 604800, "week": 604800, "mo": 30 * 86400, "month": 30 * 86400, "y": 365 * 86400, "yr": 365 * 86400, "year": 365 * 86400,
}  # fmt: skip
_ISO = re.compile(r"P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?")
_ISO_SECONDS = (365 * 86400, 30 * 86400, 604800, 86400, 3600, 60, 1)
_PLAIN = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)")


def unit_seconds(unit: str) -> int | None:
    """Seconds of a unit name (`s`, `minutes`, `day`, ...; a month is 30 days, a year 365), None when unknown."""
    name = unit.strip().lower()
    return _UNITS.get(name) or _UNITS.get(name.removesuffix("s"))


def parse_duration(value: object, unit: str | None = None) -> timedelta:
    """A length of time.

    Args:
        value: `PT5M`, `5 minutes`, or a number when `unit` is given.
        unit: the unit of a bare number.

    Raises:
        ValueError: with the reason, fit to stand after "the duration".
    """
    if isinstance(value, bool):
        raise ValueError("is no length of time")  # noqa: TRY004
    text = str(value).strip()
    if unit is not None and re.fullmatch(r"\d+(\.\d+)?", text):
        seconds = unit_seconds(unit)
        if seconds is None:
            raise ValueError(f"has the unknown unit {unit!r}")
        return timedelta(seconds=float(text) * seconds)
    plain = _PLAIN.fullmatch(text)
    if plain and unit_seconds(plain[2]) is not None:
        return timedelta(seconds=float(plain[1]) * (unit_seconds(plain[2]) or 0))
    iso = _ISO.fullmatch(text)
    if iso and any(iso.groups()):
        return timedelta(seconds=sum(float(part) * seconds for part, seconds in zip(iso.groups(), _ISO_SECONDS, strict=True) if part))
    raise ValueError("is no length of time")


def show_duration(length: timedelta) -> str:
    """The shortest exact unit: `90 days`, `5 minutes`, `1.5 seconds`."""
    seconds = length.total_seconds()
    for name, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds and seconds % size == 0:
            count = int(seconds // size)
            return f"{count} {name}{'s' if count != 1 else ''}"
    return f"{seconds:g} second{'s' if seconds != 1 else ''}"

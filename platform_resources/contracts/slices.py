"""Slices of time that arrive one by one: a dump's date, a file's hour, the day of a snapshot. Keys, bounds and dated paths."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from pyiceberg.types import DateType, IcebergType, TimestamptzType

CADENCES = ("hourly", "daily", "weekly", "monthly", "yearly")
_KEY_FORMATS = {"hourly": "%Y-%m-%dT%H", "daily": "%Y-%m-%d", "weekly": "%Y-%m-%d", "monthly": "%Y-%m", "yearly": "%Y"}
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_DIRECTIVES = "YmdHjyGV"
_CADENCE_OF = (("H", "hourly"), ("dj", "daily"), ("V", "weekly"), ("m", "monthly"), ("Yy", "yearly"))


@dataclass(frozen=True)
class Slices:
    """The slices of one product: consecutive, UTC, the first begins with `start`; weeks begin on Monday.

    Args:
        cadence: hourly, daily, weekly, monthly or yearly.
        start: the first slice's start, UTC.
    """

    cadence: str
    start: datetime

    @property
    def key_format(self) -> str:
        """The strftime format of a slice's key: `2026-01-01`, hourly `2026-01-01T05`, monthly `2026-01`, yearly `2026`."""
        return _KEY_FORMATS[self.cadence]

    @property
    def column_type(self) -> IcebergType:
        """Of the column `_slice`."""
        return TimestamptzType() if self.cadence == "hourly" else DateType()

    def key(self, start: datetime) -> str:
        """The key of the slice that begins then."""
        return start.strftime(self.key_format)

    def at(self, key: str) -> datetime:
        """Where the slice of a key begins, UTC.

        Raises:
            ValueError: it is no key of this product, with the reason.
        """
        try:
            found = datetime.strptime(key, self.key_format).replace(tzinfo=UTC)
        except ValueError:
            raise ValueError(f"is not of the form {self.start.strftime(self.key_format)}") from None
        if self.key(found) != key or self.floor(found) != found:
            raise ValueError(f"is no start of a {self.cadence} slice")
        if found < self.start:
            raise ValueError(f"lies before the first slice, {self.key(self.start)}")
        return found

    def floor(self, moment: datetime) -> datetime:
        """The start of the slice that holds a moment."""
        hour = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        day = hour.replace(hour=0)
        match self.cadence:
            case "hourly":
                return hour
            case "daily":
                return day
            case "weekly":
                return day - timedelta(days=day.weekday())
            case "monthly":
                return day.replace(day=1)
        return day.replace(month=1, day=1)

    def end(self, start: datetime) -> datetime:
        """Where the next slice begins."""
        match self.cadence:
            case "hourly":
                return start + timedelta(hours=1)
            case "daily":
                return start + timedelta(days=1)
            case "weekly":
                return start + timedelta(weeks=1)
            case "monthly":
                return start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
        return start.replace(year=start.year + 1)

    def between(self, first: str, last: str) -> list[str]:
        """The keys from one to another, both included.

        Raises:
            ValueError: one of them is no key, or they are in the wrong order.
        """
        at, end, keys = self.at(first), self.at(last), []
        if end < at:
            raise ValueError(f"ends before it begins, at {last}")
        while at <= end:
            keys.append(self.key(at))
            at = self.end(at)
        return keys

    def value(self, start: datetime) -> date | datetime:
        """What the column `_slice` holds for the slice that begins then."""
        return start if self.cadence == "hourly" else start.date()


def placeholders(path: str) -> list[str]:
    """The strftime formats of a dated path: `dumps/{slice:%Y%m%d}/*.gz` has `%Y%m%d`.

    Raises:
        ValueError: with the reason, fit to stand after the path.
    """
    formats = []
    for inner in _PLACEHOLDER.findall(path):
        name, colon, text = inner.partition(":")
        directives = re.findall(r"%(.)", text)
        if name != "slice" or not colon or not directives:
            raise ValueError(f"has the placeholder {{{inner}}}, which is not of the form {{slice:%Y-%m-%d}}")
        if unknown := [one for one in directives if one not in _DIRECTIVES]:
            raise ValueError(f"has %{unknown[0]} in a placeholder, which tells no slice: use %Y, %m, %d, %H, %j, %y, %G or %V")
        formats.append(text)
    if "{" in _PLACEHOLDER.sub("", path) or "}" in _PLACEHOLDER.sub("", path):
        raise ValueError("has a brace without its partner")
    return formats


def cadence_of(formats: list[str]) -> str | None:
    """The cadence that a dated path tells; None when its placeholders do not name a year, or leave one out between.

    >>> cadence_of(["%Y", "%Y-%m"])
    'monthly'
    """
    found = {directive for text in formats for directive in re.findall(r"%(.)", text)}
    if not found & set("YyG"):
        return None
    cadence = next(name for directives, name in _CADENCE_OF if found & set(directives + ("G" if name == "yearly" else "")))
    needs = {"hourly": ({"d", "m"}, {"j"}), "daily": ({"d", "m"}, {"j"})}.get(cadence)
    return cadence if needs is None or any(one <= found for one in needs) else None


def read_start(value: object) -> datetime:
    """`2026-01-01` or `2026-01-01T05` as UTC.

    Raises:
        ValueError: with the reason.
    """
    try:
        found = datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError("is no date") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)

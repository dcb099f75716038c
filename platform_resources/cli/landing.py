"""`sdp ingest` of a product that lands: which run it is, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platform_resources.cli.output import progress
from platform_resources.config import Settings
from platform_resources.contracts.model import Contract
from platform_resources.runs import REPORT, land_config, land_tags

if TYPE_CHECKING:
    from rich.console import Console

    from platform_resources.cli.foreground import Outcome

_NOTHING = {
    "read": 0, "inserted": 0, "duplicates": 0, "quarantined": 0, "late": 0, "commits": 0, "deliveries": 0, "slices": [], "refused": [],
    "resting": [], "absent": [], "refused_branch": None, "position": {},
}  # fmt: skip


@dataclass(frozen=True)
class Landed:
    """What the command answers: `shown` is its JSON, `looked` where it looked when nothing came."""

    contract: Contract
    shown: dict[str, Any]
    looked: str = ""

    def draw(self, console: Console, checks: Callable[[], None]) -> None:
        """For people; `checks` draws the results of the checks."""
        shown = self.shown
        names = ("deliveries", "read", "inserted", "quarantined", "commits")
        console.print(f"{self.contract.key}: " + ", ".join(f"{shown[name]:,} {name}" for name in names))
        if shown["slices"]:
            keys = shown["slices"]
            console.print(f"Slices: {', '.join(keys[:10])}" + (f" and {len(keys) - 10} more" if len(keys) > 10 else ""))
        if shown["quarantined"]:
            console.print(f"What was put aside: {self.contract.quarantine_identifier}", soft_wrap=True)
        if shown["skipped_checks"]:
            console.print(f"Published past {', '.join(shown['skipped_checks'])}; the commits and the run say so.")
        if self.looked:
            console.print(self.looked, soft_wrap=True)
        checks()


def land(settings: Settings, contract: Contract, *, partition: str | None, again: bool, skip: Sequence[str]) -> tuple[Outcome, Landed]:
    """Land in the foreground what is new, refused deliveries too; with `partition` these slices, also when they have landed; with `again`
    also what has records in the quarantine.

    A product with slices of which nothing is new needs no run.

    Raises:
        PlatformError: `partition-unknown`, or whatever keeps the source from being looked at.
    """
    from platform_resources.cli.foreground import Outcome, execute

    tags = land_tags(contract.key)
    if contract.slices is not None:
        keys = _keys(settings, contract, partition, again=again)
        if not keys:
            return _answer(settings, contract, Outcome("", "success"), skip)
        tags |= {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
    elif partition is not None:
        contract.slice_keys(partition)  # which has none, and says so
    config = land_config(contract.key, again=partition is not None, aside=again, retry=True, skip_checks=skip)
    with progress(f"landing {contract.key}"):
        outcome = execute(settings, contract, tags=tags, config=config)
    return _answer(settings, contract, outcome, skip)


def _answer(settings: Settings, contract: Contract, outcome: Outcome, skip: Sequence[str]) -> tuple[Outcome, Landed]:
    from platform_resources.landing.nothing_new import nothing_new

    shown = _shown(outcome, skip)
    came = shown["deliveries"] or shown["refused"] or shown["resting"]
    told = outcome.fault is None or bool(shown["absent"])  # what else kept files from coming says so itself
    return outcome, Landed(contract, shown, "" if came or not told else nothing_new(contract, settings))


def _keys(settings: Settings, contract: Contract, partition: str | None, *, again: bool) -> list[str]:
    from platform_resources.lakehouse.catalog import Lakehouse
    from platform_resources.landing.opening import open_source
    from platform_resources.landing.pending import landed_of, units

    if partition is not None:
        return contract.slice_keys(partition)
    lakehouse = Lakehouse(settings)
    aside = lakehouse.table(contract.quarantine_identifier) if again else None
    landed = landed_of(contract, lakehouse.table(contract.identifier), aside=aside)
    found = units(contract, open_source(contract, settings, looking=True), landed)
    slices = contract.slices
    return sorted({slices.key(unit.slice) for unit in found if unit.slice is not None}) if slices is not None else []


def _shown(outcome: Outcome, skip: Sequence[str]) -> dict[str, Any]:
    report = outcome.observed.get(REPORT) or {}
    shown = {**_NOTHING, **report, "run_id": outcome.run_id or None, "status": outcome.status, "checks": list(outcome.checks)}
    return {**shown, "skipped_checks": sorted(set(skip)), "error": outcome.error}

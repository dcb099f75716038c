"""`sdp run` of a product that publishes files: which run it is, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from platform_resources.cli.output import progress
from platform_resources.config import Settings
from platform_resources.contracts.model import Contract
from platform_resources.runs import publish_config, transform_tags

if TYPE_CHECKING:
    from rich.console import Console

    from platform_resources.cli.foreground import Outcome


@dataclass(frozen=True)
class Told:
    """What the command answers: `shown` is its JSON."""

    contract: Contract
    shown: dict[str, Any]

    def draw(self, console: Console, checks: Callable[[], None]) -> None:
        """For people; `checks` draws the results of the checks."""
        shown = self.shown
        if not shown["slices"]:
            console.print(f"{self.contract.key}: the newest dump is published.")
        elif shown["status"] == "success":
            dates = " to ".join(dict.fromkeys((shown["slices"][0], shown["slices"][-1])))
            counts = f"{shown['files']:,} files of {shown['bytes']:,} bytes, {shown['pages']:,} pages and {shown['revisions']:,} revisions"
            console.print(f"{self.contract.key}: {dates} published in {shown['place']}; the last has {counts}.", soft_wrap=True)
        checks()


def publish(settings: Settings, contract: Contract, *, partition: str | None, anew: bool) -> tuple[Outcome, Told]:
    """Publish in the foreground: the newest dump, unless it is there; with `partition` these dates, also where they are.

    Raises:
        PlatformError: `partition-unknown`, `slice-future`, `slice-aged`.
    """
    from platform_resources.cli.foreground import Outcome, execute
    from platform_resources.lakehouse.catalog import Lakehouse
    from platform_resources.serving.publishing import due, start_of

    if partition is not None:
        keys = contract.slice_keys(partition)
        for key in keys:  # before a run is made of it, whose failure would be mailed
            start_of(contract, key, datetime.now(UTC))
    else:
        newest = due(contract, Lakehouse(settings).table(contract.identifier), datetime.now(UTC))
        keys = [newest] if newest is not None else []
    if not keys:
        outcome = Outcome("", "success")
        return outcome, Told(contract, _shown(settings, contract, outcome, keys))
    span = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
    with progress(f"publishing {contract.key}"):
        outcome = execute(settings, contract, tags={**transform_tags(contract.key), **span}, config=publish_config(contract.key, anew=anew))
    return outcome, Told(contract, _shown(settings, contract, outcome, keys))


def _shown(settings: Settings, contract: Contract, outcome: Outcome, keys: list[str]) -> dict[str, Any]:
    from platform_resources.serving.outlets import outlet_address

    facts = outcome.facts
    return {
        "run_id": outcome.run_id or None,
        "status": outcome.status,
        "slices": keys,
        "place": outlet_address(contract, settings),
        "files": facts.get("sdp/files", 0),
        "files_kept": facts.get("sdp/files_kept", 0),
        "files_removed": facts.get("sdp/files_removed", 0),
        "bytes": facts.get("sdp/published_bytes", 0),
        "pages": facts.get("sdp/pages", 0),
        "revisions": facts.get("sdp/revisions", 0),
        "snapshot_id": facts.get("sdp/snapshot_id"),
        "checks": list(outcome.checks),
        "error": outcome.error,
        "refused_branch": outcome.refused_branch,
    }

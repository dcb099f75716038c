"""A process that maintains one table, for the kill tests: `HOME RETENTION_DAYS [--now SECONDS_AHEAD]`, once, with all actions."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from platform_resources.config import SOURCE_ROOT, Settings
from platform_resources.contracts.registry import Registry
from platform_resources.lakehouse import orphans
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.health import Policy
from platform_resources.maintenance import Maintained, Maintenance


def main(home: str, days: str, ahead: str = "0") -> None:
    lakehouse = Lakehouse(Settings(home=Path(home)))
    now = datetime.now(UTC) + timedelta(seconds=float(ahead))
    if ahead != "0":
        orphans._storage_time = lambda _table: now  # the storage's clock goes along
    work = Maintenance(lakehouse, Registry.load(SOURCE_ROOT), "maintainer", clock=lambda: now)
    policy = Policy(timedelta(days=float(days)), ("dt",), history=timedelta(seconds=1))
    for _ in range(2):  # the second round sees what the first one left
        for fact in work.maintain(Maintained("shop/orders", "shop.orders", policy), orphans=ahead != "0"):
            print(fact.action, fact.outcome, fact.error or "", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

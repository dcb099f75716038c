"""What thousands of small commits leave behind is gone after maintenance: files near the target size, no more storage than live data."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from platform_resources.contracts.registry import Registry
from platform_resources.lakehouse import orphans
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.health import Policy
from platform_resources.lakehouse.orphans import list_files
from platform_resources.lakehouse.reading import arrow_table
from platform_resources.lakehouse.staging import publish, stage_append
from platform_resources.lakehouse.stamp import Stamp
from platform_resources.maintenance import Maintained, Maintenance
from tests.lakehouse.tables import table_of
from tests.maintenance.tables import assert_whole, events, sizes

TARGET = 4 << 20
LATER = datetime.now(UTC) + timedelta(days=7)


def _rows(number: int, count: int) -> pa.Table:
    draw = np.random.default_rng(number)
    at = np.datetime64("2026-01-01T00:00:00", "us") + draw.integers(0, 86_400_000_000, count).astype("timedelta64[us]")
    return pa.table({
        "id": pa.array(np.arange(number * count, (number + 1) * count)),
        "dt": pa.array(at).cast(pa.timestamp("us", tz="UTC")),
        "text": pa.array(draw.random(count)).cast(pa.string()),
    })  # fmt: skip


def _maintained(lakehouse: Lakehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphans, "_storage_time", lambda _table: LATER)
    work = Maintenance(lakehouse, Registry.load(lakehouse.settings.project), "maintenance", clock=lambda: LATER)
    for _ in range(2):  # the second look sees what the first one made superfluous
        assert all(fact.outcome != "failed" for fact in work.maintain(Maintained("shop/orders", "shop.orders", Policy()), orphans="proof"))


@pytest.mark.parametrize(("commits", "each"), [(12, 20_000), pytest.param(2_000, 1_000, marks=pytest.mark.storm)])
def test_many_small_commits_are_as_good_as_one(lakehouse: Lakehouse, commits: int, each: int, monkeypatch: pytest.MonkeyPatch) -> None:
    definition = events(properties={"write.target-file-size-bytes": str(TARGET), "write.parquet.compression-codec": "zstd"})
    for number in range(commits):
        publish(stage_append(lakehouse, definition, _rows(number, each), Stamp("writer")))
    _maintained(lakehouse, monkeypatch)
    table = table_of(lakehouse, definition)
    live = sizes(lakehouse)
    stored = sum(size for _, size, _ in list_files(table))
    assert arrow_table(table).column("id").to_numpy().sum() == sum(range(commits * each))
    assert len(live) <= sum(live) // (TARGET // 2) + 1 and max(live) <= 2 * TARGET
    assert stored <= 1.1 * sum(live)
    head = table.current_snapshot()
    assert head is not None and sum(one.deleted_files_count or 0 for one in head.manifests(table.io)) < 100
    assert_whole(table)

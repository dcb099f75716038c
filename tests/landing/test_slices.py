"""Landing by slices: each slice whole, corrected and late ones, ranges; rows with a validity equal a plain-Python model."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platform_resources.config import Settings
from platform_resources.contracts.model import Domain
from platform_resources.contracts.reading import read_contract
from platform_resources.contracts.slices import Slices, cadence_of, placeholders
from platform_resources.errors import PlatformError
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.landing.pending import outlook
from tests.landing.drops import BAD, BROKEN, SLICED, Shop

VALIDITY = {**SLICED, "custom": "{property: validity, value: true}"}


def test_a_slice_is_replaced_whole_by_all_of_its_deliveries(shop: Shop) -> None:
    shop.define(**SLICED)
    shop.files.update({"2026-01-01/a.csv": [(1, "new")], "2026-01-01/b.csv": [(2, "new"), BAD], "2026-01-02/a.csv": [(1, "paid")]})
    report = shop.land()
    assert (report.commits, report.deliveries, report.slices) == (2, 3, ["2026-01-01", "2026-01-02"])
    assert shop.rows("order_id", "state", "_slice") == [
        (1, "new", date(2026, 1, 1)), (1, "paid", date(2026, 1, 2)), (2, "new", date(2026, 1, 1)),
    ]  # fmt: skip
    shop.files["2026-01-01/a.csv"] = [(3, "new")]
    report = shop.land()
    assert (report.commits, report.slices) == (1, ["2026-01-01"])
    assert shop.rows() == [(1, "paid"), (2, "new"), (3, "new")]
    assert shop.aside() == [("2026-01-01/b.csv", 2, "type-mismatch")]


def test_a_late_slice_lands_in_its_place_and_makes_nothing_fresh(shop: Shop) -> None:
    shop.define(**SLICED)
    shop.files["2026-01-05/a.csv"] = [(1, "paid")]
    assert shop.land().watermark == datetime(2026, 1, 6, tzinfo=UTC)
    shop.files["2026-01-03/a.csv"] = [(1, "new")]
    report = shop.land()
    assert (report.slices, report.watermark) == (["2026-01-03"], datetime(2026, 1, 6, tzinfo=UTC))
    assert len(shop.rows()) == 2


def test_what_lies_before_the_first_slice_does_not_land(shop: Shop) -> None:
    shop.define(**SLICED)
    shop.files.update({"2025-12-31/a.csv": [(1, "old")], "2026-01-01/a.csv": [(2, "new")]})
    shop.land()
    assert shop.rows() == [(2, "new")]


def test_a_slice_with_a_bad_delivery_stays_as_it_was(shop: Shop) -> None:
    shop.define(**SLICED)
    shop.files["2026-01-01/a.csv"] = [(1, "new")]
    shop.land()
    shop.files["2026-01-01/b.csv"] = [BROKEN]
    shop.files["2026-01-02/a.csv"] = [(2, "new")]
    report = shop.land()
    assert [one.slice for one in report.refused] == ["2026-01-01", "2026-01-01"]
    assert shop.rows() == [(1, "new"), (2, "new")]


def test_asked_for_slices_land_again_and_absent_ones_are_named(shop: Shop) -> None:
    shop.define(**SLICED)
    shop.files.update({f"2026-01-0{day}/a.csv": [(day, "new")] for day in (1, 2, 4)})
    shop.land()
    shop.drops.reads.clear()
    report = shop.land(keys=shop.contract.slice_keys("2026-01-02..2026-01-04"), again=True)
    assert (report.slices, report.absent, shop.drops.reads) == (
        ["2026-01-02", "2026-01-04"],
        ["2026-01-03"],
        ["2026-01-02/a.csv", "2026-01-04/a.csv"],
    )
    assert shop.rows() == shop.expected()


def test_appended_slices_land_by_delivery(shop: Shop) -> None:
    shop.define(**SLICED, custom="{property: writeMode, value: append}")
    shop.files.update({"2026-01-01/a.csv": [(1, "new")], "2026-01-01/b.csv": [BROKEN]})
    shop.land()
    assert shop.rows() == [(1, "new")]


def test_a_slice_keeps_its_declared_partitions(shop: Shop) -> None:
    shop.define(**SLICED)
    text = (
        (shop.contract.path)
        .read_text()
        .replace("{name: state, logicalType: string,", "{name: state, logicalType: string, partitioned: true,")
    )
    shop.contract.path.write_text(text)
    contract, problems = read_contract(
        shop.contract.path, domain=Domain("shop", shop.contract.path.parent, owners=("team:x",)), project=shop.settings.project
    )
    assert contract is not None, problems
    shop.contract = shop.drops.contract = contract
    shop.files.update({"2026-01-01/a.csv": [(1, "new"), (2, "paid")], "2026-01-02/a.csv": [(1, "paid")]})
    shop.land()
    shop.files["2026-01-01/a.csv"] = [(1, "new")]
    shop.land()
    assert shop.rows() == [(1, "new"), (1, "paid")]


@pytest.mark.parametrize(
    ("cadence", "start", "key", "end"),
    [
        ("hourly", "2026-01-01T05", "2026-01-01T05", "2026-01-01T06"),
        ("daily", "2026-01-31", "2026-01-31", "2026-02-01"),
        ("weekly", "2026-01-05", "2026-01-05", "2026-01-12"),
        ("monthly", "2026-12-01", "2026-12", "2027-01"),
        ("yearly", "2026-01-01", "2026", "2027"),
    ],
)
def test_keys_of_slices(cadence: str, start: str, key: str, end: str) -> None:
    first = datetime.fromisoformat(start).replace(tzinfo=UTC)
    slices = Slices(cadence, first)
    assert slices.key(first) == key
    assert slices.at(key) == first
    assert slices.key(slices.end(first)) == end
    assert slices.floor(slices.end(first).replace(minute=0)) == slices.end(first)
    assert slices.between(key, end) == [key, end]


def test_a_dated_path_tells_its_cadence() -> None:
    assert cadence_of(placeholders("{slice:%Y}/{slice:%m-%d}/x-{slice:%Y%m%d}.csv")) == "daily"
    assert cadence_of(placeholders("pageviews-{slice:%Y%m%d-%H}0000.gz")) == "hourly"
    assert cadence_of(placeholders("{slice:%Y-%m}.csv")) == "monthly"
    assert cadence_of(placeholders("{slice:%m-%d}.csv")) is None
    assert cadence_of(placeholders("orders.csv")) is None


@pytest.mark.parametrize("text", ["2026-13-01", "2025-12-31", "2026-01-02..2026-01-01", "yesterday", "2026-1-1"])
def test_a_partition_that_is_none_is_refused_with_an_example(shop: Shop, text: str) -> None:
    shop.define(**SLICED)
    with pytest.raises(PlatformError) as caught:
        shop.contract.slice_keys(text)
    assert caught.value.code == "partition-unknown"
    assert "2026-01-01..2026-01-02" in caught.value.remedy


# Rows with a validity


def _periods(shop: Shop) -> list[tuple[Any, ...]]:
    rows = shop.rows("order_id", "state", "amount", "_valid_from", "_valid_to")
    return [(*row[:3], row[3].day, row[4].day if row[4] else None) for row in rows]


def test_changed_rows_end_and_begin_and_the_others_are_not_touched(shop: Shop) -> None:
    shop.define(**VALIDITY)
    shop.files["2026-01-01/a.csv"] = [(1, "new"), (2, "new"), (3, "new")]
    shop.land()
    shop.files["2026-01-02/a.csv"] = [(1, "new"), (2, "paid"), (4, "new")]
    shop.land()
    assert _periods(shop) == [
        (1, "new", None, 1, None), (2, "new", None, 1, 2), (2, "paid", None, 2, None), (3, "new", None, 1, 2), (4, "new", None, 2, None),
    ]  # fmt: skip
    assert (1, "2026-01-01/a.csv") in shop.rows("order_id", "_file_name")


def test_an_older_slice_than_the_newest_is_refused_and_the_newer_ones_go_on(shop: Shop) -> None:
    shop.define(**VALIDITY)
    shop.files["2026-01-02/a.csv"] = [(1, "new")]
    shop.land()
    shop.files["2026-01-01/a.csv"] = [(1, "old")]
    shop.files["2026-01-03/a.csv"] = [(1, "paid")]
    report = shop.land()
    assert [(one.slice, one.code) for one in report.refused] == [("2026-01-01", "slice-late")]
    assert "2026-01-02 had landed" in report.refused[0].message
    assert _periods(shop) == [(1, "new", None, 2, 3), (1, "paid", None, 3, None)]


def test_slices_behind_a_bad_one_wait_for_it(shop: Shop) -> None:
    shop.define(**VALIDITY)
    shop.files.update({"2026-01-01/a.csv": [(1, "new")], "2026-01-02/a.csv": [BROKEN], "2026-01-03/a.csv": [(1, "paid")]})
    shop.land()
    assert _periods(shop) == [(1, "new", None, 1, None)]
    found = outlook(shop.contract, shop.lakehouse, shop.settings, now=shop.now, source=shop.drops)
    assert (list(found.units), len(found.resting)) == ([], 1)
    assert shop.land().commits == 0
    shop.files["2026-01-02/a.csv"] = [(1, "sent")]
    shop.land()
    assert _periods(shop) == [(1, "new", None, 1, 2), (1, "paid", None, 3, None), (1, "sent", None, 2, 3)]


def _model(days: list[dict[int, tuple[str, int | None]]]) -> list[tuple[Any, ...]]:
    """Periods of each key, from full snapshots in order: what the definition says, in the plainest Python."""
    periods: list[list[Any]] = []
    held: dict[int, list[Any]] = {}
    for day, snapshot in enumerate(days, start=1):
        for key in list(held):
            if snapshot.get(key) != tuple(held[key][1:3]):
                held.pop(key)[4] = day
        for key, value in snapshot.items():
            if key not in held:
                held[key] = [key, *value, day, None]
                periods.append(held[key])
    return sorted((tuple(period) for period in periods), key=repr)


_snapshots = st.lists(
    st.dictionaries(st.integers(1, 5), st.tuples(st.sampled_from(["new", "paid"]), st.one_of(st.none(), st.integers(0, 2)))),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize("examples", [4, pytest.param(60, marks=pytest.mark.storm)])
def test_validity_equals_the_model_also_when_the_newest_slice_is_corrected(tmp_path_factory: pytest.TempPathFactory, examples: int) -> None:
    settings(max_examples=examples, deadline=None)(_equals_the_model)(tmp_path_factory)


@given(days=_snapshots, wrong=st.dictionaries(st.integers(1, 5), st.tuples(st.just("odd"), st.none())))
def _equals_the_model(
    tmp_path_factory: pytest.TempPathFactory, days: list[dict[int, tuple[str, int | None]]], wrong: dict[int, tuple[str, None]]
) -> None:
    folder = tmp_path_factory.mktemp("validity")
    home = Settings(project=folder, home=folder / "home", duckdb_threads=1)
    shop = Shop(home, Lakehouse(home)).define(**VALIDITY)
    for day, snapshot in enumerate(days, start=1):
        name = f"2026-01-0{day}/a.csv"
        for version in (wrong, snapshot) if day == len(days) else (snapshot,):
            shop.files[name] = [(key, *value) for key, value in version.items()]
            shop.land()
    assert sorted(_periods(shop), key=repr) == _model(days)

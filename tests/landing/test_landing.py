"""Landing without slices: each delivery once and whole, corrected ones in place of themselves, bad records and deliveries put aside."""

from __future__ import annotations

from datetime import timedelta

import pytest

from platform_resources.errors import PlatformError
from platform_resources.lakehouse.stamp import read_watermark
from platform_resources.landing import landing as landings
from platform_resources.landing.landing import Landing
from platform_resources.landing.quarantine import refused_deliveries
from tests.landing.drops import BAD, BROKEN, NOW, SLICED, Shop


def test_each_delivery_lands_once_with_its_name_version_and_line(shop: Shop) -> None:
    shop.files.update({"a.csv": [(1, "new"), (2, "paid")], "b.csv": [(3, "new")]})
    report = shop.land()
    assert (report.read, report.inserted, report.quarantined, report.commits, report.deliveries) == (3, 3, 0, 2, 2)
    assert shop.rows("order_id", "_file_name", "_file_hash", "_line") == [
        (1, "a.csv", shop.drops.version("a.csv"), 1),
        (2, "a.csv", shop.drops.version("a.csv"), 2),
        (3, "b.csv", shop.drops.version("b.csv"), 1),
    ]
    assert shop.position() == {"files": {name: shop.drops.version(name) for name in shop.files}}
    before = shop.snapshots()
    assert shop.land().commits == 0
    assert (shop.snapshots(), shop.drops.reads) == (before, ["a.csv", "b.csv"])


def test_a_corrected_file_replaces_its_rows_and_what_was_put_aside_of_it(shop: Shop) -> None:
    shop.files.update({"a.csv": [(1, "new"), (2, "paid"), BAD], "b.csv": [(3, "new"), BAD]})
    shop.land()
    assert shop.aside() == [("a.csv", 3, "type-mismatch"), ("b.csv", 2, "type-mismatch")]
    shop.files["a.csv"] = [(2, "paid"), (4, "new")]
    report = shop.land()
    assert report.deliveries == 1
    assert shop.rows() == [(2, "paid"), (3, "new"), (4, "new")]
    assert shop.aside() == [("b.csv", 2, "type-mismatch")]


def test_a_bad_record_goes_to_quarantine_with_its_line_and_the_rest_lands(shop: Shop) -> None:
    shop.files["a.csv"] = [(1, "new"), BAD, (2, "paid"), (None, "lost"), (3, "new")]
    report = shop.land()
    assert (report.read, report.inserted, report.quarantined) == (5, 3, 2)
    assert shop.rows("order_id", "_line") == [(1, 1), (2, 3), (3, 5)]
    assert shop.aside("_line", "reason", "path", "raw") == [
        (2, "type-mismatch", "amount", b"raw"),
        (4, "schema-violation", "order_id", b'{"order_id":null,"state":"lost","amount":null,"at":null}'),
    ]


def test_a_row_that_breaks_a_row_wise_rule_is_put_aside_by_the_rules_name(shop: Shop) -> None:
    shop.define(state="{name: known, metric: invalidValues, arguments: {validValues: [new, paid]}, mustBe: 0}")
    shop.files["a.csv"] = [(1, "new"), (2, "odd")]
    report = shop.land()
    assert shop.rows() == [(1, "new")]
    assert shop.aside() == [("a.csv", 2, "check:known")]
    assert [(outcome.check.name, outcome.measured) for outcome in report.checks] == [("known", 1.0)]


def test_a_bad_delivery_is_refused_whole_and_the_others_land(shop: Shop) -> None:
    shop.files.update({"a.csv": [(1, "new"), BAD, (2, "new"), (3, "new"), BROKEN], "b.csv": [(4, "new")]})
    report = shop.land()
    assert [(one.delivery, one.code) for one in report.refused] == [("a.csv", "file-broken")]
    assert shop.rows() == [(4, "new")]
    assert shop.aside("_file_name", "_line", "reason", "detail") == [
        ("a.csv", None, "file-broken", "a.csv ends in the middle. Copy it again.")
    ]
    assert shop.position() == {"files": {"b.csv": shop.drops.version("b.csv")}}


def test_a_refused_delivery_rests_longer_each_time_until_it_or_the_contract_changes(shop: Shop) -> None:
    shop.files["a.csv"] = [(1, "new"), BROKEN]
    until = shop.land().refused[0].until
    assert until - shop.now == timedelta(minutes=1)
    assert (shop.land().resting, shop.drops.reads) == (["a.csv"], ["a.csv"])
    shop.now += timedelta(minutes=1)
    again = shop.land().refused[0].until
    assert again - shop.now == timedelta(minutes=2)
    assert shop.aside() == [("a.csv", None, "file-broken")]
    shop.define(custom="{property: sortOrder, value: [state]}")
    assert [one.delivery for one in shop.land().refused] == ["a.csv"]
    shop.files["a.csv"] = [(1, "new")]
    assert shop.land().refused == []
    assert (shop.rows(), shop.aside()) == ([(1, "new")], [])


def test_a_run_in_which_all_is_refused_ends(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landings, "MOST_REFUSED", 3)
    shop.files.update({f"{number}.csv": [BROKEN] for number in range(5)})
    with pytest.raises(PlatformError, match="first 3 deliveries of shop/orders were refused and none landed") as caught:
        shop.land()
    assert (caught.value.code, len(shop.aside())) == ("all-refused", 3)
    shop.files["0.csv"] = [(1, "new")]
    assert len(shop.land(retry=True).refused) == 4


def test_a_refused_delivery_that_has_gone_is_forgotten(shop: Shop) -> None:
    shop.files["a.csv"] = [BROKEN]
    shop.land()
    del shop.files["a.csv"]
    shop.now += timedelta(days=2)
    shop.files["b.csv"] = [BROKEN]
    shop.land()
    assert set(refused_deliveries(shop.lakehouse.table(shop.contract.quarantine_identifier))) == {"b.csv"}


def test_a_refused_delivery_can_be_tried_at_once(shop: Shop) -> None:
    shop.files["a.csv"] = [BROKEN]
    shop.land()
    assert len(shop.land(retry=True).refused) == 1


def test_a_delivery_that_breaks_an_aggregate_rule_is_kept_on_a_branch_and_not_published(shop: Shop) -> None:
    shop.define(quality="{name: some_rows, metric: rowCount, mustBeGreaterThan: 1}")
    shop.files.update({"a.csv": [(1, "new")], "b.csv": [(2, "new"), (3, "new")], "c.csv": [(4, "odd")]})
    report = shop.land()
    assert [(one.delivery, one.code, one.branch, one.checks) for one in report.refused] == [
        ("a.csv", "check:some_rows", "refused/run-1", ("some_rows",)),
        ("c.csv", "check:some_rows", "refused/run-1-2", ("some_rows",)),
    ]
    assert shop.rows() == [(2, "new"), (3, "new")]
    table = shop.lakehouse.table("shop.orders")
    assert table is not None
    assert {"refused/run-1", "refused/run-1-2"} <= set(table.metadata.refs)
    shop.land(retry=True, skip_checks=["some_rows"])
    assert (shop.rows(), shop.aside()) == (shop.expected(), [])


def test_the_watermark_is_when_nothing_was_left(shop: Shop) -> None:
    shop.files["a.csv"] = [(1, "new")]
    assert shop.land().watermark == shop.now
    shop.files.update({"b.csv": [(2, "new")], "c.csv": [BROKEN]})
    before = shop.now
    assert shop.land().watermark == before


def test_a_named_event_time_is_the_watermark(shop: Shop) -> None:
    shop.define(custom="{property: eventTime, value: at}")
    shop.files.update({"a.csv": [(1, "new", 1, NOW), (2, "new", 1, None)], "b.csv": [(3, "new", 1, NOW - timedelta(days=9))]})
    assert shop.land().watermark == NOW


def test_an_idle_drop_with_a_promise_says_so_at_most_once_in_half_of_it(shop: Shop) -> None:
    import dataclasses

    shop.files["a.csv"] = [(1, "new")]
    shop.contract = dataclasses.replace(shop.contract, sla=dataclasses.replace(shop.contract.sla, latency=timedelta(hours=1)))
    shop.land()
    shop.now = shop.now.now(tz=shop.now.tzinfo)
    assert shop.land().commits == 0
    shop.now += timedelta(minutes=31)
    assert shop.land().commits == 1
    table = shop.lakehouse.table("shop.orders")
    assert table is not None
    assert read_watermark(table) == shop.now


def test_rows_are_merged_by_key_where_the_contract_says_so(shop: Shop) -> None:
    newest = "{property: sequence, value: [amount]}, {property: deleteMarker, value: state=gone}"
    shop.define(custom="{property: writeMode, value: merge}, " + newest)
    shop.files["a.csv"] = [(1, "new", 1), (2, "new", 1)]
    shop.land()
    shop.files["b.csv"] = [(1, "paid", 2), (2, "gone", 2), (3, "new", 1), (3, "late", 0)]
    shop.land()
    assert shop.rows() == [(1, "paid"), (3, "new")]


def test_a_key_twice_in_a_merged_file_refuses_the_file(shop: Shop) -> None:
    shop.define(custom="{property: writeMode, value: merge}", **SLICED)
    shop.files.update({"2026-01-01/a.csv": [(1, "new"), (1, "paid")], "2026-01-02/b.csv": [(2, "new")]})
    assert [(one.delivery, one.code) for one in shop.land().refused] == [("2026-01-01/a.csv", "merge-duplicate-key")]
    assert shop.rows() == [(2, "new")]


def test_a_slice_that_is_mended_late_does_not_undo_a_newer_one(shop: Shop) -> None:
    shop.define(custom="{property: writeMode, value: merge}", **SLICED)
    shop.files.update({"2026-01-01/a.csv": [(1, "old"), (2, "old"), BROKEN], "2026-01-02/a.csv": [(1, "new")]})
    shop.land()
    shop.files["2026-01-01/a.csv"] = [(1, "old"), (2, "old")]
    shop.land()
    assert shop.rows() == [(1, "new"), (2, "old")]
    shop.files["2026-01-02/a.csv"] = [(1, "newest")]
    shop.land()
    assert shop.rows() == [(1, "newest"), (2, "old")]


def test_merged_files_need_an_order_of_their_own(shop: Shop) -> None:
    with pytest.raises(AssertionError, match="contract-merge-order"):
        shop.define(custom="{property: writeMode, value: merge}")
    shop.define(custom="{property: writeMode, value: merge}", path="orders.csv")  # there is but one
    shop.define(custom="{property: writeMode, value: merge}, {property: sequence, value: [at]}")


@pytest.mark.parametrize("bad", [[], [BAD]])
def test_a_second_landing_is_fenced_and_writes_nothing(shop: Shop, bad: list[str]) -> None:
    """Two runs see the same file; the one that commits second must not land it again."""
    shop.files["a.csv"] = [(1, "new"), *bad]
    first = shop.drops.read
    ran = []

    def read(delivery: object) -> object:
        if not ran:
            ran.append(True)
            assert shop.land(run_id="overtaking").commits == 1
        return first(delivery)  # type: ignore[arg-type]

    shop.drops.read = read  # type: ignore[assignment, method-assign]
    report = shop.land(run_id="overtaken")
    assert (report.superseded, report.commits) == (True, 0)
    assert (shop.rows(), shop.aside()) == ([(1, "new")], [("a.csv", 2, "type-mismatch") for _ in bad])


def test_a_product_that_does_not_land_is_told_so(shop: Shop) -> None:
    import dataclasses

    contract = dataclasses.replace(shop.contract, source=None)
    with pytest.raises(PlatformError, match="nothing to land") as caught:
        Landing(contract, lakehouse=shop.lakehouse, settings=shop.settings, run_id="r")
    assert caught.value.code == "not-landed"

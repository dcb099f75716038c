"""Files from a drop folder into tables: what a column may hold, what nobody declared, every digit, however many files there were."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from platform_resources.config import Settings
from platform_resources.contracts.model import Contract
from platform_resources.errors import PlatformError
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.history import roll_back
from platform_resources.lakehouse.orphans import remove_orphans
from platform_resources.lakehouse.reading import arrow_table
from platform_resources.lakehouse.stamp import read_position
from platform_resources.landing import files, settled
from platform_resources.landing import landing as landings
from platform_resources.landing.landing import Landing
from platform_resources.landing.limits import Limits
from platform_resources.landing.pending import outlook
from platform_resources.landing.reports import LandingReport
from tests.landing.drops import BAD, Shop
from tests.landing.server_contracts import server_contract

ID = "name: id, logicalType: integer"


class Dropped:
    """A product of files in the drop folder: what lies there, its landings, looks at its tables."""

    def __init__(self, settings: Settings, lakehouse: Lakehouse, contract: Contract) -> None:
        self.settings, self.lakehouse, self.contract, self._runs = settings, lakehouse, contract, 0
        self.folder = settings.drop_path / "shop"
        self.folder.mkdir(parents=True, exist_ok=True)

    def put(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def land(self, **options: Any) -> LandingReport:
        self._runs += 1
        return Landing(
            self.contract, lakehouse=self.lakehouse, settings=self.settings, run_id=f"run-{self._runs}", **options
        ).run()  # fmt: skip

    def rows(self, *columns: str) -> list[tuple[Any, ...]]:
        return self._read(self.contract.identifier, columns)

    def aside(self, *columns: str) -> list[tuple[Any, ...]]:
        return self._read(self.contract.quarantine_identifier, columns or ("_file_name", "_line", "reason", "path"))

    def _read(self, identifier: str, columns: tuple[str, ...]) -> list[tuple[Any, ...]]:
        table = self.lakehouse.table(identifier)
        found = [] if table is None else arrow_table(table).to_pylist()
        return sorted((tuple(row[name] for name in columns) for row in found), key=repr)

    def position(self) -> dict[str, Any]:
        table = self.lakehouse.table(self.contract.identifier)
        assert table is not None
        return dict(read_position(table) or {})


@pytest.fixture
def dropped(settings: Settings, lakehouse: Lakehouse) -> Callable[..., Dropped]:
    def make(*columns: str, product: dict[str, Any] | None = None, **server: Any) -> Dropped:
        server = {"path": "*.csv", "complete": "0 seconds", **server}
        return Dropped(settings, lakehouse, server_contract("files", *columns, product=product, **server))

    return make


# --- one landing at a time


def test_an_overtaken_landing_puts_nothing_aside(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has read a bad line and is about to say so; meanwhile the file is mended, and lands without any."""
    shop.files["a.csv"] = [(1, "new"), BAD]
    publish = landings.publish

    def late(*given: Any) -> Any:
        monkeypatch.setattr(landings, "publish", publish)
        shop.files["a.csv"] = [(1, "mended")]
        assert shop.land(run_id="overtaking").commits == 1
        return publish(*given)

    monkeypatch.setattr(landings, "publish", late)
    report = shop.land(run_id="overtaken")
    assert (report.superseded, report.commits) == (True, 0)
    assert (shop.rows(), shop.aside()) == ([(1, "mended")], [])


# --- many files


def test_the_position_does_not_grow_with_every_file(dropped: Callable[..., Dropped], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settled, "RECENT", 4)
    one = dropped(ID)
    for number in range(11):
        one.put(f"{number}.csv", f"id\n{number}\n")
    one.put("empty.csv", "id\n")
    assert one.land().deliveries == 12
    assert len(one.position()["files"]) <= 4
    assert one.land().deliveries == 0
    settled._known.clear()  # as another process
    one.put("1.csv", "id\n100\n")
    one.put("new.csv", "id\n50\n")
    assert one.land().deliveries == 2
    assert one.land().deliveries == 0
    assert one.rows("id") == sorted(((number,) for number in (0, 100, *range(2, 11), 50)), key=repr)


def test_a_rollback_rewinds_what_has_landed_and_its_file_is_no_orphan(
    dropped: Callable[..., Dropped], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settled, "RECENT", 1)
    one = dropped(ID)
    for number in range(4):
        one.put(f"{number}.csv", f"id\n{number}\n")
        one.land()
    table = one.lakehouse.table(one.contract.identifier)
    assert table is not None
    roll_back(
        one.lakehouse,
        one.contract.identifier,
        [s for s in table.metadata.snapshots if int(s.summary["total-records"]) == 2][-1].snapshot_id,
        run_id="back",
    )
    settled._known.clear()
    removed = remove_orphans(one.lakehouse, one.contract.identifier, now=datetime.now().astimezone() + timedelta(days=9), dry_run=True)
    assert (removed.files, len(one.rows("id"))) == (0, 2)
    assert one.land().deliveries == 2
    assert one.rows("id") == [(0,), (1,), (2,), (3,)]


def test_a_lost_position_is_told(dropped: Callable[..., Dropped], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settled, "RECENT", 0)
    one = dropped(ID)
    one.put("a.csv", "id\n1\n")
    one.land()
    settled._known.clear()
    table = one.lakehouse.table(one.contract.identifier)
    assert table is not None
    Path(f"{table.location()}/{one.position()['settled']}".removeprefix("file://")).unlink()
    with pytest.raises(PlatformError, match=r"which says what has landed in shop\.orders, is gone"):
        one.land()


def test_a_look_does_not_read_big_files(dropped: Callable[..., Dropped], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LOOK_BYTES", 100)
    monkeypatch.setattr(files, "_CLOCK_STEP", timedelta(0))
    one = dropped(ID)
    one.put("a.csv", "id\n1\n")
    one.land()
    one.put("big.csv", "id\n" + "7\n" * 100)
    read: list[str] = []
    finish = files.Hashed.finish
    monkeypatch.setattr(files.Hashed, "finish", lambda hashed: read.append("") or finish(hashed))

    def waiting() -> list[str]:
        found = outlook(one.contract, one.lakehouse, one.settings, now=datetime.now().astimezone())
        return [delivery.name for unit in found.units for delivery in unit.deliveries]

    assert (waiting(), read) == (["big.csv"], [])
    one.put("small.csv", "id\n3\n")
    assert (waiting(), read) == (["big.csv", "small.csv"], [""])
    one.land()
    assert waiting() == []


# --- what a column may hold

STATE = "name: state, logicalType: string, enum: [{value: new}, {value: paid}]"
CODE = "name: code, logicalType: string, logicalTypeOptions: {pattern: '^[A-Z]+$', minLength: 2, maxLength: 3}"
AMOUNT = "name: amount, logicalType: number, physicalType: 'decimal(9,2)', logicalTypeOptions: {minimum: 0, exclusiveMaximum: 100}"
DAY = "name: day, logicalType: date, logicalTypeOptions: {minimum: '2026-01-01'}"


def test_a_value_that_its_column_may_not_hold_is_put_aside(dropped: Callable[..., Dropped]) -> None:
    one = dropped(ID, STATE, CODE, AMOUNT, DAY)
    good = ["1,new,AB,0,2026-01-01", "2,paid,ABC,99.99,2027-01-01", "3,,,,"]
    bad = {
        "4,odd,AB,1,2026-01-01": "state",
        "5,new,Ab,1,2026-01-01": "code",
        "6,new,A,1,2026-01-01": "code",
        "7,new,ABCD,1,2026-01-01": "code",
        "8,new,AB,-0.01,2026-01-01": "amount",
        "9,new,AB,100,2026-01-01": "amount",
        "10,new,AB,1,2025-12-31": "day",
    }
    one.put("a.csv", "\n".join(["id,state,code,amount,day", *good, *bad]))
    report = one.land()
    assert (report.read, report.inserted, report.quarantined) == (10, 3, 7)
    assert one.rows("id") == [(1,), (2,), (3,)]
    assert one.aside() == sorted((("a.csv", line, "schema-violation", path) for line, path in enumerate(bad.values(), 5)), key=repr)
    assert ("state is none of new, paid.",) in one.aside("detail")


@pytest.mark.parametrize(
    ("column", "good", "bad"),
    [
        ("name: c, logicalType: array, items: {logicalType: integer, logicalTypeOptions: {maximum: 3}}",
         [[], [1, None, 3], None], [[4], [1, 9]]),
        ("name: c, logicalType: array, logicalTypeOptions: {minItems: 1, uniqueItems: true}, items: {logicalType: string}",
         [["a"], ["a", "b", None]], [[], ["a", "a"]]),
        ("name: c, logicalType: object, properties: [{name: d, logicalType: array, items: {logicalType: object, properties: "
         "[{name: e, logicalType: string, enum: [{value: x}]}]}}]", [{"d": [{"e": "x"}, {"e": None}]}, {"d": None}], [{"d": [{"e": "y"}]}]),
        ("name: c, logicalType: number, logicalTypeOptions: {multipleOf: 0.1}", [0.3, -7.0], [0.25]),
        ("name: c, logicalType: timestamp, logicalTypeOptions: {maximum: '2026-01-01T00:00:00Z'}",
         [datetime.fromisoformat("2026-01-01T00:00:00Z")], [datetime.fromisoformat("2026-01-01T00:00:01Z")]),
    ],
)  # fmt: skip
def test_constraints_hold_at_every_depth(column: str, good: list[Any], bad: list[Any]) -> None:
    from platform_resources.contracts.iceberg import arrow_type

    limits = Limits(contract := server_contract("files", column, path="*.csv"))
    broken = limits.broken(pa.table({"c": pa.array([*good, *bad], arrow_type(contract.columns[0].type))}))
    limits.close()
    assert (broken >= 0).tolist() == [False] * len(good) + [True] * len(bad)


def test_a_pattern_that_cannot_be_held_against_rows_is_told(dropped: Callable[..., Dropped]) -> None:
    one = dropped("name: code, logicalType: string, logicalTypeOptions: {pattern: '(?=a)b'}")
    one.put("a.csv", "code\nb\n")
    with pytest.raises(PlatformError, match="says of the values of code cannot be held against rows") as caught:
        one.land()
    assert caught.value.code == "constraint-unfit"


# --- what nobody declared


def test_what_an_open_contract_does_not_declare_stands_in_extra(dropped: Callable[..., Dropped]) -> None:
    where = "name: where, logicalType: object, customProperties: [{property: additionalProperties, value: true}], properties: [{name: x, logicalType: integer}]"  # noqa: E501
    one = dropped(ID, where, product={"additionalProperties": True}, path="*.ndjson")
    one.put("a.ndjson", '{"id": 1}\n{"id": 2, "colour": "red", "deep": {"b": [1], "a": null}, "where": {"x": 1, "y": 2}}\n')
    one.land()
    extra = [None if text is None else json.loads(text) for _, text in one.rows("id", "_extra")]
    assert extra == [None, {"colour": "red", "deep": {"b": [1]}, "where": {"y": 2}}]


def test_json_within_a_text_drops_no_field(dropped: Callable[..., Dropped]) -> None:
    where = "name: where, logicalType: object, customProperties: [{property: additionalProperties, value: true}], properties: [{name: x, logicalType: integer}]"  # noqa: E501
    one = dropped(ID, where)
    one.put("a.csv", 'id,where\n1,"{""x"": 1}"\n2,"{""x"": 1, ""y"": 2}"\n')
    one.land()
    assert (one.rows("id"), one.aside()) == ([(1,)], [("a.csv", 3, "schema-violation", "where")])


# --- every digit

EXACT = "1234567890123456.7891"


@pytest.mark.parametrize("form", ["ndjson", "json", "streamed"])
def test_decimals_keep_their_digits_at_every_depth(dropped: Callable[..., Dropped], form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from platform_resources.landing import json_records

    if form == "streamed":
        monkeypatch.setattr(json_records, "WHOLE_BYTES", 10)
    money = "logicalType: number, physicalType: 'decimal(24,4)'"
    nested = f"name: parts, logicalType: array, items: {{logicalType: object, properties: [{{name: price, {money}}}]}}"
    suffix = "ndjson" if form == "ndjson" else "json"
    one = dropped(ID, f"name: sum, {money}", nested, "name: rough, logicalType: number", path=f"*.{suffix}")
    record = f'{{"id": 1, "sum": {EXACT}, "parts": [{{"price": {EXACT}}}, {{"price": 12345678901234567890}}], "rough": {EXACT}}}'
    one.put(f"a.{suffix}", record + "\n" if form == "ndjson" else f"[{record}]")
    report = one.land()
    assert (report.inserted, one.aside()) == (1, [])
    [(total, parts, rough)] = one.rows("sum", "parts", "rough")
    assert total == parts[0]["price"] == Decimal(EXACT)
    assert parts[1]["price"] == Decimal("12345678901234567890.0000")
    assert rough == float(EXACT)


# --- what is wrong with one file is no other's


def test_a_name_that_is_no_text_refuses_that_file_alone(dropped: Callable[..., Dropped]) -> None:
    one = dropped(ID)
    one.put("a.csv", "id\n1\n")
    (one.folder / os.fsdecode(b"b\xff.csv")).write_text("id\n2\n")
    report = one.land()
    assert [(refused.delivery, refused.code) for refused in report.refused] == [("b\\xff.csv", "file-name")]
    assert (one.rows("id"), one.land().resting) == ([(1,)], ["b\\xff.csv"])


def test_a_file_that_may_not_be_read_is_refused_alone(dropped: Callable[..., Dropped], monkeypatch: pytest.MonkeyPatch) -> None:
    one = dropped(ID)
    one.put("a.csv", "id\n1\n")
    one.put("secret.csv", "id\n2\n")
    opened = Path.open

    def refusing(path: Path, *given: Any, **named: Any) -> Any:
        if path.name == "secret.csv":
            raise PermissionError(13, "Permission denied")
        return opened(path, *given, **named)

    monkeypatch.setattr(Path, "open", refusing)
    report = one.land()
    assert [(refused.delivery, refused.code) for refused in report.refused] == [("secret.csv", "file-unreadable")]
    assert one.rows("id") == [(1,)]
    monkeypatch.undo()
    assert one.land(retry=True).deliveries == 1
    assert (one.rows("id"), one.aside()) == ([(1,), (2,)], [])


@pytest.mark.parametrize("validity", [False, True])
def test_a_file_that_comes_back_to_its_slice_lands_again(dropped: Callable[..., Dropped], validity: bool) -> None:
    columns = ("name: id, logicalType: integer, primaryKey: true, required: true", "name: n, logicalType: integer")
    product = {"validity": True} if validity else None
    one = dropped(*columns, product=product, path="{slice:%Y-%m-%d}-*.csv", start="2026-01-01")
    one.put("2026-01-01-a.csv", "id,n\n1,1\n")
    one.put("2026-01-01-b.csv", "id,n\n2,1\n")
    one.land()
    (one.folder / "2026-01-01-b.csv").unlink()
    one.put("2026-01-01-a.csv", "id,n\n1,2\n")
    one.land()
    assert one.rows("id", "n") == [(1, 2)]
    one.put("2026-01-01-b.csv", "id,n\n2,1\n")
    one.land()
    assert one.rows("id", "n") == [(1, 2), (2, 1)]
    assert one.land().deliveries == 0


def test_lines_that_end_with_cr_alone_are_told(dropped: Callable[..., Dropped]) -> None:
    one = dropped(ID)
    (one.folder / "a.csv").write_bytes(b"id\r1\r")
    [refused] = one.land().refused
    assert "its lines end with CR alone" in refused.message


# --- again


@pytest.mark.parametrize("slices", [{}, {"path": "{slice:%Y-%m-%d}.csv", "start": "2026-01-01"}])
def test_what_was_put_aside_lands_again_once_the_contract_is_mended(dropped: Callable[..., Dropped], slices: dict[str, Any]) -> None:
    names = ("2026-01-01.csv", "2026-01-02.csv")
    one = dropped(ID, STATE, **slices)
    one.put(names[0], "id,state\n1,new\n2,sent\n")
    one.put(names[1], "id,state\n3,new\n")
    one.land()
    assert (one.rows("id"), len(one.aside())) == ([(1,), (3,)], 1)
    one.contract = dropped(ID, STATE.replace("]", ", {value: sent}]"), **slices).contract
    assert one.land().deliveries == 0
    assert one.land(aside=True).deliveries == 1
    assert (one.rows("id"), one.aside()) == ([(1,), (2,), (3,)], [])
    assert one.land(aside=True).deliveries == 0

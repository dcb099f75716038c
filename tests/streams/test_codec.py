"""Events become rows and come back equal; what cannot become one is told; nothing is ever raised."""

from __future__ import annotations

import base64
import uuid
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
import yaml
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from platform_resources.contracts.drafting import draft_from_event_schema
from platform_resources.contracts.model import Contract
from platform_resources.contracts.reading import read_contract
from platform_resources.contracts.registry import Domain, Registry
from platform_resources.streams.canonical import event_hash
from platform_resources.streams.codec import Codec, Decoded, _strides
from tests.streams.codec_kit import event, events, raw, registry

LAW = hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return registry(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def every(lab: Registry) -> Contract:
    return lab.get("lab/every")


@pytest.fixture(scope="module")
def codec(every: Contract) -> Codec:
    return Codec(every)


def only(decoded: Decoded) -> dict[str, Any]:
    assert decoded.errors == []
    (row,) = decoded.table.to_pylist()
    return row


def test_every_type_lands_as_its_arrow_type_and_value(codec: Codec) -> None:
    row = only(
        codec.decode(
            [
                raw(
                    event(
                        small=-7, big=2**62, ratio=1, short_ratio=0.5, price="12.50", flag=True, label="ü\u0000",
                        device=str(uuid.UUID(int=5)),
                        blob=base64.b64encode(b"\x00\xff").decode(), digest=base64.b64encode(b"abcd").decode(), day="2024-02-29",
                        clock="23:59:59.5", at="2024-05-01T14:00:00.123+02:00", local="2024-05-01T14:00:00",
                        anything={"b": 1.0, "a": [None]},
                        numbers=[1, None, 3], parts=[{"name": "p", "seen": ["2024-01-01T00:00:00Z"]}, None, {"name": "q"}],
                        slots={"main": {"size": 3, "deep": {"x": 2.5}}, "aux": {}}, closed={"only": "me"},
                    )
                )
            ]
        )
    )  # fmt: skip
    assert row == {
        "_schema": "/lab/every/1.2.0",
        "meta": {"id": "0b3a", "dt": datetime(2024, 5, 1, 12, tzinfo=UTC), "stream": "lab.every.v1", "domain": None},
        "small": -7, "big": 2**62, "ratio": 1.0, "short_ratio": 0.5, "price": Decimal("12.50"), "flag": True, "label": "ü\u0000",
        "device": uuid.UUID(int=5), "blob": b"\x00\xff", "digest": b"abcd", "day": date(2024, 2, 29), "clock": time(23, 59, 59, 500000),
        "at": datetime(2024, 5, 1, 12, 0, 0, 123000, tzinfo=UTC), "local": datetime(2024, 5, 1, 14), "anything": '{"a":[null],"b":1}',
        "numbers": [1, None, 3], "parts": [{"name": "p", "seen": [datetime(2024, 1, 1, tzinfo=UTC)]}, None, {"name": "q", "seen": None}],
        "slots": [("main", {"size": 3, "deep": {"x": 2.5}}), ("aux", {"size": None, "deep": None})], "closed": {"only": "me"},
        "_extra": None,
    }  # fmt: skip


def test_the_table_has_the_contract_columns_in_order_and_extra_when_open(codec: Codec, lab: Registry) -> None:
    for values in ([], [None], [raw(event())]):
        table = codec.decode(values).table
        assert table.column_names == [column.name for column in codec.contract.columns] + ["_extra"]
        assert table.schema == codec.schema
    assert "_extra" not in Codec(lab.get("lab/closed")).decode([]).table.column_names


def test_null_absent_and_empty_are_told_apart(codec: Codec) -> None:
    given_ = [event(numbers=[], slots={}, closed={}), event(numbers=None, slots=None, closed=None), event()]
    table = codec.decode([raw(e) for e in given_]).table
    assert table.column("numbers").to_pylist() == [[], None, None]
    assert table.column("slots").to_pylist() == [[], None, None]
    assert table.column("closed").to_pylist() == [{"only": None}, None, None]
    hashes = codec.decode([raw(e) for e in given_]).hashes
    assert hashes[0] != hashes[1] == hashes[2]


REFUSED: list[tuple[bytes | None, str, str, str]] = [
    (None, "no-value", "", "the record has no value"),
    (b"", "invalid-json", "", "zero-length"),
    (b"{", "invalid-json", "", ""),
    (b'{"a": NaN}', "invalid-json", "", ""),
    (b'{"a": 1e999}', "invalid-json", "", "infinity"),
    (b'{"a": Infinity}', "invalid-json", "", ""),
    (b'{"a": "\\ud800"}', "invalid-json", "", "surrogate"),
    (b'{"a": "\xff"}', "invalid-utf8", "", "byte 7 is not UTF-8"),
    (b'"text"', "not-an-object", "", "not a JSON object"),
    (b"[" * 2000, "too-deep", "", ""),
    (raw(event(anything={"a": "x" * 20_000})), "too-large", "", "more than 20000"),
    (raw(event(label=5)), "schema-violation", "label", '5 is not of type'),
    (raw({"$schema": "/lab/every/1.2.0"}), "schema-violation", "", '"meta" is a required property'),
    (raw(event(closed={"other": 1})), "schema-violation", "closed", "other"),
    (raw(event(parts=[{"name": "a"}, {}])), "schema-violation", "parts[1]", '"name" is a required property'),
    (raw(event(flag=1)), "schema-violation", "flag", ""),
    (raw(event(big=1.5)), "schema-violation", "big", ""),
    (raw(event(big=True)), "schema-violation", "big", ""),
    (raw(event(big=2**63)), "schema-violation", "big", "9223372036854775808"),
    (raw(event(small=2**31)), "schema-violation", "small", "2147483648"),
    (raw(event(short_ratio=1e300)), "out-of-range", "short_ratio", "1e+300 does not fit into float"),
    (raw(event(price="12.505")), "out-of-range", "price", "has more than 2 decimals"),
    (raw(event(price="123456789.00")), "out-of-range", "price", "does not fit into decimal(9, 2)"),
    (raw(event(at="yesterday")), "schema-violation", "at", ""),
    (raw(event(at="2024-02-30T00:00:00Z")), "schema-violation", "at", ""),
    (raw(event(at="2024-05-01T12:00:00")), "schema-violation", "at", ""),
    (raw(event(at="2016-12-31T23:59:60Z")), "unreadable-timestamp", "at", ""),
    (raw(event(at="0000-01-01T00:00:00Z")), "unreadable-timestamp", "at", ""),
    (raw(event(parts=[{"name": "a"}, {"name": "b", "seen": ["2024-01-01T00:00:00Z", "0001-01-01T00:00:00+01:00"]}])),
     "unreadable-timestamp", "parts[1].seen[1]", "outside the years"),
    (raw(event(local="2024-02-30 00:00:00")), "unreadable-timestamp", "local", ""),
    (raw(event(device="nope")), "unreadable-uuid", "device", "'nope' is not a UUID"),
    (raw(event(blob="?")), "schema-violation", "blob", ""),
    (raw(event(blob="a")), "schema-violation", "blob", ""),
    (raw(event(blob="AAAAA")), "schema-violation", "blob", ""),
    (raw(event(digest="AAAAAAAA")), "unreadable-bytes", "digest", "has 6 bytes instead of 4"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "reason", "path", "detail"), REFUSED, ids=lambda v: str(v)[:40])
def test_what_cannot_become_a_row_is_told_with_reason_and_path(
    codec: Codec, value: bytes | None, reason: str, path: str, detail: str
) -> None:
    good = raw(event(label="good"))
    decoded = codec.decode([good, value, good])
    (error,) = decoded.errors
    assert (error.index, error.reason, error.path) == (1, reason, path)
    assert detail in error.detail and error.detail
    assert decoded.rows == [0, 2] and decoded.table.column("label").to_pylist() == ["good", "good"]
    assert len(decoded.hashes) == 2


def test_deep_nesting_that_json_allows_is_refused_not_raised(codec: Codec) -> None:
    for depth in (200, 900, 1010):
        for place in ("anything", "undeclared"):
            deep = (
                b'{"$schema":"/lab/every/1.2.0","meta":{"stream":"lab.every.v1"},"%s":' % place.encode()
                + b'{"a":' * depth
                + b"1"
                + b"}" * depth
            )
            decoded = codec.decode([deep + b"}"])
            assert [e.reason for e in decoded.errors] in ([], ["too-deep"])
            assert len(decoded.rows) + len(decoded.errors) == 1


def test_of_a_repeated_key_the_last_value_counts(codec: Codec) -> None:
    text = b'{"$schema":"/lab/every/1.2.0","meta":{"stream":"lab.every.v1"},"label":"first","label":"last"}'
    assert only(codec.decode([text]))["label"] == "last"


def test_undeclared_fields_of_open_parts_are_kept_where_they_stood(codec: Codec) -> None:
    given_ = event(new=1, gone=None, parts=[{"name": "a"}, {"name": "b", "more": {"x": [1.0, None]}}], deep={"a": {"b": None}})
    row = only(codec.decode([raw(given_)]))
    assert orjson.loads(row["_extra"]) == {"new": 1, "deep": {"a": {}}, "parts": {"1": {"more": {"x": [1, None]}}}}
    assert codec.encode(row)["parts"][1] == {"name": "b", "more": {"x": [1, None]}}


def test_fractions_finer_than_a_microsecond_are_cut(codec: Codec) -> None:
    row = only(codec.decode([raw(event(at="2024-05-01T12:00:00.123456789Z"))]))
    assert row["at"] == datetime(2024, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)


@LAW
@given(data=st.data())
def test_an_event_comes_back_equal_whatever_its_spelling(codec: Codec, every: Contract, data: st.DataObject) -> None:
    """decode then encode is the identity up to *equal*; equal events have equal hashes and equal rows."""
    pairs = data.draw(st.lists(events(every), min_size=1, max_size=4))
    first, second = codec.decode([raw(a) for a, _ in pairs]), codec.decode([raw(b) for _, b in pairs])
    assert [error.reason for error in (*first.errors, *second.errors)] == []
    assert first.hashes == second.hashes
    assert [unordered(row) for row in first.table.to_pylist()] == [unordered(row) for row in second.table.to_pylist()]
    for (event_, _), digest, row in zip(pairs, first.hashes, first.table.to_pylist(), strict=True):
        assert digest == event_hash(orjson.loads(raw(event_)), every)
        back = codec.encode(row)
        assert event_hash(back, every) == digest
        assert only(codec.decode([raw(back)])) == row


def unordered(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose map has no order."""
    return {**row, "slots": dict(row["slots"]) if row["slots"] is not None else None}


@LAW
@given(data=st.data())
def test_another_value_anywhere_is_another_hash(every: Contract, data: st.DataObject) -> None:
    one = data.draw(events(every))[0]
    other = {**one, "label": (one.get("label") or "") + "!"}
    assert event_hash(one, every) != event_hash(other, every)
    assert len(event_hash(one, every)) == 16


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ({"big": 1}, {"big": 1.0}, True),
        ({"new": {"a": 1, "b": None}}, {"new": {"a": 1.0}}, True),
        ({"new": [1, None]}, {"new": [1]}, False),
        ({"new": {}}, {}, False),
        ({"new": "2024-01-01T00:00:00Z"}, {"new": "2024-01-01T00:00:00.0Z"}, False),  # no contract says that it is a time
        ({"at": "2024-01-01T00:00:00Z"}, {"at": "2024-01-01T01:00:00.000+01:00"}, True),
        ({"at": "2024-01-01T00:00:00Z"}, {"at": "2024-01-01T00:00:00.000001Z"}, False),
        ({"ratio": 0.1}, {"ratio": 0.10000000000000001}, True),
        ({"ratio": 0.0}, {"ratio": -0.0}, True),
        ({"price": "1.50"}, {"price": 1.5}, True),
        ({"price": "0.00"}, {"price": 0}, True),
        ({"label": "a"}, {"label": "A"}, False),
        ({"numbers": [1, 2]}, {"numbers": [2, 1]}, False),
        ({"flag": True}, {"flag": None}, False),
        ({"flag": False}, {}, False),
        ({"new": True}, {"new": 1}, False),
    ],
)
def test_equal_means_same_instants_numbers_by_value_absent_is_null(
    codec: Codec, every: Contract, one: dict[str, Any], other: dict[str, Any], *, equal: bool
) -> None:
    decoded = codec.decode([raw(event(**one)), raw(event(**other))])
    assert decoded.errors == []
    assert (decoded.hashes[0] == decoded.hashes[1]) is equal
    assert (event_hash(event(**one), every) == event_hash(event(**other), every)) is equal


_bytes = st.binary(max_size=40) | st.text(max_size=40).map(str.encode) | st.none()
_scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5) | st.just("2024-13-01T00:00:00Z")
_values = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=8
)


@LAW
@example(values=[b"\xff", b"{}", None, b"[" * 1500])
@given(values=st.lists(_bytes, max_size=6))
def test_decoding_never_raises_on_any_bytes(codec: Codec, values: list[bytes | None]) -> None:
    accounted(codec.decode(values), values)


@LAW
@given(data=st.data())
def test_decoding_never_raises_on_any_json_in_any_column(codec: Codec, every: Contract, data: st.DataObject) -> None:
    """Columns hold any JSON at all, so every leaf meets every wrong type, beside good events."""
    values: list[bytes | None] = []
    names = [column.event_name for column in every.columns]
    for _ in range(3):
        fields = data.draw(st.dictionaries(st.sampled_from(names), _values, max_size=4))
        values.append(orjson.dumps({**event(), **fields}, default=str, option=orjson.OPT_PASSTHROUGH_SUBCLASS) if fits(fields) else b"{}")
    accounted(codec.decode(values), values)


def fits(fields: dict[str, Any]) -> bool:
    try:
        orjson.dumps(fields)
    except TypeError:
        return False
    return True


def accounted(decoded: Decoded, values: list[bytes | None]) -> None:
    assert sorted([*decoded.rows, *(error.index for error in decoded.errors)]) == list(range(len(values)))
    assert decoded.table.num_rows == len(decoded.rows) == len(decoded.hashes)
    decoded.table.validate(full=True)
    assert not [error for error in decoded.errors if error.reason == "undecodable"]


def test_leaves_that_no_schema_guards_still_tell_what_is_wrong(every: Contract, codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the schema out of the way the columns refuse by themselves: no wrong type slips into Arrow as something else."""
    monkeypatch.setattr(codec._valid, "is_valid", lambda _: True)
    wrong = {
        "small": [True, "1", 1.5, 2**31, {}], "big": [False, "1", 2.5, 2**63, []], "ratio": ["1", True, {}], "flag": [1, "true"],
        "label": [1, {}, []], "device": [1, "x"], "blob": [1, "?"], "digest": ["AAAA", 1], "day": [1, "2024-1-1", "2024-02-30"],
        "clock": [1, "25:00:00"], "at": [1, "x"], "local": [1, "2024-01-01T00:00:00+01:00"], "numbers": [1, {}, ["a"]], "parts": [{}, [1]],
        "slots": [[], {"a": 1}], "closed": [1, [], {"other": 1}], "price": [True, "a", {}], "meta": [1, {}], "$schema": [1, None],
    }  # fmt: skip
    cases = [(name, value) for name, values in wrong.items() for value in values]
    decoded = codec.decode([raw({**event(), name: value}) for name, value in cases])
    assert [error.index for error in decoded.errors] == list(range(len(cases)))
    assert all(error.path.split(".")[0].split("[")[0] == name for error, (name, _) in zip(decoded.errors, cases, strict=True))
    assert all(error.reason != "undecodable" and error.detail for error in decoded.errors)


def test_one_event_that_nobody_foresaw_takes_no_other_with_it(every: Contract, monkeypatch: pytest.MonkeyPatch) -> None:
    codec = Codec(every)
    build = codec._build

    def brittle(values: list[Any], *rest: Any) -> pa.Array:
        if any(value.get("label") == "poison" for value in values):
            raise pa.ArrowCapacityError("unforeseen")
        return build(values, *rest)

    monkeypatch.setattr(codec, "_build", brittle)
    labels = ["a", "poison", "b", "c", "poison"]
    decoded = codec.decode([raw(event(label=label)) for label in labels])
    assert decoded.rows == [0, 2, 3] and decoded.table.column("label").to_pylist() == ["a", "b", "c"]
    assert [(error.index, error.reason, error.detail) for error in decoded.errors] == [
        (1, "undecodable", "ArrowCapacityError: unforeseen"),
        (4, "undecodable", "ArrowCapacityError: unforeseen"),
    ]


def test_strides_end_by_number_and_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform_resources.streams.codec._STRIDE", 3)
    monkeypatch.setattr("platform_resources.streams.codec._STRIDE_BYTES", 10)
    assert list(_strides([])) == []
    assert list(_strides([b"1", None, b"1", b"1", b"12345678", b"1", b"1234567890", b"12345678901", b"1"])) == [
        (0, 3), (3, 6), (6, 7), (7, 8), (8, 9),
    ]  # fmt: skip


def test_batches_longer_than_a_stride_keep_their_order(codec: Codec) -> None:
    values = [raw(event(big=n)) if n % 7 else b"bad" for n in range(4500)]
    decoded = codec.decode(values)
    assert decoded.rows == [n for n in range(4500) if n % 7]
    assert decoded.table.column("big").to_pylist() == decoded.rows
    assert [error.index for error in decoded.errors] == [n for n in range(4500) if n % 7 == 0]


def test_all_real_examples_come_back_equal(realdata: Path, tmp_path: Path) -> None:
    """Each stream schema of Wikimedia whose example names a stream: draft, decode, encode, compare."""
    seen = 0
    for path in sorted((realdata / "event_schemas").glob("*.yaml")):
        schema = yaml.load(path.read_text(encoding="utf-8"), Loader=_Plain)
        samples = [e for e in schema.get("examples", []) if isinstance(e, dict) and (e.get("meta") or {}).get("stream")]
        if not samples:
            continue
        file = tmp_path / f"s{seen}.yaml"
        file.write_text(draft_from_event_schema(schema, domain="real", product=file.stem, stream=f"real.s{seen}"), encoding="utf-8")
        contract, problems = read_contract(file, domain=Domain("real", tmp_path, owners=("team:real",)), project=tmp_path)
        assert contract is not None, problems
        codec = Codec(contract)
        decoded = codec.decode([raw(sample) for sample in samples])
        assert decoded.errors == [], path.name
        for sample, row, digest in zip(samples, decoded.table.to_pylist(), decoded.hashes, strict=True):
            assert event_hash(codec.encode(row), contract) == digest == event_hash(sample, contract), path.name
        seen += 1
    assert seen >= 57


class _Plain(yaml.CSafeLoader):
    """Timestamps stay text."""


_Plain.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in pairs if not tag.endswith(":timestamp")]
    for first, pairs in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}

"""What the gate accepts and refuses, each refusal with its one clear sentence; what it accepts, ingestion can decode."""

from __future__ import annotations

import copy
import re
import tracemalloc
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from platform_resources.config import Settings
from platform_resources.contracts.registry import Registry
from platform_resources.errors import PlatformError
from platform_resources.streams.codec import Codec
from platform_resources.streams.gate import Accepted, Gate, Refusal
from platform_resources.streams.local_log import LocalLog
from platform_resources.streams.log import EventLog
from tests.streams.codec_kit import event, raw, registry

STREAM = "lab.every.v1"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return registry(tmp_path_factory.mktemp("lab"))


@pytest.fixture
def log(settings: Settings) -> Iterator[LocalLog]:
    with LocalLog(settings.log_path) as found:
        yield found


@pytest.fixture
def gate(lab: Registry, log: LocalLog, settings: Settings) -> Gate:
    return Gate(lab, log, settings)


def values(log: EventLog, topic: str) -> list[bytes | None]:
    return [r.value for r in log.read({(topic, 0): 0}, max_events=100_000, timeout=0)]


REFUSED: list[tuple[Any, str, str, str]] = [
    (b"{", "invalid-json", "", r"The line is not an event: .*\."),
    (b"\xff\xfe", "invalid-utf8", "", r"The line is not an event: byte 0 is not UTF-8\."),
    (b"[]", "not-an-object", "", r"The line is not an event: the event is not a JSON object\."),
    (b'{"a":' * 1500, "too-deep", "", r"The line is not an event: .*\."),
    (raw(event(anything={"a": "x" * 20_000})), "too-large", "", r"The line is not an event: \d+ bytes are more than 20000\."),
    ({"meta": {"stream": STREAM}}, "schema-missing", "$schema", r"The event names no schema: give \$schema, e\.g\. /lab/every/1\.2\.0\."),
    ({**event(), "$schema": 7}, "schema-missing", "$schema", r"The event names no schema: .*"),
    ({**event(), "$schema": "/lab/other/1.2.0"}, "schema-unknown", "$schema",
     r"The stream lab\.every\.v1 takes /lab/every/1\.\*, not /lab/other/1\.2\.0\."),
    ({**event(), "$schema": "/lab/every/2.0.0"}, "schema-unknown", "$schema",
     r"The stream .* takes /lab/every/1\.\*, not /lab/every/2\.0\.0\."),
    ({**event(), "$schema": "every"}, "schema-unknown", "$schema", r".*"),
    ({"$schema": "/lab/every/1.2.0"}, "stream-missing", "meta.stream",
     r"The event names no stream: give meta\.stream, here lab\.every\.v1\."),
    ({"$schema": "/lab/every/1.2.0", "meta": []}, "stream-missing", "meta.stream", r"The event names no stream: .*"),
    ({"$schema": "/lab/every/1.2.0", "meta": {"stream": "lab.closed.v1"}}, "stream-mismatch", "meta.stream",
     r"The event belongs to the stream lab\.closed\.v1, not to lab\.every\.v1\."),
    (event(label=5), "schema-violation", "label", r"The field label is refused: 5 is not of types? .*\."),
    (event(parts=[{"name": "a"}, {"name": 1}]), "schema-violation", "parts[1].name", r"The field parts\[1\]\.name is refused: .*\."),
    (event(big=2**63), "schema-violation", "big", r"The field big is refused: .*\."),
    (event(short_ratio=1e300), "out-of-range", "short_ratio", r"The field short_ratio is refused: 1e\+300 does not fit into float\."),
    (event(price="1.234"), "out-of-range", "price", r"The field price is refused: '1\.234' has more than 2 decimals\."),
    (event(at="2016-12-31T23:59:60Z"), "unreadable-timestamp", "at", r"The field at is refused: '2016-12-31T23:59:60Z' .*\."),
    (event(device="x"), "unreadable-uuid", "device", r"The field device is refused: 'x' is not a UUID\."),
]  # fmt: skip


@pytest.mark.parametrize(("bad", "code", "path", "sentence"), REFUSED, ids=lambda v: str(v)[:30])
def test_each_refusal_has_its_code_its_path_and_one_sentence(
    gate: Gate, log: LocalLog, bad: Any, code: str, path: str, sentence: str
) -> None:
    line = bad if isinstance(bad, bytes) else raw(bad)
    report = gate.produce(STREAM, [raw(event()), line])
    assert (report.accepted, report.refused) == (1, 1)
    (refusal,) = report.refusals
    assert (refusal.line, refusal.code, refusal.path) == (2, code, path)
    assert re.fullmatch(sentence, refusal.reason, re.DOTALL), refusal.reason
    assert len(values(log, STREAM)) == 1
    checked = gate.check(STREAM, bad)
    assert isinstance(checked, Refusal) and checked.code == code and checked.line == 0


def test_a_closed_stream_refuses_what_it_does_not_declare(gate: Gate) -> None:
    refusal = gate.check("lab.closed.v1", event("closed", number=1, new=2))
    assert isinstance(refusal, Refusal) and refusal.code == "schema-violation" and "new" in refusal.reason


def test_an_unknown_stream_is_refused_as_a_whole(gate: Gate, log: LocalLog) -> None:
    for unchecked in (False, True):
        with pytest.raises(PlatformError) as caught:
            gate.produce("lab.evry.v1", [raw(event())], unchecked=unchecked)
        assert caught.value.code == "stream-unknown" and "lab.every.v1" in caught.value.remedy
    assert log.topics() == []


def test_id_and_time_are_filled_where_absent_and_kept_where_given(gate: Gate) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=2)
    for meta in ({"stream": STREAM}, {"stream": STREAM, "id": None, "dt": None}):
        bare = {"$schema": "/lab/every/1.2.0", "meta": meta, "label": "x"}
        untouched = copy.deepcopy(bare)
        accepted = gate.check(STREAM, bare)
        assert isinstance(accepted, Accepted) and bare == untouched
        stored = orjson.loads(accepted.value)
        uuid.UUID(stored["meta"]["id"])
        assert stored["meta"]["dt"].endswith("Z")
        assert before <= datetime.fromisoformat(stored["meta"]["dt"]) <= datetime.now(UTC)
        assert stored["label"] == "x"
    given_ = (
        b'{ "$schema": "/lab/every/1.0.7", "meta": {"stream": "lab.every.v1", "id": "mine", "dt": "2015-01-01T00:00:00.0Z"}, "big": 1.0 }'
    )
    accepted = gate.check(STREAM, given_)
    assert isinstance(accepted, Accepted) and accepted.value == given_  # nothing to fill: the producer's own bytes


@pytest.mark.parametrize("version", ["/lab/every/1.0.0", "/lab/every/1.99.3", "lab/every/1.2.0"])
def test_any_version_of_the_same_title_and_major_is_welcome(gate: Gate, version: str) -> None:
    assert isinstance(gate.check(STREAM, {**event(), "$schema": version, "field_of_a_later_version": 1}), Accepted)


def test_canary_events_are_events_like_others(gate: Gate) -> None:
    canary = event()
    canary["meta"]["domain"] = "canary"
    assert isinstance(gate.check(STREAM, canary), Accepted)


def test_the_primary_key_is_the_message_key(gate: Gate, log: LocalLog) -> None:
    accepted = gate.check("lab.closed.v1", event("closed", number=7.0))
    assert isinstance(accepted, Accepted) and accepted.key == b'{"number":7}'
    plain = gate.check(STREAM, event())
    assert isinstance(plain, Accepted) and plain.key is None
    gate.produce("lab.closed.v1", [raw(event("closed", number=7))])
    assert [r.key for r in log.read({("lab.closed.v1", 0): 0}, max_events=9, timeout=0)] == [b'{"number":7}']


def test_blank_lines_count_but_are_no_events(gate: Gate, log: LocalLog) -> None:
    report = gate.produce(STREAM, [b"\n", raw(event(label="a")) + b"\r\n", b"  \n", b"bad\n", raw(event(label="b"))])
    assert (report.accepted, report.refused, [r.line for r in report.refusals]) == (2, 1, [4])
    assert [orjson.loads(value or b"")["label"] for value in values(log, STREAM)] == ["a", "b"]


def test_unchecked_bytes_reach_the_log_as_they_are(gate: Gate, log: LocalLog) -> None:
    lines = [b"not json", b"\xff\x00", raw(event()), b'{"meta": ']
    report = gate.produce(STREAM, [line + b"\n" for line in lines], unchecked=True)
    assert report.as_dict() == {"accepted": 4, "refused": 0, "refusals": []}
    assert values(log, STREAM) == lines


def test_a_report_has_the_stable_json_form(gate: Gate) -> None:
    report = gate.produce(STREAM, [raw(event()), b"bad"]).as_dict()
    assert orjson.loads(orjson.dumps(report)) == report
    assert set(report) == {"accepted", "refused", "refusals"} and set(report["refusals"][0]) == {"line", "code", "path", "reason"}


def test_a_long_input_keeps_order_line_numbers_and_constant_memory(gate: Gate, log: LocalLog) -> None:
    def lines(count: int) -> Iterator[bytes]:
        for n in range(count):
            yield b"bad" if n % 1000 == 500 else raw(event(big=n, label="x" * 500))

    gate.produce(STREAM, lines(2000))  # warms caches
    tracemalloc.start()
    report = gate.produce(STREAM, lines(12_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert report.accepted == 11_988 and [r.line for r in report.refusals] == [n * 1000 + 501 for n in range(12)]
    assert peak < 25 << 20
    numbers = [orjson.loads(value or b"")["big"] for value in values(log, STREAM)][1998:]
    assert numbers == [n for n in range(12_000) if n % 1000 != 500]


@given(data=st.data())
@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_the_gate_accepts_the_codec_decodes(lab: Registry, tmp_path: Path, data: st.DataObject) -> None:
    """Over any JSON in any column: accepted means decodable, refused means told."""
    contract = lab.get("lab/every")
    leaf = (
        st.none()
        | st.booleans()
        | st.integers(-(2**64), 2**64 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=5)
    )
    anything = st.recursive(
        leaf, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2), max_leaves=5
    )
    fields = data.draw(st.dictionaries(st.sampled_from([c.event_name for c in contract.columns[2:]]), anything, max_size=3))
    try:
        line = raw(event(**fields))
    except TypeError:
        return
    with LocalLog(tmp_path / "log") as log:
        verdict = Gate(lab, log, Settings(home=tmp_path)).check(STREAM, line)
    if isinstance(verdict, Accepted):
        assert Codec(contract).decode([verdict.value]).errors == []
    else:
        assert verdict.reason.endswith(".") and verdict.code


def test_the_gate_works_over_every_log(lab: Registry, event_log: EventLog, log_settings: Settings) -> None:
    before = sum(event_log.end_offsets("lab.closed.v1").values())
    report = Gate(lab, event_log, log_settings).produce("lab.closed.v1", [raw(event("closed", number=n)) for n in range(50)])
    assert report.accepted == 50
    assert sum(event_log.end_offsets("lab.closed.v1").values()) == before + 50

"""JSON forms and tables: what programs and people get to see."""

from __future__ import annotations

import io
import json
import re
import time as time_out
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from platform_resources.cli import cli
from platform_resources.cli.output import Col, arrow_rows, draw_records, draw_table, duration, human, iso, plain, progress, write_json
from platform_resources.stack.service import ServiceStatus


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05Z"),
        (datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=timezone(timedelta(hours=2))), "2026-01-02T01:04:05.678000Z"),
        (datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05Z"),
        (date(2026, 1, 2), "2026-01-02"),
        (time(3, 4, 5), "03:04:05"),
        (Decimal("1.10"), "1.10"),
        (Decimal("1E+3"), "1000"),
        (b"\x00\xff", "AP8="),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (float("nan"), "NaN"),
        (float("-inf"), "-Infinity"),
        (True, True),
        ({1: [Decimal("0.5")]}, {"1": ["0.5"]}),
        (timedelta(minutes=1), 60.0),
    ],
)
def test_values_have_their_json_form(value: object, wanted: object) -> None:
    assert plain(value) == wanted


@given(st.datetimes(timezones=st.timezones()))
def test_a_time_survives_its_json_form(moment: datetime) -> None:
    assert datetime.fromisoformat(iso(moment)) == moment.astimezone(UTC)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text() | st.floats() | st.binary() | st.decimals(allow_nan=False, allow_infinity=False),  # noqa: E501
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10))  # fmt: skip
def test_whatever_a_row_holds_is_one_strict_json_document(value: object) -> None:
    out = io.StringIO()
    write_json([{"value": value}], out)
    json.loads(out.getvalue(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_an_empty_list_is_a_document() -> None:
    out = io.StringIO()
    write_json(iter([]), out)
    assert json.loads(out.getvalue()) == []


def test_arrow_rows_have_the_values_users_mean() -> None:
    table = pa.table(
        {
            "sum": pa.array([Decimal(39244), None], pa.decimal128(38, 0)),
            "money": pa.array([Decimal("1.10"), None], pa.decimal128(18, 2)),
            "tags": pa.array([[("a", Decimal(1))], None], pa.map_(pa.string(), pa.decimal128(38, 0))),
            "nested": pa.array(
                [{"sums": [Decimal(2)], "other": "x"}, None], pa.struct([("sums", pa.list_(pa.decimal128(38, 0))), ("other", pa.string())])
            ),
        }
    )
    first, second = arrow_rows(table)
    assert plain(first) == {"sum": 39244, "money": "1.10", "tags": {"a": 1}, "nested": {"sums": [2], "other": "x"}}
    assert set(second.values()) == {None}


def test_a_column_name_given_twice_loses_no_column() -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array([3])], names=["n", "n", "n_2"])
    assert sorted(next(iter(arrow_rows(table))).values()) == [1, 2, 3]


@pytest.mark.parametrize("width", [80, 120])
def test_a_table_keeps_to_the_width_and_never_cuts_what_is_to_be_kept(width: int) -> None:
    out = io.StringIO()
    draw_table(
        Console(file=out, width=width),
        [Col("product", keep=True), Col("title")],
        [("activity/edit_statistics", "long " * 60), ("a/b", None)],
    )
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert "activity/edit_statistics" in out.getvalue()
    assert "…" in out.getvalue()
    assert len([line for line in lines if line.strip()]) == 4, out.getvalue()


@pytest.mark.parametrize(("width", "wanted"), [(30, ["a/b", "team:data", "A title"]), (20, ["a/b", "team:data"])])
def test_a_spare_column_is_left_out_whole_before_another_is_cut(width: int, wanted: list[str]) -> None:
    out = io.StringIO()
    columns = [Col("product", keep=True), Col("owner"), Col("title", spare=True)]
    draw_table(Console(file=out, width=width), columns, [("a/b", "team:data", "A title")])
    assert re.split(r"\s{2,}", out.getvalue().splitlines()[2].strip()) == wanted


def test_what_is_to_be_read_goes_on_in_the_next_line() -> None:
    out = io.StringIO()
    draw_table(Console(file=out, width=40), [Col("column", keep=True), Col("what it means", wrap=True)], [("rank", "place " * 20)])
    assert out.getvalue().count("place") == 20
    assert max(map(len, out.getvalue().splitlines())) <= 40


def test_cells_are_short_and_on_one_line() -> None:
    assert human("two\nlines") == "two lines"
    assert human(1234567) == "1,234,567"
    assert human(None) == "-"
    assert human({"a": Decimal("1.0")}) == '{"a": "1.0"}'
    assert [duration(s) for s in (None, 4, 150, 3 * 3600, 86_400 * 3)] == ["-", "4 s", "2 min", "3 h", "3 d"]


def test_a_row_that_is_turned_shows_integers_as_they_are() -> None:
    out = io.StringIO()
    draw_records(Console(file=out, width=60), [{"page_id": 6380515, "share": 0.25, "minor": True}])
    assert [line.split() for line in out.getvalue().splitlines()[1:]] == [["page_id", "6380515"], ["share", "0.25"], ["minor", "yes"]]


def test_progress_counts_only_what_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: True)
    monkeypatch.setattr("sys.stderr", out)
    monkeypatch.setenv("TERM", "xterm")
    with progress("computing a/b"):
        time_out.sleep(0.3)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())
    assert "computing a/b" in shown and re.search(r"computing a/b\s+0\s", shown) is None
    with progress("producing") as advance:
        advance(1_500)
        time_out.sleep(0.3)
    assert "1,500" in out.getvalue()


def test_a_process_id_is_plain_digits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Server:
        def status(self, _: object) -> ServiceStatus:
            return ServiceStatus("kafka", True, "127.0.0.1:9092", 9034, tmp_path / "log")

    monkeypatch.setattr("platform_resources.cli.platform._chosen", lambda _: [Server()])
    assert " 9034 " in CliRunner().invoke(cli, ["stack", "status"]).output

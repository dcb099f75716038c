"""The stable interface on one small project, from the first event to the last query: JSON shapes, exit statuses, sentences.

One project serves the whole module, since each run costs a second; the tests read top to bottom.
"""

from __future__ import annotations

import gzip
import json
import re
import shlex
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from platform_resources.cli.showing import _servers
from platform_resources.cli.snippets import ENGINES, snippet
from platform_resources.cli.status import IDLENESS
from platform_resources.config import SOURCE_ROOT, load_settings
from platform_resources.contracts.findings import Findings
from platform_resources.contracts.odcs import check_standard
from platform_resources.contracts.registry import Registry
from platform_resources.locks import hold
from tests.cli.conftest import Project, forget, make_project, reading, use

DAILY = "select station, cast(meta.dt as date) as day, max(temperature) as warmest, count(*) as readings from weather.reading group by all"


@pytest.fixture(scope="module")
def weather(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A domain with a stream, a product derived from it, and 200 readings produced (10 of them twice, 1 bad)."""
    patch = pytest.MonkeyPatch()
    project = make_project(tmp_path_factory.mktemp("weather"))
    use(project, patch)
    sample = project.events("readings.ndjson", [reading(number) for number in range(200)])
    project.ok("new", "domain", "weather", "--owner", "weather-team@example.org")
    project.ok("new", "product", "weather/reading", "--from-sample", str(sample))
    project.ok("new", "product", "weather/daily", "--sql", DAILY)
    yield project
    patch.undo()
    forget()


def test_produce_tells_what_became_of_each_event(weather: Project) -> None:
    events = [reading(number) for number in range(10)] + [reading(900, temperature="warm"), {"$schema": "/weather/reading/1.0.0"}]
    packed = weather.path / "more.ndjson.gz"
    packed.write_bytes(gzip.compress("".join(json.dumps(event) + "\n" for event in events).encode() + b"{not json\n"))
    assert weather.json("produce", "weather.reading.v1", "readings.ndjson") == {"accepted": 200, "refused": 0, "refusals": []}
    report = weather.json("produce", "weather.reading.v1", str(packed))
    assert (report["accepted"], report["refused"]) == (10, 3)
    assert [refusal["line"] for refusal in report["refusals"]] == [11, 12, 13]
    assert all(set(refusal) == {"line", "code", "path", "reason"} for refusal in report["refusals"])
    assert report["refusals"][0]["path"] == "temperature"


def test_strict_makes_a_refusal_a_failure_and_still_answers(weather: Project) -> None:
    result = weather.sdp("produce", "weather.reading.v1", "-", "--strict", "--json", stdin=b"nonsense\n")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["refused"] == 1
    assert result.stderr == "1 of 1 events were refused by weather.reading.v1. Mend them and produce them again. [events-refused]\n"


def test_unchecked_puts_anything_on_the_log(weather: Project) -> None:
    report = weather.json("produce", "weather.reading.v1", "-", "--unchecked", stdin=b"\xff not an event\n")
    assert report == {"accepted": 1, "refused": 0, "refusals": []}


def test_ingest_drains_to_the_end_and_tells_every_count(weather: Project) -> None:
    report = weather.json("ingest", "weather/reading", "--until-idle")
    wanted = {
        "read": 211,
        "inserted": 200,
        "duplicates": 10,
        "quarantined": 1,
        "commits": 1,
        "position": {"weather.reading.v1": {"0": 211}},
    }
    assert {name: report[name] for name in wanted} == wanted
    assert isinstance(report["late"], int)
    assert report["status"] == "success"


def test_a_second_ingest_has_nothing_to_do(weather: Project) -> None:
    assert weather.json("ingest", "weather.reading")["read"] == 0
    assert "0 read, 0 inserted" in weather.ok("ingest", "weather/reading")


def test_run_computes_what_is_missing(weather: Project) -> None:
    first = weather.json("run", "weather/daily")
    assert {"run_id", "status", "snapshot_id", "rows", "checks"} <= first.keys()
    assert (first["status"], first["rows"], first["rows_written"]) == ("success", 10, 10)
    again = weather.json("run", "weather/daily")
    assert (again["status"], again["rows"], again["rows_written"]) == ("success", 10, 0)
    recomputed = weather.json("run", "weather/daily", "--recompute")
    assert (recomputed["rows"], recomputed["plan"]) == (10, "full")
    assert recomputed["snapshot_id"] != first["snapshot_id"]


def test_query_gives_rows_as_programs_want_them(weather: Project) -> None:
    rows = weather.json(
        "query", "select station, sum(readings) as n, max(day) as day, 1.10::decimal(4,2) as price from weather.daily group by 1 order by 1"
    )
    assert rows[0] == {"station": "s0", "n": 40, "day": "2026-01-02", "price": "1.10"}
    assert len(rows) == 5
    (row,) = weather.json("query", "select meta.dt, _event_hash, _ingested_at from weather.reading limit 1")
    assert row["dt"].endswith("Z")
    assert datetime.fromisoformat(row["_ingested_at"]).tzinfo is not None
    assert weather.json("query", "select 1 where false") == []
    assert weather.json("query", "-", stdin=b"select 2 as two") == [{"two": 2}]


def test_a_query_file_may_begin_with_a_byte_order_mark(weather: Project) -> None:
    path = weather.write("two.sql", "\ufeffselect 2 as two")
    assert weather.json("query", f"@{path}") == weather.json("query", "-", stdin=path.read_bytes()) == [{"two": 2}]
    path.write_bytes(b"select '\xe9'")
    said = f"The file {path} cannot be read: it is not UTF-8. Save it as UTF-8 text. [file-unreadable]"
    assert weather.refused("query", f"@{path}") == said


def test_query_for_people_stops_in_time_and_says_so(weather: Project) -> None:
    shown = weather.ok("query", "from weather.reading select station")
    assert "200 rows, 160 not shown (--limit N, --json)" in shown
    assert "1 row\n" in weather.ok("query", "select 1")
    assert weather.ok("query", "from weather.reading select station", "--limit", "2").count("s0") == 1
    assert max(map(len, weather.ok("query", "from weather.reading").splitlines())) <= 120


def test_rows_too_wide_for_a_table_are_shown_one_value_a_line(weather: Project) -> None:
    shown = weather.ok(
        "query", "select *, repeat('word ', 60) as long, repeat('x', 1500) as longer, 1/3 as third from weather.reading limit 2"
    )
    assert "-- row 1\n" in shown
    assert "-- row 2\n" in shown
    lines = [line for line in shown.splitlines() if line.startswith("meta ")]
    assert len(lines) == 2
    assert all(json.loads(line.removeprefix("meta").strip())["stream"] == "weather.reading.v1" for line in lines)
    assert shown.count("word") == 2 * 60
    assert shown.count("(1,500 characters)") == 2
    assert shown.count("x") < 2 * 1_100
    assert "0.3333333333333333" in shown
    assert "…" not in shown.replace("… (1,500", "")


def test_quarantine_is_seen_only_when_asked_for(weather: Project) -> None:
    weather.refused("query", "from weather.reading__quarantine")
    (row,) = weather.json("query", "select reason, _offset from weather.reading__quarantine", "--include-quarantine")
    assert row["_offset"] == 210


def test_list_and_show_know_the_products(weather: Project) -> None:
    products = {product["product"]: product for product in weather.json("list")}
    assert (products["weather/reading"]["kind"], products["weather/reading"]["rows"]) == ("stream", 200)
    assert (products["weather/daily"]["kind"], products["weather/daily"]["owners"]) == ("sql", ["weather-team@example.org"])
    shown = weather.json("show", "weather/reading")
    assert shown["stream"] == "weather.reading.v1"
    assert shown["location"].startswith("file://")
    assert {"_offset", "meta.dt", "temperature"} <= {column["name"] for column in shown["columns"]}
    for text in ("weather.reading.v1", "weather-team@example.org", "temperature", 'source("weather/reading")', "weather/daily"):
        assert text in weather.ok("show", "weather/reading")
    last = weather.ok("show", "weather/reading").splitlines()[-2:]
    assert last[0] == "sdp show weather/reading --snippet duckdb"
    assert last[1].endswith(shown["metadata_location"])


def outside(weather: Project, engine: str, count: str) -> int:
    """Run a printed snippet where nothing but the libraries can be imported, then count its rows."""
    program = weather.ok("show", "weather/reading", "--snippet", engine)
    libraries = sorted({sysconfig.get_paths()[name] for name in ("purelib", "platlib")})
    # -S: the editable install of this platform is a .pth file, which is not read then
    check = "import importlib.util as _u, sys as _s\nassert _u.find_spec('platform_resources') is None\n"
    last = f"print('rows:', {count})\nassert not [name for name in _s.modules if name.startswith('platform_resources')]\n"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path += {libraries!r}\n{check}{program}{last}"],
        cwd=weather.home.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.rpartition("rows: ")[2])


@pytest.mark.parametrize(
    ("engine", "count"),
    [
        ("duckdb", "rows.count('*').fetchone()[0]"),
        ("polars", "rows.collect().height"),
        ("pyiceberg", "rows.to_arrow().num_rows"),
    ],
)
def test_a_printed_snippet_reads_the_newest_rows_without_the_platform(weather: Project, engine: str, count: str) -> None:
    (wanted,) = weather.json("query", "select count(*) as n from weather.reading")
    assert outside(weather, engine, count) == wanted["n"] >= 200
    program = weather.json("show", "weather/reading", "--snippet", engine)["program"]
    assert "metadata.json" not in program  # what would go out of date with the next commit
    assert program == weather.ok("show", "weather/reading", "--snippet", engine)


def test_the_contract_goes_out_as_odcs_with_the_servers_of_the_profile(weather: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def servers() -> dict[str, dict[str, str]]:
        text = weather.ok("show", "weather/reading", "--odcs")
        document = weather.json("show", "weather/reading", "--odcs")
        assert yaml.safe_load(text) == document
        findings = Findings("-", {})
        check_standard(document, findings)
        assert not findings.problems
        return {server["server"]: server for server in document["servers"]}

    here = servers()
    assert (here["events"]["type"], here["table"]["type"]) == ("local", "local")
    assert (Path(here["table"]["path"]) / "metadata").is_dir()
    monkeypatch.setenv("SDP_EVENT_LOG", "kafka")
    monkeypatch.setenv("SDP_KAFKA_BOOTSTRAP", "broker.example.org:9092")
    assert servers()["events"]["host"] == "broker.example.org:9092"
    contract, settings = Registry.load(load_settings().project).get("weather/reading"), load_settings()
    rest = settings.model_copy(update={"catalog_type": "rest", "catalog_uri": "https://me:secret@catalog.example.org/api?token=hunter2"})
    table = _servers(rest, contract)[-1]
    assert (table["type"], table["catalogUrl"]) == ("iceberg", "https://catalog.example.org/api")


def test_a_snippet_holds_no_secret(weather: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    contract = Registry.load(weather.path).get("weather/reading")
    monkeypatch.setenv("SDP_CATALOG_URI", "postgresql+psycopg://sdp:hunter2@db.example.org/sdp")
    monkeypatch.setenv("SDP_WAREHOUSE", "s3://lake/warehouse")
    for engine in ENGINES:
        program = snippet(engine, contract, load_settings())
        compile(program, engine, "exec")
        assert "hunter2" not in program
        assert ('os.environ["SDP_CATALOG_ADDRESS"]' if engine == "spark" else 'uri=os.environ["SDP_CATALOG_URI"]') in program
        assert "AWS_SECRET_ACCESS_KEY" in program
    monkeypatch.setenv("SDP_CATALOG_TYPE", "rest")
    monkeypatch.setenv("SDP_CATALOG_URI", "https://catalog.example.org")
    assert 'uri="https://catalog.example.org"' in snippet("polars", contract, load_settings())


def test_a_product_without_a_table_has_no_snippet(weather: Project) -> None:
    forget()
    for suffix in ("yaml", "sql"):
        text = (weather.path / f"data_products/weather/daily.{suffix}").read_text()
        weather.write(
            f"data_products/weather/other.{suffix}", text.replace("weather.daily", "weather.other").replace("name: daily", "name: other")
        )
    said = weather.refused("show", "weather/other", "--snippet", "duckdb")
    for suffix in ("yaml", "sql"):
        (weather.path / f"data_products/weather/other.{suffix}").unlink()
    assert said == "weather/other has no table yet. Make it with `sdp run weather/other`. [product-not-materialised]"


def test_status_has_every_fact(weather: Project) -> None:
    found = {product["product"]: product for product in weather.json("status")}
    reading_status, daily = found["weather/reading"], found["weather/daily"]
    names = {"product", "rows", "snapshot_id", "last_event_time", "watermark", "lag_events", "lag_seconds", "last_run", "checks"}
    assert names <= reading_status.keys()
    assert (reading_status["rows"], reading_status["lag_events"], reading_status["last_event_time"]) == (200, 0, "2026-01-02T23:00:00Z")
    assert reading_status["lag_seconds"] > 0
    assert reading_status["last_run"]["status"] == "success"
    assert (daily["rows"], daily["lag_events"]) == (10, 0)
    assert (daily["promised_seconds"], daily["fresh"]) == (900.0, False)
    said = weather.ok("status", "weather/daily")
    assert re.search(r"weather/daily .* d, over 15 min ", said) and IDLENESS not in said  # no drain speaks for a derived product
    with hold(load_settings().locks_path, "platform", "process 1"):
        assert IDLENESS in weather.ok("status", "weather/reading")
    assert (reading_status["quarantined_rows"], daily["quarantined_rows"]) == (1, None)
    told = re.search(
        r'^Rows put aside: 1 of weather/reading. Why: sdp (query --include-quarantine) "(.*)"$', weather.ok("status"), re.MULTILINE
    )
    assert told is not None and "put aside" not in weather.ok("status", "weather/daily")
    assert [row["count_star()"] for row in weather.json(*told[1].split(), told[2])] == [1]
    weather.ok("produce", "weather.reading.v1", "-", stdin=json.dumps(reading(500)).encode())
    (behind,) = weather.json("status", "weather/reading")
    assert behind["lag_events"] == 1
    assert IDLENESS not in weather.ok("status", "weather/reading")


def test_a_derived_product_lags_by_the_rows_its_inputs_gained(weather: Project) -> None:
    weather.ok("ingest", "weather/reading")
    (daily,) = weather.json("status", "weather/daily")
    assert daily["lag_events"] == 1


def test_an_answer_without_rows_names_its_columns_whole(weather: Project) -> None:
    names = [f"a_column_of_a_long_name_{number}" for number in range(9)]
    said = weather.ok("query", f"select {', '.join(f'1 as {name}' for name in names)} where false")
    assert said.splitlines() == [f"No row; the columns are {', '.join(names)}.", "0 rows"]


def test_following_and_ending_are_not_both_asked_for(weather: Project) -> None:
    result = weather.sdp("ingest", "weather/reading", "--follow", "--until-idle")
    assert result.exit_code == 2 and "give one of them" in result.stderr


def test_a_run_at_work_is_named(weather: Project) -> None:
    with hold(load_settings().locks_path, "drain:weather/reading", "run-4711"):
        said = weather.refused("ingest", "weather/reading")
    assert said == "weather/reading is already at work in run run-4711. Wait for that run to end, or cancel it in the UI. [already-running]"
    with hold(load_settings().locks_path, "run:weather/daily", "run-4712"):
        assert "run run-4712" in weather.refused("run", "weather/daily", "--recompute")
        with pytest.MonkeyPatch.context() as patch:  # it took the lock between our look and our start
            patch.setattr("platform_resources.cli.runs._refuse_if_busy", lambda *_: None)
            said = weather.refused("run", "weather/daily", "--recompute")
        assert said == "weather/daily is already at work in run run-4712. Wait for that run to end or cancel it. [already-running]"


@pytest.mark.parametrize("partition", ["2026-01-01", "nonsense", ""])
def test_a_partition_that_the_product_cannot_have_makes_no_run_and_no_mail(weather: Project, partition: str) -> None:
    before = weather.json("status", "weather/daily")[0]["last_run"]
    said = weather.refused("run", "weather/daily", "--partition", partition)
    assert said == f"weather.daily has no partitions, so {partition!r} names none. Leave the partition out. [partition-unknown]"
    path = weather.path / "data_products/weather/daily.yaml"
    text = path.read_text()
    path.write_text(text.replace("- name: day\n", "- name: day\n        partitioned: true\n        partitionKeyPosition: 1\n", 1))
    said = weather.refused("run", "weather/daily", "--partition", "nonsense")
    path.write_text(text)
    assert said == "The partition 'nonsense' of weather.daily is no day. Give a date. [partition-unknown]"
    assert weather.json("status", "weather/daily")[0]["last_run"] == before


def test_a_failed_blocking_check_is_told_with_its_run_and_publishes_nothing(weather: Project) -> None:
    path = weather.path / "data_products/weather/daily.yaml"
    text = path.read_text()
    check = "    quality:\n      - {name: few_rows, metric: rowCount, description: Too few., severity: error, mustBeLessThan: 3}\n"
    path.write_text(text.replace("    properties:\n", f"{check}    properties:\n", 1))
    forget()
    before = weather.json("query", "select count(*) as n from weather.daily")
    result = weather.sdp("run", "weather/daily", "--recompute", "--json")
    assert result.exit_code == 1, result.output
    report = json.loads(result.stdout)
    assert report["status"] == "failure"
    assert [(check["name"], check["passed"], check["severity"]) for check in report["checks"]] == [("few_rows", False, "error")]
    assert "weather/daily was not published: few_rows (measured 11)" in result.stderr
    assert f"refused/{report['run_id']}" in result.stderr
    assert weather.json("query", "select count(*) as n from weather.daily") == before

    branch = f"refused/{report['run_id']}"
    assert (report["error"]["code"], report["refused_branch"]) == ("check-failed", branch)
    assert report["error"]["message"] in " ".join(result.stderr.split())
    (line,) = re.findall(r"`(sdp query .*?)`", result.stderr)
    assert shlex.split(line) == ["sdp", "query", "--branch", branch, "select * from weather.daily"]
    assert len(weather.json(*shlex.split(line)[1:])) == 11
    shown = weather.json("show", "weather/daily")["refused_branches"]
    assert [(one["branch"], one["time"][-1]) for one in shown] == [(branch, "Z")]
    assert line in weather.ok("show", "weather/daily")
    said = weather.refused("query", "--branch", "refused/nobody", "from weather.daily")
    assert said == f"'refused/nobody' is no branch or tag of weather.daily. The newest is {branch}. [branch-unknown]"

    (status,) = weather.json("status", "weather/daily")
    assert (status["last_run"]["status"], status["checks"][0]["passed"]) == ("failure", False)
    path.write_text(text)
    forget()


def test_what_the_page_on_reading_says_can_be_done(weather: Project) -> None:
    page = (SOURCE_ROOT / "docs/reading.md").read_text(encoding="utf-8")
    page = page.replace("refused/RUN", weather.json("show", "weather/daily")["refused_branches"][0]["branch"])
    names: dict[str, Any] = {"snapshot_id": weather.json("show", "weather/reading")["snapshot_id"]}
    blocks = re.findall(r"^```(console|python)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 8
    for kind, text in blocks:
        if kind == "python":
            exec(text, names)
            continue
        for line in text.splitlines():
            assert line.startswith("$ sdp "), line
            assert weather.ok(*shlex.split(line)[2:])
    # Nothing is read before it is asked for, so ask.
    assert names["product"].at(names["snapshot_id"]).arrow().num_rows == names["newest"].fetchone()[0]
    assert set(re.findall(r"^\| `(sdp\.[a-z-]+)`", page, re.MULTILINE)) <= set(names["summary"].additional_properties)


def test_recreate_is_for_drafts_only(weather: Project) -> None:
    report = weather.json("ingest", "weather/reading", "--recreate")
    assert (report["read"], report["inserted"]) == (212, 201)
    path = weather.path / "data_products/weather/daily.yaml"
    text = path.read_text()
    lines = [
        [line, " " * (len(line) - len(line.lstrip()) + 2) + "description: What it is."] if "- name:" in line else [line]
        for line in text.splitlines()
    ]
    path.write_text("\n".join(line for pair in lines for line in pair).replace("status: draft", "status: active") + "\n")
    said = weather.refused("run", "weather/daily", "--recreate")
    path.write_text(text)
    assert (
        said
        == "weather/daily is active: its consumers rely on its history. Only a draft can be recreated; make a new product. [recreate-refused]"  # noqa: E501
    )


def test_replay_keeps_the_pace_and_the_line_numbers(weather: Project) -> None:
    events = [reading(600 + number) for number in range(4)]
    for number, event in enumerate(events):
        event["meta"]["dt"] = f"2026-02-01T00:00:{number * 10:02d}Z"
    file = weather.events("recorded.ndjson", [*events[:3], {"broken": True}, events[3]])
    began = time.monotonic()
    report = weather.json("replay", str(file), "--stream", "weather.reading.v1", "--speed", "30")
    assert time.monotonic() - began > 0.9
    assert (report["accepted"], report["refused"], report["refusals"][0]["line"]) == (4, 1, 4)


def test_a_failing_check_can_be_skipped_and_everybody_sees_it(weather: Project) -> None:
    path = weather.path / "data_products/weather/reading.yaml"
    text = path.read_text()
    rule = "name: not_too_hot, type: sql, query: 'select max(temperature) from {object}', description: Sane., severity: error"
    check = f"    quality:\n      - {{{rule}, mustBeLessThan: 50}}\n"
    path.write_text(text.replace("    properties:\n", f"{check}    properties:\n", 1))
    forget()
    weather.ok("produce", "weather.reading.v1", "-", stdin=json.dumps(reading(700, temperature=99.0)).encode())
    (status,) = weather.json("status", "weather/reading")
    assert (status["checks"][0]["passed"], status["skipped_checks"]) == (None, [])
    assert _cells(weather.ok("status", "weather/reading"))[-1] == "-"

    refused = weather.sdp("ingest", "weather/reading", "--json")
    assert refused.exit_code == 1
    assert "`sdp ingest weather/reading --skip-check not_too_hot`" in refused.stderr
    assert _cells(weather.ok("status", "weather/reading"))[-1] == "1 of 1 failed"

    report = weather.json("ingest", "weather/reading", "--skip-check", "not_too_hot")
    assert (report["status"], report["skipped_checks"]) == ("success", ["not_too_hot"])
    assert weather.json("query", "select max(temperature) as t from weather.reading") == [{"t": 99.0}]
    (status,) = weather.json("status", "weather/reading")
    assert (status["skipped_checks"], status["checks"][0]["passed"]) == (["not_too_hot"], False)  # what was measured is not forgotten
    assert _cells(weather.ok("status", "weather/reading"))[-1] == "1 of 1 skipped"
    with dg.DagsterInstance.from_config(str(load_settings().dagster_home)) as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey(["weather", "reading"]))
    assert event is not None
    assert event.asset_materialization is not None
    assert event.asset_materialization.metadata["sdp/skipped_checks"].value == ["not_too_hot"]
    assert event.run_id == report["run_id"]

    # The next rows are held to it again.
    weather.ok("produce", "weather.reading.v1", "-", stdin=json.dumps(reading(701)).encode())
    weather.ok("ingest", "weather/reading")
    assert _cells(weather.ok("status", "weather/reading"))[-1] == "1 of 1 passed"
    path.write_text(text)
    forget()


def _cells(table: str) -> list[str]:
    """The cells of a table's first row."""
    return re.split(r"\s{2,}", table.splitlines()[2].strip())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["produce", "weather.reding.v1", "readings.ndjson"], "No contract ingests the stream weather.reding.v1. Did you mean weather.reading.v1? [stream-unknown]"),  # noqa: E501
        (["produce", "weather.reading.v1", "gone"], "The file gone cannot be read: No such file or directory. Name a file of newline-delimited JSON. [file-unreadable]"),  # noqa: E501
        (["ingest", "weather/reeding"], "There is no product weather/reeding. Did you mean weather/reading? [product-unknown]"),
        (["ingest", "weather/daily"], "weather/daily does not come from a stream, so there is nothing to ingest. Use `sdp run weather/daily`. [not-a-stream]"),  # noqa: E501
        (["ingest", "weather/reading", "--skip-check", "x"], "weather/reading has no checks at all. Leave the option out. [check-unknown]"),
        (["run", "weather/reading"], "weather/reading comes from a stream, so there is nothing to compute. Use `sdp ingest weather/reading`. [not-derived]"),  # noqa: E501
        (["list", "--domain", "wether"], "There is no domain wether. Name one of: weather. [domain-unknown]"),
        (["query", "select 1;\nselect 2"], "line 2: The text holds 2 statements instead of one query. Leave exactly one SELECT. [sql-not-one-query]"),  # noqa: E501
        (["query", "@gone.sql"], "The file gone.sql cannot be read: No such file or directory. Name a file with one query. [file-unreadable]"),  # noqa: E501
    ],
)  # fmt: skip
def test_refusals_are_one_sentence_and_one_document(weather: Project, arguments: list[str], sentence: str) -> None:
    assert weather.refused(*arguments).endswith(sentence)
    result = weather.sdp(*arguments, "--json")
    assert result.exit_code == 1
    error = json.loads(result.stdout)["error"]
    assert f"{error['message']} {error['remedy']} [{error['code']}]" in result.stderr


def test_a_product_that_is_broken_is_listed_and_named(weather: Project) -> None:
    forget()
    path = weather.write("data_products/weather/wrong.yaml", "id: weather.wrong\n")
    assert {p["product"]: p["status"] for p in weather.json("list")}["weather/wrong"] == "broken"
    assert weather.refused("show", "weather/wrong").startswith("data_products/weather/wrong.yaml")
    said = weather.refused("ingest", "weather/reading")
    path.unlink()
    assert "weather is refused" in said


def test_a_location_that_raises_is_told_with_its_line(weather: Project) -> None:
    path = weather.path / "data_products/weather/definitions.py"
    text = path.read_text()
    forget()
    path.write_text("x = 1\ny = 1 / 0\n")
    said = weather.refused("ingest", "weather/reading")
    path.write_text(text)
    forget()
    assert (
        said
        == "data_products/weather/definitions.py:2: The location weather cannot be loaded: ZeroDivisionError: division by zero. Mend that file. [location-broken]"  # noqa: E501
    )


def test_two_homes_never_touch_each_other(weather: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDP_HOME", str(weather.home.with_name("other")))
    assert {product["rows"] for product in weather.json("list")} == {None}
    assert {product["lag_events"] for product in weather.json("status")} == {0}


@pytest.mark.parametrize(
    "arguments", [["produce"], ["nonsense"], ["replay", "x", "--stream", "s", "--speed", "0"], ["query"], ["ingest", "a/b", "--flow"]]
)
def test_wrong_usage_is_status_two(weather: Project, arguments: list[str]) -> None:
    assert weather.sdp(*arguments).exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["list"], ["status"], ["show", "weather/reading"], ["query", "select 1"], ["produce", "weather.reading.v1", "-"], ["up"],
        ["ingest", "weather/reading"], ["run", "weather/hottest"],
    ],
)  # fmt: skip
def test_a_home_that_cannot_be_used_is_one_sentence(
    weather: Project, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "file"
    home.write_text("")
    monkeypatch.setenv("SDP_HOME", str(home))
    said = f"The folder {home} cannot be written: it is no folder. Set SDP_HOME to a folder that you may write. [home-unwritable]"
    assert weather.refused(*arguments) == said
    assert not weather.sdp(*arguments).stdout


def test_doctor_blames_the_home_and_nothing_else_for_a_bad_home(weather: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SDP_HOME", str(tmp_path / "file"))
    document = json.loads(weather.sdp("doctor", "--profile", "embedded", "--json").stdout)
    assert [finding["need"] for finding in document["findings"] if not finding["ok"]] == ["SDP_HOME"]


def test_doctor_says_what_is_missing_and_how_to_get_it(weather: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    found = weather.json("doctor", "--profile", "embedded")
    assert found["ok"], found
    monkeypatch.setenv("PATH", str(weather.path))
    result = weather.sdp("doctor", "--profile", "stack", "--json")
    missing = {finding["need"]: finding for finding in json.loads(result.stdout)["findings"] if not finding["ok"]}
    assert result.exit_code == 1
    assert "maven" in missing["Maven"]["remedy"]
    assert missing.keys() - {"PostgreSQL"} == {"Java 17", "Maven", "servers"}  # PostgreSQL's programs are off the PATH on Debian
    assert missing["servers"]["remedy"] == "sdp stack up"


def test_stack_status_knows_every_server(weather: Project) -> None:
    found = {server["name"]: server["running"] for server in weather.json("stack", "status")}
    assert {"kafka", "postgresql", "swift", "iceberg-rest"} <= found.keys() and not any(found.values())
    assert "kafka" in weather.ok("stack", "status", "kafka")
    assert "oracle" in weather.refused("stack", "status", "oracle")

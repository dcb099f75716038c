"""`sdp new`: drafts that `sdp check` accepts, nothing overwritten, nothing half-made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Project, forget, reading


def test_a_domain_is_made_registered_and_accepted(project: Project) -> None:
    made = project.json(
        "new", "domain", "weather", "--owner", "weather-team@example.org", "--owner", "team:weather", "--title", "The weather"
    )
    assert made["domain"] == "weather"
    assert all((project.path / file).is_file() for file in made["files"])
    assert "  # none yet" in (project.path / "workspace.yaml").read_text()
    assert project.json("check") == {"ok": True, "problems": []}
    text = (project.path / "data_products/weather/domain.yaml").read_text()
    assert "The weather" in text
    assert "channel: weather-team@example.org" in text


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Weather", "'Weather' is no name for a domain. Use lower-case letters, digits and single underscores, a letter first, no Python keyword. [domain-name]"),  # noqa: E501
        ("wea__ther", "'wea__ther' is no name for a domain. Use lower-case letters, digits and single underscores, a letter first, no Python keyword. [domain-name]"),  # noqa: E501
        ("class", "'class' is no name for a domain. Use lower-case letters, digits and single underscores, a letter first, no Python keyword. [domain-name]"),  # noqa: E501
        ("../up", "'../up' is no name for a domain. Use lower-case letters, digits and single underscores, a letter first, no Python keyword. [domain-name]"),  # noqa: E501
        ("assembly", "There is already a data_products/assembly. Choose another name, or edit what is there. [domain-exists]"),
    ],
)  # fmt: skip
def test_a_bad_name_for_a_domain_is_refused(project: Project, name: str, sentence: str) -> None:
    before = sorted(project.path.rglob("*"))
    assert project.refused("new", "domain", name, "--owner", "a@example.org") == sentence
    assert sorted(project.path.rglob("*")) == before


def test_an_owner_must_be_somebody(project: Project) -> None:
    for owner in ("bob", "a@b.c"):
        said = project.refused("new", "domain", "weather", "--owner", owner)
        assert said.startswith(f"The owner {owner} is neither an e-mail address that Dagster takes nor a team. Write an address with a ")


def test_a_domain_is_not_made_twice(project: Project) -> None:
    project.ok("new", "domain", "weather", "--owner", "a@example.org")
    said = project.refused("new", "domain", "weather", "--owner", "b@example.org")
    assert said == "There is already a data_products/weather. Choose another name, or edit what is there. [domain-exists]"
    assert "a@example.org" in (project.path / "data_products/weather/domain.yaml").read_text()


@pytest.fixture
def weather(project: Project) -> Project:
    project.ok("new", "domain", "weather", "--owner", "weather-team@example.org")
    return project


def test_a_stream_is_drafted_from_a_sample(weather: Project) -> None:
    sample = weather.events("readings.ndjson", [reading(number) for number in range(20)])
    made = weather.json("new", "product", "weather/reading", "--from-sample", str(sample))
    assert made == {"product": "weather/reading", "stream": "weather.reading.v1", "files": ["data_products/weather/reading.yaml"]}
    checked = weather.json("check")
    assert checked["ok"]
    assert {problem["code"] for problem in checked["problems"]} == {"contract-description-missing"}


def test_a_stream_is_drafted_from_an_event_schema(weather: Project) -> None:
    schema = {"$id": "/weather/wind/1.0.0", "type": "object", "required": ["$schema", "meta", "speed"],
              "properties": {"$schema": {"type": "string", "description": "s"}, "speed": {"type": "number", "minimum": 0, "description": "m/s"},  # noqa: E501
                             "meta": {"type": "object", "description": "m", "required": ["stream"],
                                      "properties": {"stream": {"type": "string", "description": "s"}}}}}  # fmt: skip
    for name, text in (("wind.json", json.dumps(schema)), ("wind.yaml", json.dumps(schema))):
        file = weather.write(name, text)
        product = f"weather/from_{name.replace('.', '_')}"
        made = weather.json("new", "product", product, "--from-event-schema", str(file), "--stream", f"{name}.v1")
        assert made["stream"] == f"{name}.v1"
    assert weather.json("check")["ok"]
    event = {"$schema": "/weather/wind/1.0.0", "meta": {"stream": "wind.json.v1"}, "speed": -1}
    report = weather.json("produce", "wind.json.v1", "-", stdin=json.dumps(event).encode())
    assert report["refusals"][0]["path"] == "speed"


def test_a_derived_product_is_drafted_from_its_query(weather: Project) -> None:
    sample = weather.events("readings.ndjson", [reading(number) for number in range(20)])
    weather.ok("new", "product", "weather/reading", "--from-sample", str(sample))
    sql = """select station, cast(meta.dt as date) as day, max(temperature) as warmest, count(*) as readings, sum(1) as total,
             [1, 2] as list,
             {'a': 1.5::decimal(9,2), 'b': uuid()} as struct, map {'k': now()} as map, 'x'::blob as raw from weather.reading group by all"""
    made = weather.json("new", "product", "weather/daily", "--sql", sql)
    assert made["files"] == ["data_products/weather/daily.sql", "data_products/weather/daily.yaml"]
    assert weather.json("check")["ok"]
    columns = {column["name"]: column["type"] for column in weather.json("show", "weather/daily")["columns"]}
    assert columns["day"] == "date"
    assert columns["total"] == "long"
    assert columns["struct.a"] == "decimal(9, 2)"
    assert columns["map.value"] == "timestamptz"
    assert columns["raw"] == "binary"
    assert weather.json("show", "weather/daily")["inputs"] == ["weather/reading"]
    assert weather.json("show", "weather/reading")["consumers"] == ["weather/daily"]


def test_a_python_product_is_drafted_from_its_inputs_and_computes(weather: Project) -> None:
    sample = weather.events("readings.ndjson", [reading(number) for number in range(20)])
    weather.ok("new", "product", "weather/reading", "--from-sample", str(sample))
    sql = """select station, [{'a': 1.5::decimal(9,2), 'b': uuid()}] as list, map {'k': now()} as map, 'x'::blob as raw,
             time '12:00' as noon, timestamp '2026-01-01' as local, '{}'::json as text, true as yes, date '2026-01-01' as day
             from weather.reading"""
    weather.ok("new", "product", "weather/kinds", "--sql", sql)
    weather.ok("produce", "weather.reading.v1", str(sample))
    weather.ok("ingest", "weather/reading")
    weather.ok("run", "weather/kinds")
    for product, inputs in (
        ("weather/copy", "weather/reading"),
        ("weather/both", "weather.kinds, weather/reading"),
        ("weather/pl", "weather/copy"),
    ):
        made = weather.json("new", "product", product, "--python", "--from", inputs)
        assert made["files"] == [f"data_products/{product}.py", f"data_products/{product}.yaml"]
        assert weather.json("check")["ok"]
        forget()  # a command is a process of its own and loads the location as it is now
        assert weather.json("run", product)["rows_written"] == 20
        assert weather.json("run", product)["reason"] == "no input has a new snapshot"
    columns = {column["name"]: column for column in weather.json("show", "weather/copy")["columns"]}
    assert set(columns) >= {"station", "temperature", "meta.dt"}
    assert not [name for name in columns if name.startswith("_")]
    assert weather.json("show", "weather/both")["inputs"] == ["weather/kinds", "weather/reading"]
    text = "select station, temperature from weather.{} order by all"
    assert weather.json("query", text.format("copy")) == weather.json("query", text.format("reading"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["weather/x", "--python", "--from", "weather/nothing"], "There is no product weather/nothing."),
        (["reading", "--sql", "select 1"], "'reading' names no domain. Write domain/product. [product-name]"),
        (["weather/Reading", "--sql", "select 1"],
         "'Reading' is no name for a product. Use lower-case letters, digits and single underscores, a letter first, no Python keyword. [product-name]"),  # noqa: E501
        (["wether/reading", "--sql", "select 1"], "There is no domain wether. Make it with `sdp new domain wether --owner ADDRESS`. [domain-unknown]"),  # noqa: E501
        (["weather/x", "--from-sample", "gone.ndjson"],
         "The file gone.ndjson cannot be read: No such file or directory. Name a file of newline-delimited JSON. [file-unreadable]"),
        (["weather/x", "--from-event-schema", "gone.json"],
         "The file gone.json cannot be read: No such file or directory. Name a file that exists. [file-unreadable]"),
        (["weather/x", "--sql", "select * from weather.nothing"], "No contract declares the input weather.nothing."),
        (["weather/x", "--sql", "select 1 as one"], "The query reads no product. Name at least one domain.product in FROM. [sql-no-input]"),
        (["weather/x", "--sql", "drop table weather.x"], "The text holds a DROP statement instead of one query. Leave exactly one SELECT. [sql-not-one-query]"),  # noqa: E501
    ],
)  # fmt: skip
def test_what_cannot_be_drafted_is_said_and_leaves_nothing(weather: Project, arguments: list[str], sentence: str) -> None:
    assert sentence in weather.refused("new", "product", *arguments)
    assert sorted(path.name for path in (weather.path / "data_products/weather").glob("*.*")) == [
        "__init__.py",
        "definitions.py",
        "domain.yaml",
    ]


def test_a_product_is_not_overwritten(weather: Project) -> None:
    mine = weather.write("data_products/weather/reading.yaml", "# mine\n")
    sample = weather.events("readings.ndjson", [reading(1)])
    said = weather.refused("new", "product", "weather/reading", "--from-sample", str(sample))
    assert said == "There is already a data_products/weather/reading.yaml. Choose another name, or edit that file. [product-exists]"
    assert mine.read_text() == "# mine\n"


def test_a_second_product_of_one_stream_is_refused_and_leaves_nothing(weather: Project) -> None:
    sample = weather.events("readings.ndjson", [reading(1)])
    weather.ok("new", "product", "weather/reading", "--from-sample", str(sample))
    said = weather.refused("new", "product", "weather/second", "--from-sample", str(sample))
    assert "The stream weather.reading.v1 is already ingested by weather/reading." in said
    assert not Path(weather.path / "data_products/weather/second.yaml").exists()
    assert weather.json("check")["ok"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--sql", "x", "--from-sample", "y"],
        ["--sql", "x", "--stream", "s"],
        ["--python"],
        ["--from", "weather/reading"],
        ["--sql", "x", "--from", "weather/reading"],
        ["--python", "--from", "weather/reading", "--stream", "s"],
    ],
)
def test_wrong_usage_is_status_two(weather: Project, arguments: list[str]) -> None:
    assert weather.sdp("new", "product", "weather/x", *arguments).exit_code == 2


def test_a_star_over_a_stream_is_told_how_to_leave_out_what_is_the_streams_own(weather: Project) -> None:
    sample = weather.events("readings.ndjson", [reading(1)])
    weather.ok("new", "product", "weather/reading", "--from-sample", str(sample))
    said = weather.refused("new", "product", "weather/copy", "--sql", "select * from weather.reading")
    assert "[sql-stream-columns]" in said
    rest = said.partition("or write ")[2].partition(". [")[0]
    weather.ok("new", "product", "weather/copy", "--sql", f"select {rest} from weather.reading")


def test_a_query_file_may_begin_with_a_byte_order_mark(weather: Project) -> None:
    weather.ok("new", "product", "weather/reading", "--from-sample", str(weather.events("readings.ndjson", [reading(1)])))
    query = weather.write("copy.sql", "\ufeffselect station from weather.reading\n")
    weather.ok("new", "product", "weather/copy", "--sql", str(query))

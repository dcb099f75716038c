"""docs/how-to/maintain.md, executed; and `sdp maintain` as programs see it."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from platform_resources.cli.maintaining import size
from platform_resources.config import SOURCE_ROOT, load_settings
from platform_resources.contracts.iceberg import table_definition
from platform_resources.contracts.registry import Registry
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.conforming import arrow_schema_of
from platform_resources.lakehouse.staging import publish, stage_append
from platform_resources.lakehouse.stamp import Stamp
from platform_resources.maintenance import maintained_tables
from platform_resources.workspace import register
from tests.cli.conftest import Project, project, reading  # noqa: F401 - a fixture
from tests.cli.test_how_to import DAILY
from tests.pages import follow

PAGE = SOURCE_ROOT / "docs" / "how-to" / "maintain.md"


def _write(product: str, values: dict[str, Any], commits: int = 6) -> None:
    settings = load_settings()
    definition = table_definition(Registry.load(settings.project).get(product))
    for _ in range(commits):
        rows = pa.Table.from_pylist([values], schema=arrow_schema_of(definition.schema))
        publish(stage_append(Lakehouse(settings), definition, rows, Stamp("test")))


@pytest.fixture
def weather(project: Project) -> Project:  # noqa: F811
    sample = project.events("first.ndjson", [reading(number) for number in range(3)])
    project.ok("new", "domain", "weather", "--owner", "weather-team@example.org")
    project.ok("new", "product", "weather/reading", "--from-sample", str(sample))
    project.ok("new", "product", "weather/daily", "--sql", DAILY)
    shutil.copytree(SOURCE_ROOT / "data_products" / "platform", project.path / "data_products" / "platform")
    register(project.path, "platform")
    _write("weather/daily", {"station": "north", "day": None, "warmest": 1.5, "readings": 1})
    return project


def test_the_page_does_what_it_says(weather: Project) -> None:
    assert follow(PAGE, weather) == 7


def test_programs_learn_what_would_be_done_and_what_was(weather: Project) -> None:
    (found,) = weather.json("maintain", "weather/daily", "--dry-run")
    assert (found["table"], found["files"], [need["action"] for need in found["needs"]]) == ("weather.daily", 6, ["compact", "orphans"])
    done = weather.json("maintain", "weather/daily")
    assert [(one["action"], one["outcome"]) for one in done["actions"]] == [("compact", "done"), ("orphans", "done")]
    assert "no product weather/dayly" in weather.refused("maintain", "weather/dayly")
    table = Lakehouse(load_settings()).table("weather.daily")
    assert table is not None
    table.io.delete(table.metadata_location)
    assert re.search(r"weather.daily.*\[maintenance-failed\]", weather.refused("maintain", "weather/daily"))
    looked = weather.sdp("maintain", "weather/daily", "--dry-run")
    assert looked.exit_code == 1 and "needs anything" not in looked.stdout and "others" not in looked.stderr
    assert looked.stderr.startswith("1 table cannot be looked at: weather.daily: ") and ".." not in looked.stderr


def test_every_table_of_every_product_is_maintained() -> None:
    registry = Registry.load(SOURCE_ROOT)
    found = {target.identifier: target.policy for target in maintained_tables(registry)}
    assert set(found) == {one.identifier for one in registry.contracts.values()} | {
        one.quarantine_identifier for one in registry.contracts.values() if one.is_stream or one.lands
    }
    assert found["mediawiki.recentchange"].aging == ("meta.dt", "_log_time")
    assert found["mediawiki.recentchange__quarantine"].aging == ("_log_time",)


def test_sizes_are_for_people() -> None:
    assert [size(one) for one in (0, 1023, 1536, 5 << 20, 3 << 30)] == ["0 B", "1023 B", "1.5 KiB", "5.0 MiB", "3.0 GiB"]


def test_the_page_s_codes_exist() -> None:
    source = "".join(Path(file).read_text(encoding="utf-8") for file in (SOURCE_ROOT / "platform_resources").rglob("*.py"))
    assert all(f'"{code}"' in source for code in re.findall(r"`([a-z]+-[a-z]+)`", PAGE.read_text(encoding="utf-8")))

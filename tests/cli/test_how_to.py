"""docs/how-to for operators, executed: every command of the console blocks runs, and says what the page says it does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from platform_resources.config import SOURCE_ROOT
from tests.cli.conftest import Project, reading
from tests.pages import follow

DAILY = "select station, cast(meta.dt as date) as day, max(temperature) as warmest, count(*) as readings from weather.reading group by all"


@pytest.mark.parametrize("page", ["roll-back", "recover"])
def test_the_page_does_what_it_says(page: str, project: Project) -> None:
    first = project.events("first.ndjson", [reading(number) for number in range(20)])
    project.events("later.ndjson", [reading(number) for number in range(20, 40)])
    project.ok("new", "domain", "weather", "--owner", "weather-team@example.org")
    project.ok("new", "product", "weather/reading", "--from-sample", str(first))
    project.ok("new", "product", "weather/daily", "--sql", DAILY)
    project.ok("produce", "weather.reading.v1", str(first))
    project.ok("ingest", "weather/reading", "--until-idle")
    project.ok("run", "weather/daily")
    assert follow(SOURCE_ROOT / "docs" / "how-to" / f"{page}.md", project) > 5


def test_every_sentence_of_a_refusal_is_a_code_that_exists() -> None:
    """The codes that the pages tell an operator are those that the platform says."""
    source = "".join(path.read_text(encoding="utf-8") for path in (SOURCE_ROOT / "platform_resources").rglob("*.py"))
    for page in ("roll-back", "recover"):
        text = Path(SOURCE_ROOT / "docs" / "how-to" / f"{page}.md").read_text(encoding="utf-8")
        for code in re.findall(r"`([a-z]+(?:-[a-z]+)+)`", text):
            assert f'"{code}"' in source or code in {"before-deployment"}, code

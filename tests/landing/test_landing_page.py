"""docs/how-to/land.md, executed: every command of the page runs and says what the page says; and what `sdp` refuses of landed products."""

from __future__ import annotations

from platform_resources.config import SOURCE_ROOT
from tests.cli.conftest import Project, project
from tests.pages import follow

__all__ = ["project"]
PAGE = SOURCE_ROOT / "docs" / "how-to" / "land.md"


def test_the_page_does_what_it_says(project: Project) -> None:
    assert follow(PAGE, project) > 10
    _says_what_it_is(project)


def _says_what_it_is(project: Project) -> None:
    """What the commands say of a landed product, in the state that the page leaves."""
    (status,) = project.json("status", "weather/station_day")
    assert (status["rows"], status["lag_events"], status["watermark"]) == (4, 0, "2026-01-03T00:00:00Z")
    shown = project.json("show", "weather/station_day")
    assert (shown["kind"], shown["write_mode"]) == ("files", "overwrite")
    assert {"_file_name", "_slice"} <= {column["name"] for column in shown["columns"]}
    done = project.json("ingest", "weather/station_day")
    assert (done["status"], done["deliveries"], done["run_id"]) == ("success", 0, None)
    refusals = {
        ("ingest", "weather/station_day", "--partition", "2025-01-01"): "partition-unknown",
        ("ingest", "weather/station_day", "--follow"): "option-unfit",
        ("run", "weather/station_day"): "not-derived",
    }
    for arguments, code in refusals.items():
        assert f"[{code}]" in project.refused(*arguments)

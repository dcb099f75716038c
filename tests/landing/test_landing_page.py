"""docs/how-to/land.md, executed: every command of the page runs and says what the page says; and what `sdp` refuses of landed products."""

from __future__ import annotations

import os
import shlex
import subprocess

from platform_resources.config import SOURCE_ROOT
from tests.cli.conftest import Project, project
from tests.test_tutorial import Step, matches, steps

__all__ = ["project"]
PAGE = SOURCE_ROOT / "docs" / "how-to" / "land.md"


def test_the_page_does_what_it_says(project: Project) -> None:
    ran = 0
    for step in steps(PAGE.read_text(encoding="utf-8")):
        status, said = _run(project, step)
        assert status == step.status, f"{step.command}\n{said}"
        assert matches(step.shown, said.splitlines()), f"{step.command}\nsaid:\n{said}"
        ran += 1
    assert ran > 10
    _says_what_it_is(project)


def _run(project: Project, step: Step) -> tuple[int, str]:
    words = shlex.split(step.command, comments=True) if step.command.startswith("sdp") else []
    if words:
        result = project.sdp(*words[1:])
        return result.exit_code, result.output
    environment = {**os.environ, **project.environment}
    done = subprocess.run(["bash", "-c", step.command], cwd=project.path, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


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

"""A project of its own for each test of the command line: the platform's assembly, a workspace.yaml, no domain yet."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from platform_resources.cli import cli
from platform_resources.config import SOURCE_ROOT

WORKSPACE = "# The code locations.\nload_from:\n  # none yet\n"


@dataclass(frozen=True)
class Project:
    """A project folder with its home, and `sdp` in it."""

    path: Path
    home: Path

    def sdp(self, *arguments: str, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(cli, list(arguments), input=stdin, prog_name="sdp")

    def ok(self, *arguments: str, stdin: bytes | None = None) -> str:
        result = self.sdp(*arguments, stdin=stdin)
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *arguments: str, stdin: bytes | None = None) -> Any:
        return json.loads(self.ok(*arguments, "--json", stdin=stdin))

    def refused(self, *arguments: str, stdin: bytes | None = None) -> str:
        """The one sentence of a refusal."""
        result = self.sdp(*arguments, stdin=stdin)
        assert result.exit_code == 1, result.output
        lines = result.stderr.strip().splitlines()
        assert len(lines) == 1, result.stderr
        return lines[0]

    def write(self, name: str, text: str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def events(self, name: str, events: list[dict[str, Any]]) -> Path:
        return self.write(name, "".join(json.dumps(event) + "\n" for event in events))

    @property
    def environment(self) -> dict[str, str]:
        """For a real process."""
        return {**os.environ, "SDP_HOME": str(self.home), "SDP_PROJECT": str(self.path), "COLUMNS": "100"}


def make_project(folder: Path) -> Project:
    """An empty project under `folder`."""
    path = folder / "project"
    (path / "data_products").mkdir(parents=True)
    for file in (SOURCE_ROOT / "data_products").glob("*.py"):
        shutil.copy(file, path / "data_products")
    shutil.copy(SOURCE_ROOT / "dagster.yaml", path)
    (path / "workspace.yaml").write_text(WORKSPACE, encoding="utf-8")
    return Project(path, folder / "home")


def use(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process work in the project, and forget it afterwards."""
    for name, value in (("SDP_HOME", project.home), ("SDP_PROJECT", project.path), ("DAGSTER_HOME", project.home / "dagster")):
        monkeypatch.setenv(name, str(value))
    monkeypatch.chdir(project.path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    import data_products

    monkeypatch.setattr(data_products, "__path__", [str(project.path / "data_products"), *data_products.__path__])
    for name in [name for name in sys.modules if name.startswith("data_products.weather")]:
        monkeypatch.delitem(sys.modules, name)


def forget() -> None:
    """Drop the modules of a project's own domains; `data_products.weather` of the next project is another one."""
    import data_products

    for name in [name for name in sys.modules if name.startswith("data_products.weather")]:
        del sys.modules[name]
    if hasattr(data_products, "weather"):
        del data_products.weather


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """An empty project that this process works in."""
    made = make_project(tmp_path)
    use(made, monkeypatch)
    yield made
    forget()


def reading(number: int, **more: Any) -> dict[str, Any]:
    """A sound event of the stream weather.reading.v1."""
    meta = {"stream": "weather.reading.v1", "id": f"r{number}", "dt": f"2026-01-{1 + number // 100:02d}T{number % 24:02d}:00:00Z"}
    return {"$schema": "/weather/reading/1.0.0", "meta": meta, "station": f"s{number % 5}", "temperature": 10 + number % 10 + 0.5, **more}

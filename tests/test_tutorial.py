"""docs/tutorial.md, executed: every command of its console blocks runs, and says what the page says it does.

By default `sdp` runs in this process, which starts it once; under `storm` each command is a process of its own, as the reader's is.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pytest

from platform_resources.config import SOURCE_ROOT
from tests.cli.conftest import Project, forget, make_project, project

__all__ = ["project"]
PAGE = SOURCE_ROOT / "docs" / "tutorial.md"
EXITS = re.compile(r"\s+# exits (\d+)$")


@dataclass
class Step:
    """A command of the page with the output it shows; a line `...` there stands for any lines, `...` in a line for any text."""

    command: str
    shown: list[str]
    status: int = 0


def steps(text: str) -> Iterator[Step]:
    """The commands of the page, in order. One begins with `$ ` and goes on while its quotes or its here-document are open."""
    for block in re.findall(r"^```console\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        step: Step | None = None
        for line in block.splitlines():
            if line.startswith("$ "):
                if step:
                    yield step
                status = EXITS.search(line)
                step = Step(EXITS.sub("", line[2:]), [], int(status[1]) if status else 0)
            elif step is not None and _open(step.command):
                step.command += f"\n{line}"
            elif step is not None:
                step.shown.append(line)
        if step:
            yield step


def _open(command: str) -> bool:
    document = re.search(r"<<'(\w+)'\n?", command)
    if document:
        return not command.endswith(f"\n{document[1]}")
    return command.count('"') % 2 == 1 and command.count("'") == 0


def matches(shown: list[str], said: list[str]) -> bool:
    """Whether the output is what the page shows."""
    pattern = "".join(r"(?:.*\n)*" if line.strip() == "..." else ".*".join(map(re.escape, _parts(line))) + r"\n" for line in shown)
    return re.fullmatch(pattern, "".join(f"{line.rstrip()}\n" for line in said)) is not None


def _parts(line: str) -> list[str]:
    return line.rstrip().split("...")


Run: TypeAlias = Callable[[str], tuple[int, str]]
"""Runs a command of the page: its exit code and all it says."""


@pytest.mark.storm
def test_the_tutorial_does_what_it_says_in_processes_of_its_own(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    environment = {**project.environment, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    del environment["SDP_PROJECT"]  # found by the folder, as the reader's is
    _follow(lambda command: _in_shell(command, project, environment))


def test_the_tutorial_does_what_it_says(project: Project) -> None:
    environment = {**project.environment, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}

    def run(command: str) -> tuple[int, str]:
        if not command.startswith("sdp ") or "$(" in command:
            return _in_shell(command, project, environment)
        forget()  # what the page wrote since is read anew
        result = project.sdp(*shlex.split(command, comments=True)[1:])
        return result.exit_code, result.output

    _follow(run)


def _in_shell(command: str, project: Project, environment: dict[str, str]) -> tuple[int, str]:
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=project.path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout.decode()


def _follow(run: Run) -> None:
    """Do what the page says, in its order."""
    ran = 0
    for step in steps(PAGE.read_text(encoding="utf-8")):
        status, output = run(step.command)
        assert status == step.status, f"{step.command}\n{output}"
        if step.shown:
            said = [line for line in output.splitlines() if line.strip()]
            shown = [line for line in step.shown if line.strip()]
            assert matches(shown, said), f"$ {step.command}\n--- shown\n" + "\n".join(shown) + "\n--- said\n" + "\n".join(said)
        ran += 1
    assert ran >= 21


@pytest.mark.parametrize(
    ("shown", "said", "wanted"),
    [
        (["a", "...", "d"], ["a", "b", "c", "d"], True),
        (["a", "...", "d"], ["a", "b"], False),
        (["...", "a", "..."], ["a"], True),
        (["...", "a"], ["ba"], False),
        (["2 ... rows"], ["2 good rows"], True),
        (["2 rows"], ["3 rows"], False),
        (["..."], [], True),
    ],
)
def test_the_page_is_held_to_its_words(shown: list[str], said: list[str], wanted: bool) -> None:
    assert matches(shown, said) is wanted

"""Pages of docs/, executed: every command of their console blocks runs, and says what the page shows.

What differs from run to run (ids, times of the clock, durations, sizes, paths, the widths of tables) is held by its form, all else by its
words. `SDP_UPDATE_PAGES=1` writes what was said into the page, for review.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias
from unittest.mock import patch

from tests.cli.conftest import Project, forget

EXITS = re.compile(r"\s+# exits (\d+)$")
Run: TypeAlias = Callable[[str], tuple[int, str]]
"""Runs a command of a page: its exit code and all it says."""

HERE = "~/platform"
"""What the project's folder is called on pages."""

_FORMS = (
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b(?=[a-f]*\d)(?=\d*[a-f])[0-9a-f]{8,}\b|\b\d{15,19}\b"), "ID"),
    (re.compile(r"\b(?!2026-01-0)\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z"), "TIME"),  # what pages land is of those first days
    (re.compile(r"\b\d[\d,.]* (ms|s|min|h|d|B|KiB|MiB|GiB)\b"), "MEASURE"),
    (re.compile(r"\s+"), " "),
    (re.compile(r"─+"), "─"),
)


@dataclass
class Step:
    """A command of a page with the output it shows, which stands at `at` among the page's lines; a line `...` stands for any lines."""

    command: str
    at: int
    shown: list[str] = field(default_factory=list)
    status: int = 0


def steps(text: str) -> Iterator[Step]:
    """The commands of a page, in order. One begins with `$ ` and goes on while its quotes or its here-document are open."""
    step, inside = None, False
    for number, line in enumerate(text.splitlines()):
        if not inside:
            inside = line == "```console"
        elif line == "```" or line.startswith("$ "):
            if step:
                yield step
            status = EXITS.search(line)
            step = Step(EXITS.sub("", line[2:]), number + 1, status=int(status[1]) if status else 0) if line != "```" else None
            inside = line != "```"
        elif step is not None and _open(step.command):
            step.command, step.at = f"{step.command}\n{line}", number + 1
        elif step is not None:
            step.shown.append(line)


def _open(command: str) -> bool:
    document = re.search(r"<<'(\w+)'\n?", command)
    if document:
        return not command.endswith(f"\n{document[1]}")
    return command.count('"') % 2 == 1 and command.count("'") == 0


def matches(shown: Sequence[str], said: Sequence[str]) -> bool:
    """Whether the output is what the page shows."""
    pattern = "".join(r"(?:.*\n)*" if line.strip() == "..." else f"{re.escape(_form(line))}\n" for line in shown if line.strip())
    return re.fullmatch(pattern, "".join(f"{_form(line)}\n" for line in said if line.strip())) is not None


def _form(line: str) -> str:
    for token, name in _FORMS:
        line = token.sub(name, line)
    return line.strip()


def follow(page: Path, project: Project, run: Run | None = None) -> int:
    """Do what the page says, in its order; the number of its commands. `run` does not start `sdp` in this process."""
    text = page.read_text(encoding="utf-8")
    lines, moved, ran = text.splitlines(), 0, 0
    for step in steps(text):
        status, output = (run or in_this_process(project))(step.command)
        said = [line.rstrip() for line in output.replace(str(project.path), HERE).replace(str(project.home), f"{HERE}/.sdp").splitlines()]
        assert status == step.status, f"{step.command}\n{output}"
        if not matches(step.shown, said):
            assert os.environ.get("SDP_UPDATE_PAGES"), "\n".join([f"$ {step.command}", "--- shown", *step.shown, "--- said", *said])
            begin = step.at + moved
            lines[begin : begin + len(step.shown)] = said
            moved += len(said) - len(step.shown)
        ran += 1
    if os.environ.get("SDP_UPDATE_PAGES"):
        page.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return ran


def in_this_process(project: Project) -> Run:
    """`sdp` in this process, which starts it once; anything else in a shell."""

    def run(command: str) -> tuple[int, str]:
        if not command.startswith("sdp ") or "$(" in command:
            return in_shell(project, command)
        forget()  # what the page wrote since is read anew
        with patch.dict(os.environ, COLUMNS="100"):  # as in a shell
            result = project.sdp(*shlex.split(command, comments=True)[1:])
        return result.exit_code, result.output

    return run


def in_shell(project: Project, command: str) -> tuple[int, str]:
    """A command in a process of its own, as the reader's is: the project is found by the folder."""
    environment = {**project.environment, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    del environment["SDP_PROJECT"]
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

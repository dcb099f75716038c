"""docs/tutorial.md, executed: every command of its console blocks runs, and says what the page says it does.

By default `sdp` runs in this process, which starts it once; under `storm` each command is a process of its own, as the reader's is.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from platform_resources.config import SOURCE_ROOT
from tests.cli.conftest import Project, make_project, project
from tests.pages import follow, in_shell, matches

__all__ = ["project"]
PAGE = SOURCE_ROOT / "docs" / "tutorial.md"


@pytest.mark.storm
def test_the_tutorial_does_what_it_says_in_processes_of_its_own(tmp_path: Path) -> None:
    project = make_project(tmp_path)
    assert follow(PAGE, project, lambda command: in_shell(project, command)) >= 21


def test_the_tutorial_does_what_it_says(project: Project) -> None:
    assert follow(PAGE, project) >= 21


@pytest.mark.parametrize(
    ("shown", "said", "wanted"),
    [
        (["a", "...", "d"], ["a", "b", "c", "d"], True),
        (["a", "...", "d"], ["a", "b"], False),
        (["...", "a", "..."], ["a"], True),
        (["...", "a"], ["ba"], False),
        (["a   b", "──"], ["a b", "────"], True),
        (["run 0f3a77f1-0000-4000-8000-00000000000a took 2.1 s"], ["run 3c2b1a00-1111-4222-9333-aaaaaaaaaaaa took 310 ms"], True),
        (["to 2026-01-02T12:00:00Z"], ["to 2026-01-02T13:00:00Z"], False),
        (["at 2026-11-02T12:00:01Z"], ["at 2027-05-02T13:10:00.5Z"], True),
        (["2 rows"], ["3 rows"], False),
        (["..."], [], True),
    ],
)
def test_the_page_is_held_to_its_words(shown: list[str], said: list[str], wanted: bool) -> None:
    assert matches(shown, said) is wanted

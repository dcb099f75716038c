"""docs/how-to/land-dumps.md, executed: its commands do what it says, and its columns and codes are those that there are."""

from __future__ import annotations

import re
from itertools import chain

from platform_resources.config import SOURCE_ROOT
from platform_resources.landing.xml_dump import FIELDS, SHORT_NAMES
from tests.cli.conftest import Project, project
from tests.pages import follow

__all__ = ["project"]
PAGE = SOURCE_ROOT / "docs" / "how-to" / "land-dumps.md"


def test_the_page_does_what_it_says(project: Project) -> None:
    assert follow(PAGE, project) == 9


def test_the_page_names_every_column_and_every_code() -> None:
    text = PAGE.read_text(encoding="utf-8")
    table = chain.from_iterable(re.findall(r"`(\w+)`", line.split("|")[1]) for line in text.splitlines() if line.startswith("| `"))
    assert set(FIELDS) <= set(table)
    assert all(f"`{name}`" in text for name in SHORT_NAMES)
    said = "".join((SOURCE_ROOT / "platform_resources" / "landing" / f"{name}.py").read_text() for name in MODULES)
    for code in re.findall(r"\(`([a-z]+(?:-[a-z]+)+)`", text):
        assert f'"{code}"' in said, code


MODULES = ("mediawiki_export", "mysqldump", "sql_dump", "xml_dump")

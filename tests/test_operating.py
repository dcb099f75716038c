"""docs/operating.md knows every setting there is, with the meaning and the default that platform_resources/config.py gives it."""

from __future__ import annotations

import os
import re

from platform_resources.config import SOURCE_ROOT, Settings

PAGE = SOURCE_ROOT / "docs" / "operating.md"
BETWEEN = re.compile(r"(<!-- settings: [^\n]*-->\n).*?(<!-- end of settings -->)", re.DOTALL)


def table() -> str:
    """The settings as a table."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default_factory or field.default is None else f"`{field.default}`"
        rows.append(f"| `SDP_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(rows) + "\n"


def test_every_setting_is_described_as_it_is() -> None:
    page = PAGE.read_text(encoding="utf-8")
    renewed = BETWEEN.sub(lambda found: found[1] + table() + found[2], page)
    if os.environ.get("SDP_UPDATE_SETTINGS"):
        PAGE.write_text(renewed, encoding="utf-8")
        page = renewed
    assert table() in page
    assert page == renewed


def test_every_setting_says_what_it_is_for() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_the_page_names_only_variables_that_somebody_reads() -> None:
    readers = [SOURCE_ROOT / "platform_resources", SOURCE_ROOT / "deploy", SOURCE_ROOT / "tests"]
    texts = [file.read_text(encoding="utf-8") for folder in readers for file in folder.rglob("*") if file.suffix in (".py", ".yaml")]
    source = "\n".join(texts)
    known = {f"SDP_{name.upper()}" for name in Settings.model_fields}
    named = set(re.findall(r"SDP_[A-Z0-9_]*[A-Z0-9]", PAGE.read_text(encoding="utf-8")))
    assert [name for name in sorted(named - known) if name not in source] == []

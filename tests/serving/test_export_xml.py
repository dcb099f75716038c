"""The export's XML: valid, read back as it was, and without anything that is hidden, whatever a revision holds."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from platform_resources.landing import mediawiki_export
from platform_resources.serving import export_xml
from platform_resources.serving.export_xml import Site
from tests.serving.export_schema import violations
from tests.serving.wikis import revision, slot

SITE = Site(
    "testwiki", "Wiki & <Co>", "https://test.example.org/wiki/Main_Page", "first-letter", "en", [(1, "Talk", "first-letter"), (0, "", "x")]
)
FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
SECRET = "SECRET"

texts = st.text(st.characters(codec="utf-8"), max_size=40) | st.sampled_from(
    ["a\r\nb", "]]>", "\x00", "&amp;", "  x  ", "\ufffe", "\t", '"']
)


def given_row(**changes: Any) -> dict[str, Any]:
    """A row as `DumpQuery.revisions` gives it."""
    row = revision("testwiki", 1, 5) | {"page_restrictions": None, "others": []} | changes
    slots = dict(row["revision_content_slots"])
    return {**row, "main": slots.pop("main", None), "others": sorted(slots.items())}


def document(*rows: dict[str, Any], text: bool = True) -> bytes:
    inner = "".join(export_xml.revision(row, text=text) for row in rows)
    return (export_xml.opening(SITE) + export_xml.page_start(rows[0]) + inner + export_xml.PAGE_END + export_xml.CLOSING).encode()


def read(data: bytes) -> list[mediawiki_export.Revision]:
    return list(mediawiki_export.revisions(io.BytesIO(data), "x.xml"))


def cleaned(text: str) -> str:
    return FORBIDDEN.sub("\ufffd", text)


slots = st.fixed_dictionaries(
    {
        "content_body": st.none() | texts, "content_format": st.sampled_from(["text/x-wiki", None, "error-no-format"]),
        "content_model": st.sampled_from(["wikitext", None, "wikibase-item", "not a model"]), "content_sha1": st.none() | st.just("0" * 31),
        "content_size": st.none() | st.integers(-1, 50), "origin_rev_id": st.none() | st.integers(-1, 9),
    }
)  # fmt: skip
rows = st.fixed_dictionaries(
    {
        "page_title": texts, "page_redirect_target": st.none() | texts, "page_restrictions": st.none() | texts,
        "revision_parent_id": st.none() | st.integers(-1, 9),
        "revision_dt": st.datetimes(datetime(1, 1, 1), datetime(9999, 1, 1)).map(lambda t: t.replace(tzinfo=UTC)),
        "user_id": st.none() | st.integers(-1, 9), "user_text": st.none() | texts, "user_is_visible": st.none() | st.booleans(),
        "revision_comment": st.none() | texts, "revision_comment_is_visible": st.none() | st.booleans(),
        "revision_is_minor_edit": st.none() | st.booleans(), "revision_sha1": st.none() | st.just("0" * 31),
        "revision_content_is_visible": st.none() | st.booleans(),
        "revision_content_slots": st.dictionaries(st.sampled_from(["main", "mediainfo", "aux"]), slots).map(lambda s: list(s.items())),
    }
)  # fmt: skip


@given(rows, st.booleans())
@settings(max_examples=80, deadline=None)
def test_whatever_a_revision_holds_is_valid_and_read_back(changes: dict[str, Any], text: bool) -> None:
    row = given_row(**changes)
    data = document(row, text=text)
    assert violations(data) == []
    [found] = read(data)
    assert not found.faults
    assert found.dt == row["revision_dt"].replace(microsecond=0)
    assert found.page.title == cleaned(row["page_title"]).replace("_", " ")
    if row["page_redirect_target"]:
        assert found.page.redirect_target is not None
    shown = row["user_is_visible"] and row["user_text"] is not None
    assert found.user_is_visible == bool(shown)
    assert found.user_text == (cleaned(row["user_text"]) if shown else None)
    assert found.user_id == (max(row["user_id"], 0) if shown and row["user_id"] is not None else None)
    visible = bool(row["revision_comment_is_visible"])
    assert (found.comment, found.comment_is_visible) == (cleaned(row["revision_comment"] or "") if visible else None, visible)
    if row["revision_content_is_visible"] and text:
        for content in found.contents:
            given = dict(row["revision_content_slots"]).get(content.role, {})
            assert (content.body or "") == cleaned(given.get("content_body") or "")


@pytest.mark.parametrize(("flag", "gone"), [
    ("user_is_visible", {"user_text": SECRET, "user_id": 424242}),
    ("revision_comment_is_visible", {"revision_comment": SECRET}),
    ("revision_content_is_visible", {
        "revision_sha1": SECRET, "revision_size": 424242,
        "revision_content_slots": [
            ("main", slot(SECRET) | {"content_sha1": SECRET, "content_size": 424242}), ("aux", slot(SECRET, size=424242)),
        ],
    }),
])  # fmt: skip
@pytest.mark.parametrize("hidden", [False, None])
def test_nothing_of_what_is_hidden_is_written(flag: str, gone: dict[str, Any], hidden: bool | None) -> None:
    shown = document(given_row(**gone)).decode()
    assert SECRET in shown
    for text in (True, False):
        data = document(given_row(**gone, **{flag: hidden}), text=text).decode()
        assert SECRET not in data
        assert "424242" not in data
        assert data.count(' deleted="deleted" />') == 1


def test_the_order_and_form_of_everything_at_once() -> None:
    slots = [("main", slot("a < b & c\n", origin=3)), ("mediainfo", slot("{}", model="wikibase-mediainfo", origin=4))]
    row = given_row(
        page_title="Talk:A_b", page_namespace_id=1, page_redirect_target='Q"', revision_id=5, revision_parent_id=4,
        revision_content_slots=slots,
        revision_is_minor_edit=True, revision_comment="c", user_id=None, user_text="192.0.2.1",
        revision_dt=datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
    )  # fmt: skip
    text = document(row).decode()
    body = text[text.index("  <page>") : text.index("</mediawiki>")]
    assert body == (
        "  <page>\n    <title>Talk:A b</title>\n    <ns>1</ns>\n    <id>1</id>\n    <redirect title=\"Q&quot;\" />\n"
        "    <revision>\n      <id>5</id>\n      <parentid>4</parentid>\n      <timestamp>2026-01-02T03:04:05Z</timestamp>\n"
        "      <contributor>\n        <ip>192.0.2.1</ip>\n      </contributor>\n      <minor />\n      <comment>c</comment>\n"
        "      <origin>3</origin>\n      <model>wikitext</model>\n      <format>text/x-wiki</format>\n"
        '      <text bytes="10" sha1="61o9wqbehiqpmke7163b1675fic2cri" xml:space="preserve">a &lt; b &amp; c\n</text>\n'
        "      <content>\n        <role>mediainfo</role>\n        <origin>4</origin>\n        <model>wikibase-mediainfo</model>\n"
        "        <format>text/x-wiki</format>\n"
        '        <text bytes="2" sha1="61o9wqbehiqpmke7163b1675fic2cri" xml:space="preserve">{}</text>\n'
        "      </content>\n      <sha1>61o9wqbehiqpmke7163b1675fic2cri</sha1>\n    </revision>\n  </page>\n"
    )  # fmt: skip
    assert '<namespace key="0" case="first-letter" />\n      <namespace key="1" case="first-letter">Talk</namespace>' in text
    assert "<sitename>Wiki &amp; &lt;Co&gt;</sitename>" in text


def test_a_stub_knows_sizes_and_hashes_and_has_no_text() -> None:
    data = document(given_row(), text=False)
    [found] = read(data)
    assert (found.contents[0].body, found.contents[0].size, found.contents[0].sha1) == (None, 4, "61o9wqbehiqpmke7163b1675fic2cri")
    assert ElementTree.fromstring(data) is not None


def test_characters_that_xml_has_not_are_replaced_and_all_others_kept() -> None:
    body = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x11000)]))
    [found] = read(document(given_row(revision_content_slots=[("main", slot(body))])))
    assert found.contents[0].body == cleaned(body)

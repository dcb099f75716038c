"""MediaWiki XML dumps: every revision a row, told from an independent reading; what is no dump is refused in one sentence."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import random
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_resources.contracts.landing_laws import XML_DUMP_FIELDS
from platform_resources.landing import mediawiki_export, xml_dump
from platform_resources.landing.mediawiki_export import Revision, revisions
from platform_resources.landing.source import Block, DeliveryRefused
from tests.landing.dump_contracts import DELIVERY, dump_contract

HEAD = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="en">
  <siteinfo><sitename>Test</sitename><dbname>testwiki</dbname><namespaces><namespace key="0" /><namespace key="1">Talk</namespace>
  </namespaces></siteinfo>
"""
COUNTS = {  # revisions and pages, by grep
    "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2": (206, 206),
    "pages-articles-sample1.xml.bz2": (8, 8),
    "pages-articles-sample2.xml.bz2": (6, 6),
    "pages-articles-sample3.xml.bz2": (5, 5),
    "pages-articles-sample4.xml.bz2": (4, 4),
    "stub-articles-sample.xml.gz": (23, 23),
    "stub-history-sample.xml.gz": (118, 20),
    "MediawikiDumperOutputTest.Simplewiki.Sample.xml": (33, 2),
}
SCALARS = [f"name: {name}, logicalType: {field.logical_type}" for name, field in xml_dump.FIELDS.items() if field.logical_type != "map"]
SLOTS = (
    "name: revision_content_slots, logicalType: map, map: {key: {logicalType: string}, value: {logicalType: object, properties: ["
    "{name: content_body, logicalType: string}, {name: content_format, logicalType: string}, {name: content_model, logicalType: string}, "
    "{name: content_sha1, logicalType: string}, {name: content_size, logicalType: integer}, {name: origin_rev_id, logicalType: integer}]}}"
)


def page(*inside: str, facts: str = "<title>A</title><ns>0</ns><id>1</id>") -> bytes:
    return f"{HEAD}<page>{facts}{''.join(inside)}</page></mediawiki>\n".encode()


def revision(number: int = 1, text: str = "<text>a</text>", more: str = "", when: str = "2024-01-02T03:04:05Z") -> str:
    return f"<revision><id>{number}</id><timestamp>{when}</timestamp>{more}<model>wikitext</model>{text}<sha1>x</sha1></revision>"


def read(document: bytes, *columns: str) -> Block:
    """All of a dump as one block."""
    blocks = list(xml_dump.read(io.BytesIO(document), DELIVERY, dump_contract("xml_dump", *columns)))
    lines = pa.concat_arrays([block.lines for block in blocks])
    return Block(pa.concat_tables([block.rows for block in blocks]), lines, [one for block in blocks for one in block.refused])


def real_file(realdata: Path, name: str) -> bytes:
    path = next(path for path in (realdata / "xml_dumps" / name, realdata / "content_history" / name) if path.exists())
    data = path.read_bytes()
    return bz2.decompress(data) if name.endswith(".bz2") else gzip.decompress(data) if name.endswith(".gz") else data


# --- real dumps


def independent(document: bytes) -> Iterator[dict[str, Any]]:
    """The same rows by ElementTree, straight from the schema's words."""
    root = ET.fromstring(document)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    names = {int(one.get("key", "")): one.text or "" for one in root.iterfind("siteinfo/namespaces/namespace")}
    for one_page in root.iterfind("page"):
        redirect = one_page.find("redirect")
        for one in one_page.iterfind("revision"):
            text, comment, contributor = one.find("text"), one.find("comment"), one.find("contributor")
            assert text is not None
            assert contributor is not None
            stub = "id" in text.attrib or "location" in text.attrib
            hidden = text.get("deleted") == "deleted"
            size = int(text.get("bytes", "-1"))
            body = None if hidden or stub else text.text or ""
            yield {
                "wiki_id": root.findtext("siteinfo/dbname"),
                "page_id": int(one_page.findtext("id", "")),
                "page_namespace_id": int(one_page.findtext("ns", "")),
                "page_namespace_name": names.get(int(one_page.findtext("ns", ""))),
                "page_title": one_page.findtext("title"),
                "page_redirect_target": None if redirect is None else redirect.get("title"),
                "revision_id": int(one.findtext("id", "")),
                "revision_parent_id": int(one.findtext("parentid", "0")) or None,
                "revision_dt": one.findtext("timestamp"),
                "user_id": int(contributor.findtext("id", "-1")) if contributor.find("id") is not None else None,
                "user_text": contributor.findtext("username") or contributor.findtext("ip"),
                "user_is_visible": contributor.get("deleted") is None,
                "revision_comment": "" if comment is None else None if comment.get("deleted") else comment.text or "",
                "revision_comment_is_visible": comment is None or comment.get("deleted") is None,
                "revision_is_minor_edit": one.find("minor") is not None,
                "revision_sha1": one.findtext("sha1") or None,
                "revision_size": size if size >= 0 else None if body is None else len(body.encode()),
                "revision_content_is_visible": not hidden,
                "content_body": body,
                "content_model": one.findtext("model"),
                "content_format": one.findtext("format"),
                "origin_rev_id": int(one.findtext("origin", "0")) or None,
                "site_generator": root.findtext("siteinfo/generator"),
                "export_version": root.get("version"),
            }


@pytest.mark.parametrize("name", COUNTS)
def test_every_real_dump_is_read_as_elementtree_reads_it(realdata: Path, name: str) -> None:
    document = real_file(realdata, name)
    block = read(document, *SCALARS)
    expected = list(independent(document))
    assert (len(block.rows), len(set(block.rows["page_id"].to_pylist()))) == COUNTS[name]
    assert block.lines.to_pylist() == list(range(1, len(expected) + 1))
    assert not block.refused
    rows = block.rows.to_pylist()
    for row in rows:
        row["revision_dt"] = row["revision_dt"].strftime("%Y-%m-%dT%H:%M:%SZ")
    assert [{key: row[key] for key in expected[0]} for row in rows] == expected


def test_the_simplewiki_dump_gives_the_rows_of_the_content_history(realdata: Path) -> None:
    """The dump was written from these rows. What they call redacted, or -1, is null here."""
    lines = gzip.decompress((realdata / "content_history" / "wmf_content_mediawiki_content_history_v1.json.gz").read_bytes()).splitlines()
    oracle = {row["revision_id"]: row for row in map(json.loads, lines) if row["wiki_id"] == "simplewiki"}
    block = read(real_file(realdata, "MediawikiDumperOutputTest.Simplewiki.Sample.xml"), *SCALARS, SLOTS)
    for row in block.rows.to_pylist():
        known = oracle[row["revision_id"]]
        slots = {role: {"content_format": "error-no-format", **slot} for role, slot in known.pop("revision_content_slots").items()}
        assert dict(row.pop("revision_content_slots")) == {role: _shown(slot) for role, slot in slots.items()}
        known["revision_dt"] = datetime.fromisoformat(known["revision_dt"])
        known["page_redirect_target"] = known.get("page_redirect_target") or None
        known["user_is_visible"] &= "user_text" in known  # one row has no author; the dump says it is hidden
        same = known.keys() & row.keys()
        assert len(same) >= 14
        assert {name: row[name] for name in same} == {name: value for name, value in _shown(known).items() if name in same}
    assert len(block.rows) == 33


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {name: None if value in ("redacted", -1) else value for name, value in row.items()}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("xml_dumps/mediawiki-dump-test.xml", "does not say its version of the export schema"),
        ("wikidata_entities/sample-daily-dump-20140220.xml", "is of the export schema 0.8"),
        ("xml_dumps/dcat_wikidata_config.json", "is no MediaWiki XML export"),
        ("xml_dumps/stub-history-sample.xml.gz", "is no MediaWiki XML export"),
    ],
)
def test_real_files_of_another_kind_are_refused(realdata: Path, name: str, said: str) -> None:
    with pytest.raises(DeliveryRefused, match=said) as refusal, (realdata / name).open("rb") as stream:
        list(revisions(stream, "wiki.dump"))
    assert refusal.value.remedy


# --- what a revision says


def only(document: bytes) -> Revision:
    [found] = revisions(io.BytesIO(document), "wiki.dump")
    return found


def test_every_slot_of_a_revision_is_kept_and_the_contract_takes_what_it_declares() -> None:
    main = '<origin>7</origin><text bytes="3" sha1="m" xml:space="preserve">a\nb</text>'
    other = "<content><role>mediainfo</role><origin>5</origin><model>wikibase-mediainfo</model><format>application/json</format>"
    document = page(revision(9, main, other + '<text bytes="2" sha1="i">{}</text></content>'))
    [row] = read(document, SLOTS, "name: revision_size, logicalType: integer").rows.to_pylist()
    slots = dict(row["revision_content_slots"])
    assert list(slots) == ["main", "mediainfo"]
    assert slots["main"]["content_body"] == "a\nb"
    assert slots["mediainfo"] == {
        "content_body": "{}",
        "content_format": "application/json",
        "content_model": "wikibase-mediainfo",
        "content_sha1": "i",
        "content_size": 2,
        "origin_rev_id": 5,
    }
    assert row["revision_size"] == 5
    few = "map: {key: {logicalType: string}, value: {logicalType: object, properties: [{name: content_size, logicalType: integer}]}}"
    [row] = read(document, f"name: slots, physicalName: content_slots, logicalType: map, {few}").rows.to_pylist()
    assert dict(row["slots"]) == {"main": {"content_size": 3}, "mediainfo": {"content_size": 2}}


@pytest.mark.parametrize(
    ("text", "body", "size", "visible"),
    [
        ("<text />", "", 0, True),
        ('<text xml:space="preserve"></text>', "", 0, True),
        ('<text bytes="0" />', "", 0, True),
        ('<text bytes="0" id="3" />', None, 0, True),
        ('<text bytes="58" id="1" />', None, 58, True),
        ('<text bytes="58" location="tt:1" />', None, 58, True),
        ('<text bytes="58" />', None, 58, True),
        ('<text bytes="-1" deleted="deleted" />', None, None, False),
        ('<text deleted="deleted" />', None, None, False),
        ("<text> \n&lt;&#x1D11E;\t</text>", " \n<𝄞\t", 8, True),
        ("", None, None, True),
    ],
)
def test_empty_hidden_and_absent_texts_are_told_apart(text: str, body: str | None, size: int | None, visible: bool) -> None:
    [content] = only(page(revision(1, text))).contents
    assert (content.body, content.size, content.is_visible) == (body, size, visible)


@pytest.mark.parametrize(
    ("contributor", "user"),
    [
        ("<contributor><username>Ann &amp; Bob</username><id>7</id></contributor>", (7, "Ann & Bob", True)),
        ("<contributor><username>imported</username><id>0</id></contributor>", (0, "imported", True)),
        ("<contributor><ip>192.0.2.1</ip></contributor>", (None, "192.0.2.1", True)),
        ("<contributor><username /><id>3</id></contributor>", (3, "", True)),
        ('<contributor deleted="deleted" />', (None, None, False)),
        ("<contributor></contributor>", (None, None, True)),
        ("", (None, None, True)),
    ],
)
def test_named_anonymous_hidden_and_missing_authors(contributor: str, user: tuple[int | None, str | None, bool]) -> None:
    found = only(page(revision(more=contributor)))
    assert (found.user_id, found.user_text, found.user_is_visible) == user


def test_hidden_and_missing_summaries() -> None:
    document = page(revision(1, more='<comment deleted="deleted" />'), revision(2), revision(3, more="<minor /><comment>c</comment>"))
    found = list(revisions(io.BytesIO(document), "wiki.dump"))
    assert [(one.comment, one.comment_is_visible, one.is_minor_edit) for one in found] == [
        (None, False, False),
        ("", True, False),
        ("c", True, True),
    ]


def test_uploads_and_unknown_elements_are_passed_over() -> None:
    strange = "<upload><timestamp>x</timestamp><contributor><username>U</username></contributor></upload><new><deep>1</deep></new>"
    found = only(page(revision(4, more="<later a='1'><id>99</id></later>"), strange))
    assert (found.id, found.user_text, found.page.id) == (4, None, 1)


def test_a_page_without_revisions_and_a_dump_without_pages_give_no_rows() -> None:
    assert list(revisions(io.BytesIO(page()), "d")) == []
    assert list(xml_dump.read(io.BytesIO((HEAD + "</mediawiki>").encode()), DELIVERY, dump_contract("xml_dump", *SCALARS))) == []


# --- records that are no rows


def test_a_bad_revision_goes_to_quarantine_with_its_number_and_what_it_said() -> None:
    good, bad = revision(1), revision(2).replace("<id>2</id>", "<id>two</id>")
    untimed = revision(3).replace("<timestamp>2024-01-02T03:04:05Z</timestamp>", "")
    wrong = [revision(4, when="2024-02-30T00:00:00Z"), revision(5, when="2024-02-03T00:00:00")]
    columns = ["name: revision_id, logicalType: integer", "name: revision_dt, logicalType: timestamp, required: true"]
    block = read(page(good, bad, untimed, *wrong, revision(6)), *columns)
    assert block.rows["revision_id"].to_pylist() == [1, 6]
    assert block.lines.to_pylist() == [1, 6]
    assert [(one.line, one.reason, one.path) for one in block.refused] == [
        (2, "type-mismatch", "id"),
        (3, "schema-violation", "revision_dt"),
        (4, "unreadable-timestamp", "timestamp"),
        (5, "unreadable-timestamp", "timestamp"),
    ]
    assert json.loads(block.refused[0].raw or b"")["content_body"] == "a"


def test_a_number_that_its_column_cannot_hold_is_no_row() -> None:
    columns = "name: page_id, logicalType: integer, physicalType: int"
    block = read(page(revision(1), facts="<title>A</title><ns>0</ns><id>3000000000</id>"), columns)
    assert [(one.line, one.reason, one.path) for one in block.refused] == [(1, "out-of-range", "page_id")]
    huge = page(revision(1), facts=f"<title>A</title><ns>0</ns><id>{10**30}</id>")
    assert [one.reason for one in read(huge, columns).refused] == ["out-of-range"]


def test_a_revision_larger_than_any_is_no_row_and_the_next_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mediawiki_export, "MAX_RECORD", 100_000)
    document = page(revision(1, f"<text>{'x' * 300_000}</text>"), revision(2, f"<text>{'y' * 90_000}</text>"))
    block = read(document, "name: content_body, logicalType: string")
    assert [(one.line, one.reason, one.raw) for one in block.refused] == [(1, "too-large", None)]
    assert block.rows["content_body"].to_pylist() == ["y" * 90_000]


# --- deliveries that are no dumps


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (b"", "not-an-export"),
        (b"\n  ", "not-an-export"),
        (b"<html><body>404</body></html>", "not-an-export"),
        (b"<!DOCTYPE html><html></html>", "not-an-export"),
        (b"INSERT INTO page VALUES (1);", "not-an-export"),
        (b"<mediawiki version='0.11'/><again/>", "export-malformed"),
        (b"<mediawiki version='0.11' xmlns='http://example.org/'></mediawiki>", "export-version"),
        (b"<mediawiki xmlns='http://www.mediawiki.org/xml/export-0.12/' version='0.12'></mediawiki>", "export-version"),
        (b"<?xml version='1.0' encoding='iso-8859-1'?>" + page(revision()), "export-encoding"),
        (page(revision()).decode().encode("utf-16"), "export-encoding"),
        (page(revision()).decode().encode("utf-16-le"), "export-encoding"),
        (page(revision()).decode().encode("utf-16-be"), "export-encoding"),
        (page(revision()).decode().encode("utf-32"), "export-encoding"),
        (page(revision(1, "<text>\xe4</text>")).decode().encode("latin-1"), "export-malformed"),
        (page("<revision><id>1</revision>"), "export-malformed"),
        (page(revision(1, "<text>&unknown;</text>")), "export-malformed"),
        (page(revision(1, "<text>\x01</text>")), "export-malformed"),
        ((HEAD + "<logitem><id>1</id></logitem></mediawiki>").encode(), "not-an-export"),
        ((HEAD + "<a>" * 100).encode(), "not-an-export"),
        ((HEAD + "</mediawiki>").replace('key="1"', 'key="one"').encode(), "export-malformed"),
    ],
)
def test_what_is_no_dump_is_refused_in_one_sentence(document: bytes, code: str) -> None:
    with pytest.raises(DeliveryRefused) as refusal:
        list(revisions(io.BytesIO(document), "wiki.dump"))
    error = refusal.value
    assert error.code == code
    assert error.message.startswith("wiki.dump ")
    assert error.message.endswith(".")
    assert "\n" not in error.message
    assert error.remedy


def test_entities_are_never_expanded() -> None:
    laughs = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10 if i else "ha"}">' for i in range(10))
    document = f"<!DOCTYPE m [{laughs}]>".encode() + page(revision(1, "<text>&e9;</text>"))
    with pytest.raises(DeliveryRefused, match="declares a document type"):
        list(revisions(io.BytesIO(document), "wiki.dump"))


def test_a_tag_without_an_end_is_refused_before_it_fills_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mediawiki_export, "MAX_RECORD", 100_000)
    with pytest.raises(DeliveryRefused, match="has a tag without an end"):
        list(revisions(io.BytesIO((HEAD + "<page a='").encode() + b"x" * 2_000_000), "wiki.dump"))


def test_a_dump_cut_anywhere_is_refused_as_truncated() -> None:
    document = page(revision(1), revision(2, '<text bytes="2">\u00e4</text>'), revision(3)).rstrip()
    begun = document.index(b">") + 1
    for end in range(begun, len(document)):
        with pytest.raises(DeliveryRefused) as refusal:
            list(revisions(io.BytesIO(document[:end]), "wiki.dump"))
        assert refusal.value.code == "delivery-truncated", (end, refusal.value)


def test_a_column_that_no_dump_has_is_told_by_the_contract() -> None:
    with pytest.raises(AssertionError, match=r"page_titel is nothing that an XML dump has\. Did you mean page_title\?"):
        dump_contract("xml_dump", "name: page_titel, logicalType: string")
    with pytest.raises(AssertionError, match="column title, called heading there, is nothing"):
        dump_contract("xml_dump", "name: title, physicalName: heading, logicalType: string")
    assert set(XML_DUMP_FIELDS) == {*xml_dump.FIELDS, *xml_dump.SHORT_NAMES}


# --- laws

texts = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="\ufffe\uffff") | st.sampled_from("\t\n<>&\"']]>")
)
histories = st.lists(
    st.tuples(st.integers(1, 2**63 - 1), st.none() | texts, st.none() | texts, st.none() | st.integers(0, 2**40), st.booleans()), max_size=6
)


class Dribble(io.RawIOBase):
    """A stream that gives fewer bytes than it is asked for, as decompressors and sockets do."""

    def __init__(self, data: bytes, seed: int) -> None:
        self._data, self._at, self._draw = data, 0, random.Random(seed)

    def read(self, size: int = -1) -> bytes:
        end = self._at + self._draw.randint(1, 7)
        found, self._at = self._data[self._at : end], min(end, len(self._data))
        return found


@given(history=histories, title=texts, seed=st.integers(0, 1000))
def test_what_is_written_is_read_however_it_arrives(history: list[Any], title: str, seed: int) -> None:
    written = [
        f"<revision><id>{number}</id>"
        + ("" if user is None else f"<contributor><username>{escape(title)}</username><id>{user}</id></contributor>")
        + ('<comment deleted="deleted" />' if comment is None else f"<comment>{escape(comment)}</comment>")
        + ("<minor/>" if minor else "")
        + ('<text deleted="deleted" />' if text is None else f"<text bytes={quoteattr(str(len(text.encode())))}>{escape(text)}</text>")
        + "</revision>"
        for number, text, comment, user, minor in history
    ]
    document = page(*written, facts=f"<title>{escape(title)}</title><ns>1</ns><id>5</id><redirect title={quoteattr(title)} />")
    found = list(revisions(Dribble(document, seed), "wiki.dump"))  # type: ignore[arg-type]
    assert [(one.id, one.contents[0].body, one.comment, one.user_id, one.is_minor_edit) for one in found] == history
    assert all(one.page.title == title and not one.faults for one in found)
    assert [one.number for one in found] == list(range(1, len(history) + 1))

"""MediaWiki's XML export, schema 0.11, written: a site, pages and revisions become the text of their elements.

The counterpart of `landing.mediawiki_export`, which reads it. Only the format lives here: no file, no query. What is hidden is not
written in any form, neither its bytes nor its hash nor its length. https://www.mediawiki.org/xml/export-0.11.xsd
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

GENERATOR = "Shared Data Platform"
CLOSING = "</mediawiki>\n"
PAGE_END = "  </page>\n"

_NAMESPACE = "http://www.mediawiki.org/xml/export-0.11/"
# What XML 1.0 cannot hold in any form; MediaWiki's exports have the replacement character in its place.
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r"))
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_LANGUAGE = re.compile(r"[a-zA-Z]{1,8}(-[a-zA-Z0-9]{1,8})*")  # XML Schema's type language
_MODEL = re.compile(r"[a-zA-Z][-+./a-zA-Z0-9]*")
_FORMAT = re.compile(r"[a-zA-Z][-+.a-zA-Z0-9]*/[a-zA-Z][-+.a-zA-Z0-9]*")
_CASES = ("first-letter", "case-sensitive", "case-insensitive")
_FORMATS = {"wikitext": "text/x-wiki", "javascript": "text/javascript", "css": "text/css", "json": "application/json"}
_HIDDEN = ' deleted="deleted" />\n'


@dataclass(frozen=True)
class Site:
    """A wiki as the head of its dumps tells it; `namespaces` are (number, local name, case)."""

    wiki_id: str
    name: str
    base: str
    case: str
    language: str
    namespaces: Sequence[tuple[int, str, str]]


def escaped(text: str) -> str:
    """Text as it stands in an element or an attribute. A carriage return is written as a reference, else parsers make it a line feed."""
    if "&" in text:
        text = text.replace("&", "&amp;")
    if "<" in text:
        text = text.replace("<", "&lt;")
    if ">" in text:
        text = text.replace(">", "&gt;")
    if '"' in text:
        text = text.replace('"', "&quot;")
    if "\r" in text:
        text = text.replace("\r", "&#13;")
    raw = text.encode()
    clean = len(raw.translate(None, _CONTROLS)) == len(raw)  # ten times as fast as the expression, which seldom finds anything
    return text if clean and "\ufffe" not in text and "\uffff" not in text else _FORBIDDEN.sub("\ufffd", text)


def opening(site: Site) -> str:
    """The document up to its first page."""
    language = site.language if _LANGUAGE.fullmatch(site.language or "") else "en"
    spaces = "".join(_namespace(*one) for one in sorted(site.namespaces))
    return (
        f'<mediawiki xmlns="{_NAMESPACE}" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
        f'xsi:schemaLocation="{_NAMESPACE} {_NAMESPACE[:-1]}.xsd" version="0.11" xml:lang="{language}">\n'
        f"  <siteinfo>\n    <sitename>{escaped(site.name)}</sitename>\n    <dbname>{escaped(site.wiki_id)}</dbname>\n"
        f"    <base>{escaped(site.base)}</base>\n    <generator>{GENERATOR}</generator>\n    <case>{_case(site.case)}</case>\n"
        f"    <namespaces>\n{spaces}    </namespaces>\n  </siteinfo>\n"
    )


def _namespace(number: int, name: str, case: str) -> str:
    head = f'      <namespace key="{number}" case="{_case(case)}"'
    return f"{head}>{escaped(name)}</namespace>\n" if name else f"{head} />\n"


def _case(text: str | None) -> str:
    return text if text in _CASES else _CASES[0]


def page_start(page: Mapping[str, Any]) -> str:
    """A page up to its first revision. `page` has the export's columns of the page, as its newest revision in the dump says them."""
    redirect, restrictions = page["page_redirect_target"], page["page_restrictions"]
    return (
        f"  <page>\n    <title>{escaped(_spaced(page['page_title']))}</title>\n    <ns>{page['page_namespace_id']}</ns>\n"
        f"    <id>{page['page_id']}</id>\n"
        + (f'    <redirect title="{escaped(_spaced(redirect))}" />\n' if redirect else "")
        + (f"    <restrictions>{escaped(restrictions)}</restrictions>\n" if restrictions else "")
    )


def _spaced(title: str) -> str:
    return title.replace("_", " ")


def revision(row: Mapping[str, Any], *, text: bool = True) -> str:
    """One revision.

    Args:
        row: the export's columns of the revision; `main` is its main slot, `others` are (role, slot) of the others by role.
        text: whether texts are written, or only what is known of them (a stub).
    """
    parent, number = row["revision_parent_id"], row["revision_id"]
    visible = row["revision_content_is_visible"]
    slots = "".join(_content(role, slot, number, text=text) for role, slot in row["others"] or ()) if visible else ""
    sha1 = row["revision_sha1"] if visible else None
    return (
        f"    <revision>\n      <id>{number}</id>\n"
        + (f"      <parentid>{parent}</parentid>\n" if parent is not None and parent > 0 else "")
        + f"      <timestamp>{_instant(row['revision_dt'])}</timestamp>\n"
        + _contributor(row)
        + ("      <minor />\n" if row["revision_is_minor_edit"] else "")
        + _comment(row)
        + _slot(row["main"] or {}, number, "      ", visible=visible, text=text)
        + slots
        + (f"      <sha1>{sha1}</sha1>\n" if sha1 else "      <sha1 />\n")
        + "    </revision>\n"
    )


def _instant(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def _contributor(row: Mapping[str, Any]) -> str:
    """Who has no id is known by the address only; who is imported has the id 0."""
    user_id, name = row["user_id"], row["user_text"]
    if not row["user_is_visible"] or name is None:
        return f"      <contributor{_HIDDEN}"
    said = f"<ip>{escaped(name)}</ip>\n"
    if user_id is not None:
        said = f"<username>{escaped(name)}</username>\n        <id>{max(user_id, 0)}</id>\n"
    return f"      <contributor>\n        {said}      </contributor>\n"


def _comment(row: Mapping[str, Any]) -> str:
    """The schema wants one of every revision, though MediaWiki leaves out an empty one."""
    if not row["revision_comment_is_visible"]:
        return f"      <comment{_HIDDEN}"
    comment = row["revision_comment"]
    return f"      <comment>{escaped(comment)}</comment>\n" if comment else "      <comment />\n"


def _content(role: str, slot: Mapping[str, Any], number: int, *, text: bool) -> str:
    inner = _slot(slot, number, "        ", visible=True, text=text)
    return f"      <content>\n        <role>{role}</role>\n{inner}      </content>\n"


def _slot(slot: Mapping[str, Any], number: int, indent: str, *, visible: bool, text: bool) -> str:
    """What is known of a slot, and its text."""
    model, form, origin = slot.get("content_model"), slot.get("content_format"), slot.get("origin_rev_id")
    model = model if model and _MODEL.fullmatch(model) else "unknown" if model else "wikitext"
    form = form if form and _FORMAT.fullmatch(form) else _FORMATS.get(model, "text/plain")
    head = (
        f"{indent}<origin>{origin if origin and origin > 0 else number}</origin>\n{indent}<model>{model}</model>\n"
        f"{indent}<format>{form}</format>\n{indent}<text"
    )
    if not visible:
        return head + _HIDDEN
    body, size, sha1 = slot.get("content_body"), slot.get("content_size"), slot.get("content_sha1")
    if size is None or size < 0:
        size = len(body.encode()) if body is not None else 0
    if not size and not body:
        return f'{head} bytes="0" />\n'
    attributes = f' bytes="{size}"' + (f' sha1="{sha1}"' if sha1 else "")
    if body is None or not text:
        return f"{head}{attributes} />\n"
    return f'{head}{attributes} xml:space="preserve">{escaped(body)}</text>\n'

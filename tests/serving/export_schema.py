"""The rules of MediaWiki's export schema 0.11, in our own words: which elements stand where, how often, and what may be in them.

Facts of https://www.mediawiki.org/xml/export-0.11.xsd as of 2024. `violations` gives one sentence for each rule that a document breaks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree

SPACE = "{http://www.mediawiki.org/xml/export-0.11/}"
XML = "{http://www.w3.org/XML/1998/namespace}"
XSI = "{http://www.w3.org/2001/XMLSchema-instance}"

TEXT, POSITIVE, NATURAL, WHOLE = r"(?s).*", r"\s*\+?0*[1-9]\d*\s*", r"\s*(\+?\d+|-0+)\s*", r"\s*[+-]?\d+\s*"
INSTANT = r"\s*-?\d{4,}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?\s*"
CASE = r"\s*(first-letter|case-sensitive|case-insensitive)\s*"
MODEL = r"[a-zA-Z][-+./a-zA-Z0-9]*"
FORMAT = r"[a-zA-Z][-+.a-zA-Z0-9]*/[a-zA-Z][-+.a-zA-Z0-9]*"
DELETED = {"deleted": r"\s*deleted\s*"}
OF_TEXT = {f"{XML}space": "preserve|default", **DELETED, "location": TEXT, "sha1": TEXT, "bytes": NATURAL}

# Of an element with children: (name, least, most) in their order. Of one with text: a pattern. Attributes by name.
SEQUENCES = {
    "mediawiki": [("siteinfo", 0, 1), ("page", 0, None), ("logitem", 0, None)],
    "siteinfo": [(name, 0, 1) for name in ("sitename", "dbname", "base", "generator", "case", "namespaces")],
    "namespaces": [("namespace", 0, None)],
    "page": [("title", 1, 1), ("ns", 1, 1), ("id", 1, 1), ("redirect", 0, 1), ("restrictions", 0, 1), ("revision", 0, None)],
    "revision": [
        ("id", 1, 1), ("parentid", 0, 1), ("timestamp", 1, 1), ("contributor", 1, 1), ("minor", 0, 1), ("comment", 1, 1), ("origin", 1, 1),
        ("model", 1, 1), ("format", 1, 1), ("text", 1, 1), ("content", 0, None), ("sha1", 1, 1),
    ],
    "content": [("role", 1, 1), ("origin", 1, 1), ("model", 1, 1), ("format", 1, 1), ("text", 1, 1)],
    "contributor": [("username", 0, 1), ("id", 0, 1), ("ip", 0, 1)],
}  # fmt: skip
TEXTS = {
    "sitename": TEXT, "dbname": TEXT, "base": r"[^<>\"{}|\\^`]*", "generator": TEXT, "case": CASE, "namespace": TEXT, "title": TEXT,
    "ns": NATURAL, "id": POSITIVE, "redirect": TEXT, "restrictions": TEXT, "parentid": POSITIVE, "timestamp": INSTANT, "minor": TEXT,
    "comment": TEXT, "origin": POSITIVE, "model": MODEL, "format": FORMAT, "text": TEXT, "sha1": TEXT, "role": MODEL, "username": TEXT,
    "ip": TEXT, "contributor/id": NATURAL,
}  # fmt: skip
ATTRIBUTES = {
    "mediawiki": {"version": TEXT, f"{XML}lang": r"[a-zA-Z]{1,8}(-[a-zA-Z0-9]{1,8})*", f"{XSI}schemaLocation": TEXT},
    "namespace": {"key": WHOLE, "case": CASE},
    "redirect": {"title": TEXT},
    "comment": DELETED,
    "contributor": DELETED,
    "text": {"id": r"[\w:.-]+", **OF_TEXT},
}
REQUIRED = {"mediawiki": ("version", f"{XML}lang")}


def violations(document: bytes) -> list[str]:
    """What a document breaks; [] for a valid one.

    Raises:
        xml.etree.ElementTree.ParseError: it is no XML.
    """
    root = ElementTree.fromstring(document)
    found = list(_element(root, "mediawiki"))
    for name, path in (("page", f"{SPACE}page/{SPACE}id"), ("revision", f"{SPACE}page/{SPACE}revision/{SPACE}id")):
        numbers = [element.text for element in root.findall(path)]
        found += [f"the {name} id {number} stands twice" for number in sorted({n for n in numbers if numbers.count(n) > 1}, key=str)]
    return found


def _element(element: ElementTree.Element, path: str) -> Iterator[str]:
    name = path.rpartition("/")[2]
    known = ATTRIBUTES.get(name, {})
    for attribute, value in element.attrib.items():
        if attribute not in known:
            yield f"{path} has the attribute {attribute}"
        elif re.fullmatch(known[attribute], value) is None:
            yield f"{path} has {attribute}={value}"
    yield from (f"{path} lacks {attribute}" for attribute in REQUIRED.get(name, ()) if attribute not in element.attrib)
    if name in SEQUENCES:
        yield from _sequence(element, path)
        return
    if len(element):
        yield f"{path} has children"
    pattern = TEXTS.get("/".join(path.split("/")[-2:]), TEXTS.get(name, TEXT))
    if re.fullmatch(pattern, element.text or "") is None:
        yield f"{path} is {(element.text or '')[:40]!r}"


def _sequence(element: ElementTree.Element, path: str) -> Iterator[str]:
    if any((text or "").strip() for text in (element.text, *(child.tail for child in element))):
        yield f"{path} has text between its elements"
    children = [child.tag.removeprefix(SPACE) if child.tag.startswith(SPACE) else child.tag for child in element]
    at = 0
    for name, least, most in SEQUENCES[path.rpartition("/")[2]]:
        count = 0
        while at < len(children) and children[at] == name and (most is None or count < most):
            yield from _element(element[at], f"{path}/{name}")
            at, count = at + 1, count + 1
        if count < least:
            yield f"{path} lacks {name}"
    if at < len(children):
        yield f"{path} has {children[at]} out of place"

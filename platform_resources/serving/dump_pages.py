"""What stands beside the files of a dump: checksums, a status for programs and a page for people. Texts only; nothing is written here."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import TYPE_CHECKING

from platform_resources.contracts.model import Contract

if TYPE_CHECKING:
    from platform_resources.serving.publishing import DumpFile

STATUS, PAGE = "dumpstatus.json", "index.html"
_SUMS = ("sha1", "md5")


def beside(
    contract: Contract,
    wiki: str,
    start: datetime,
    files: Sequence[DumpFile],
    inputs: Mapping[str, int | None],
    *,
    now: datetime,
    done: bool,
) -> Iterator[tuple[str, bytes]]:
    """Names and contents, in the order in which they are to be written; while files are exchanged only the status, which says so."""
    if not done:
        yield STATUS, _status(contract, wiki, start, [], inputs, now=now, done=False)
        return
    for kind in _SUMS:
        lines = "".join(f"{getattr(one, kind)}  {_own(one)}\n" for one in files)
        yield f"{wiki}-{start:%Y%m%d}-{kind}sums.txt", lines.encode()
    yield STATUS, _status(contract, wiki, start, files, inputs, now=now, done=True)
    yield PAGE, _page(contract, wiki, start, files).encode()


def companions(start: datetime, name: str) -> bool:
    """Whether a name is one of those that stand beside the files of a date."""
    return name in (STATUS, PAGE) or any(name.endswith(f"-{start:%Y%m%d}-{kind}sums.txt") for kind in _SUMS)


def _own(file: DumpFile) -> str:
    """The name inside its folder."""
    return file.name.rpartition("/")[2]


def _status(
    contract: Contract,
    wiki: str,
    start: datetime,
    files: Sequence[DumpFile],
    inputs: Mapping[str, int | None],
    *,
    now: datetime,
    done: bool,
) -> bytes:
    told = {
        "product": contract.key,
        "wiki": wiki,
        "date": f"{start:%Y-%m-%d}",
        "status": "done" if done else "in-progress",
        "updated": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "snapshots": dict(inputs),
        "files": {
            _own(one): {
                "size": one.bytes,
                "xml_size": one.xml_bytes,
                "sha1": one.sha1,
                "md5": one.md5,
                "first_page": one.pages.first,
                "last_page": one.pages.last,
                "pages": one.page_count,
                "revisions": one.revision_count,
            }
            for one in files
        },
    }
    return (json.dumps(told, indent=1) + "\n").encode()


def _page(contract: Contract, wiki: str, start: datetime, files: Sequence[DumpFile]) -> str:
    """A page without a script or anything from elsewhere."""
    rows = "".join(
        f'<tr><td><a href="{escape(_own(one))}">{escape(_own(one))}</a></td><td>{one.bytes:,}</td><td>{one.page_count:,}</td>'
        f"<td>{one.revision_count:,}</td><td><code>{one.sha1}</code></td></tr>\n"
        for one in files
    )
    sums = " ".join(f'<a href="{wiki}-{start:%Y%m%d}-{kind}sums.txt">{kind}sums</a>' for kind in _SUMS)
    pages, revisions = sum(one.page_count for one in files), sum(one.revision_count for one in files)
    owners = escape(", ".join(contract.owners))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(wiki)} {start:%Y-%m-%d}</title>
<style>body{{font:1rem sans-serif;margin:2rem}} td,th{{padding:.2rem .8rem;text-align:left}}</style>
</head><body>
<h1>{escape(contract.title)}: {escape(wiki)}, {start:%Y-%m-%d}</h1>
<p>{escape(contract.description)}</p>
<p>{pages:,} pages and {revisions:,} revisions saved before {start:%Y-%m-%d %H:%M} UTC, in {len(files):,} files.
Checksums: {sums}. For programs: <a href="{STATUS}">{STATUS}</a>.
Published by {owners} as {escape(contract.key)}, version {contract.version}.</p>
<table><tr><th>file</th><th>bytes</th><th>pages</th><th>revisions</th><th>SHA-1</th></tr>
{rows}</table>
</body></html>
"""

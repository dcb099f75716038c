"""Published dumps read by the field's own reader, mwxml, in its own environment."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from bench.peers import dump_readers
from tests.conftest import require
from tests.serving.wikis import Archive, revision, slot, some

pytestmark = pytest.mark.stack  # the environment comes from a package registry
READ = """\
import bz2, json, sys, mwxml
dump = mwxml.Dump.from_file(bz2.open(sys.argv[1]))
told = [
    [page.title, page.redirect, r.id, r.parent_id, str(r.timestamp), r.user and [r.user.id, r.user.text], r.comment, r.text, r.minor,
     r.deleted.text, r.deleted.comment, r.deleted.user]
    for page in dump for r in page
]
print(json.dumps([dump.site_info.dbname, [[n.id, n.name] for n in dump.site_info.namespaces], told]))
"""


def test_mwxml_reads_what_we_publish(tmp_path: Path) -> None:
    python = dump_readers.environment()
    require("mwxml", isinstance(python, Path), str(python))
    archive = Archive(tmp_path)
    rows = [
        revision("testwiki", 1, 1, "a < b & c\n é 𝄞", revision_comment=""),
        revision("testwiki", 1, 2, None, revision_parent_id=1, revision_content_is_visible=False, user_is_visible=False),
        revision("testwiki", 1, 3, user_id=None, user_text="192.0.2.1", revision_comment_is_visible=False, revision_comment="SECRET"),
        revision(
            "testwiki",
            1,
            4,
            page_redirect_target="Other_page",
            revision_content_slots=[("main", slot("m")), ("mediainfo", slot("{}", model="wikibase-mediainfo"))],
        ),
    ]
    archive.hold([*rows, *some([2])])
    archive.publish()
    [name] = archive.files()
    done = subprocess.run([str(python), "-c", READ, str(archive.public / name)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    dbname, spaces, told = json.loads(done.stdout)
    assert (dbname, spaces[1]) == ("testwiki", [1, "Talk"])
    assert len(told) == 7
    assert told[0] == [
        "Page 1", "Other page", 1, None, "2026-01-02T12:00:00Z", [7, "Ann"], None, "a < b & c\n é 𝄞", False, False, False, False,
    ]  # fmt: skip
    assert told[1][3:] == [1, "2026-01-03T12:00:00Z", None, "edit 2", None, True, True, False, True]
    assert told[2][5:7] == [[None, "192.0.2.1"], None]
    assert told[2][10] is True
    assert told[3][7] == "m"

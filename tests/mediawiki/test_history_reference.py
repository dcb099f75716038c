"""The tables of history are what the plain-Python reference says, whatever wikis live through and in whatever order it arrives."""

from __future__ import annotations

import gzip
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from platform_resources.config import SOURCE_ROOT
from tests.mediawiki import reference
from tests.mediawiki.computed import LANDED, RESULTS, STREAMS, Bare, Platform, Rows, arrived, landed, queries, registry, schema, stored
from tests.mediawiki.lives import TAGS, TURN, Act, Event, acts, delivered, lived
from tests.mediawiki.worked import land
from tests.products.conftest import World, world_of  # noqa: F401 - a fixture

ARRIVAL = datetime(2026, 2, 10, tzinfo=UTC)
MONTH, ENDS = date(2026, 1, 1), TURN
SNAPSHOT, SPACES = LANDED
Commit = dict[str, pa.Table]
WITHOUT_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)  # where an example takes many seconds: shrink it bare
SEEDS = st.integers(0, 2**32 - 1)


def commits_of(life: Sequence[Act], seed: int, count: int = 3) -> list[Commit]:
    """What arrives of a life, in so many commits; in one of them also a snapshot, of a wiki or both."""
    chance = random.Random(seed)
    _, events = lived(life)
    commits = [arrived(batch, ARRIVAL + timedelta(minutes=at)) for at, batch in enumerate(delivered(events, chance, count))]
    spaces = namespaces(chance)
    commits[0] = {**commits[0], SPACES: pa.concat_tables(landed(SPACES, rows, month, ARRIVAL) for month, rows in spaces.items())}
    if seed % 3:
        place = chance.randrange(count)
        at = ARRIVAL + timedelta(minutes=place)
        told = snapshot_rows(events, chance)
        both = snapshot_rows([one for one in events if chance.random() < 0.5], chance, wikis=("enwiki", "dewiki"))
        odd = odd_rows(told, chance)
        slices = [landed(SNAPSHOT, both, date(2025, 12, 1), at - timedelta(hours=1)), landed(SNAPSHOT, told, MONTH, at)]
        # each in a delivery of its own, some of them earlier than what they repeat
        slices += [landed(SNAPSHOT, [row], MONTH, at + timedelta(minutes=chance.choice((-1, 0, 0, 1)))) for row in odd]
        commits[place] = {**commits[place], SNAPSHOT: pa.concat_tables(slices)}
    return commits


def namespaces(chance: random.Random) -> dict[date, Rows]:
    """Two months of the map, the older with other content and hosts; in the newer one a wiki may be missing."""
    names = ("hostname", "language", "sitename", "home_page", "mw_version", "namespace_localized_name", "snapshot")
    rest = dict.fromkeys(names, "-") | {"case_setting": "first-letter", "namespace_case_setting": "first-letter"}
    spaces = [("enwiki", 0, "", 1), ("enwiki", 1, "Talk", 0), ("enwiki", 2, "User", 0), ("dewiki", 0, "", 1), ("dewiki", 1, "Talk", 1)]
    host = chance.choice(("{}.wikipedia.org", "{}.wikipedia.org", "www.{}.org.wikipedia.org", "one.wikipedia.org"))  # even one for both
    rows = [
        rest
        | {"dbname": wiki, "namespace": number, "namespace_canonical_name": name, "namespace_is_content": content}
        | {"hostname": host.format(wiki[:2])}
        for wiki, number, name, content in spaces
    ]
    without = "dewiki" if chance.random() < 0.2 else ""
    older = [row | {"namespace_is_content": 1, "namespace_canonical_name": "Old", "hostname": "aa.wikipedia.org"} for row in rows]
    return {date(2025, 12, 1): older, MONTH: [row for row in rows if row["dbname"] != without]}


def snapshot_rows(events: Sequence[tuple[str, Event]], chance: random.Random, wikis: Sequence[str] = ()) -> Rows:
    """What a wiki's database tells at the end of the month: by the reference, but for a few things that only one of both knows."""
    before = [one for one in events if one[1]["meta"]["dt"] < ENDS and chance.random() < 0.95]
    spaces = pa.concat_tables(landed(SPACES, rows, month, ARRIVAL) for month, rows in namespaces(random.Random(1)).items())
    known = reference.history(rows_of([{**arrived(before, ARRIVAL), SPACES: spaces}]))
    columns = [column.name for column in registry().get(SNAPSHOT).columns]
    wikis = wikis or chance.choice((("enwiki",), ("dewiki",), ("enwiki", "dewiki"), ("enwiki", "dewiki")))
    rows = []
    for row in known:
        if row["wiki_id"] not in wikis or chance.random() < 0.05:
            continue
        own = {name: row[name] for name in columns}
        if row["event_entity"] != "revision":
            own["event_key"] = f"log{len(rows)}"
        elif chance.random() < 0.4:
            flags = {"page_is_deleted": None, "revision_is_deleted_by_page_deletion": None}
            lost = {"page_title": None}, {"page_namespace": None}, flags, {"revision_is_identity_revert": None}
            own |= chance.choice((*lost, {"page_title": "Now"}, {"revision_text_sha1": None, "revision_is_identity_reverted": False}))
        if row["event_entity"] == "revision" and chance.random() < 0.1:
            own |= {"revision_is_identity_reverted": True, "revision_first_identity_reverting_revision_id": 99}
        rows.append(own)
    return rows


def odd_rows(rows: Rows, chance: random.Random) -> Rows:
    """What no snapshot should have: keys that are there already, things that happened after its end, and nothing named."""
    odd = []
    for row in chance.sample(rows, min(4, len(rows))):
        about = {"revision": "page_id", "page": "page_id", "user": "user_id"}[row["event_entity"]]
        later = {"event_timestamp": ENDS + timedelta(microseconds=chance.choice((-1, 0, 5)))}
        odd.append(row | chance.choice(({}, {"revision_tags": ["odd"]}, later, {about: None}, {"revision_id": None}, {"event_user_id": 0})))
    return odd


def rows_of(commits: Sequence[Commit]) -> dict[str, Rows]:
    """All input rows, as the tables hold them."""
    found: dict[str, Rows] = {key: [] for key in (*STREAMS.values(), *LANDED)}
    for commit in commits:
        for key, table in commit.items():
            found[key] += table.to_pylist()
    return found


def differences(expected: Rows, found: Rows) -> list[str]:
    """Each row and column that differs, in words."""

    def by_key(rows: Rows) -> dict[Any, dict[str, Any]]:
        keyed = {(row["wiki_id"], row["event_entity"], row["event_key"]): row for row in rows}
        assert len(keyed) == len(rows), f"a key occurs twice: {Counter((r['wiki_id'], r['event_entity'], r['event_key']) for r in rows)}"
        return keyed

    ours, theirs = by_key(found), by_key(expected)
    told = [f"{' '.join(key)}: missing" for key in sorted(theirs.keys() - ours.keys())]
    told += [f"{' '.join(key)}: should not be there" for key in sorted(ours.keys() - theirs.keys())]
    for key in sorted(ours.keys() & theirs.keys()):
        mine, other = ours[key], theirs[key]
        assert mine.keys() == other.keys()
        told += [f"{' '.join(key)}: {name} is {mine[name]!r}, not {other[name]!r}" for name in other if mine[name] != other[name]]
    return told


def differences_of_reduced(expected: Rows, found: Rows) -> list[str]:
    """Rows without a key: which there are too many and too few of."""

    def counted(rows: Rows) -> Counter[str]:
        return Counter(
            str({name: row[name] if not isinstance(row[name], datetime) else str(row[name].astimezone(UTC)) for name in sorted(row)})
            for row in rows
        )

    ours, theirs = counted(found), counted(expected)
    return [f"missing: {row}" for row in theirs - ours] + [f"should not be there: {row}" for row in ours - theirs]


def assert_as_the_reference(inputs: Mapping[str, Rows], history: Rows, history_reduced: Rows) -> None:
    told = differences(reference.history(inputs), history)
    assert not told, "\n".join(["mediawiki/history differs from the reference:", *told[:12]])
    told = differences_of_reduced(reference.history_reduced(inputs), history_reduced)
    assert not told, "\n".join(["mediawiki/history_reduced differs from the reference:", *told[:12]])


@pytest.fixture(scope="module")
def bare() -> Bare:
    return Bare()


def check_bare(bare: Bare, life: Sequence[Act], seed: int) -> None:
    commits = commits_of(life, seed, count=6)
    found = bare.computed(commits)
    assert_as_the_reference(rows_of(commits), *(found[key] for key in RESULTS))


@settings(max_examples=6, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(life=acts(), seed=SEEDS)
def test_history_is_what_plain_python_says(bare: Bare, life: list[Act], seed: int) -> None:
    check_bare(bare, life, seed)


@settings(max_examples=20, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(life=acts())
def test_the_reference_knows_how_the_wikis_stand(life: list[Act]) -> None:
    """Who judges the reference: the wikis themselves, after lives that were told well and in which no two acts fall together."""
    wikis, events = lived([act._replace(wait=max(act.wait, 1)) for act in life])
    spaces = [landed(SPACES, rows, month, ARRIVAL) for month, rows in namespaces(random.Random(1)).items()]
    rows = reference.history(rows_of([{**arrived(events, ARRIVAL), SPACES: pa.concat_tables(spaces)}]))
    revisions = {(row["wiki_id"], row["revision_id"]): row for row in rows if row["event_entity"] == "revision"}
    for wiki in wikis:
        tagged = {event["rev_id"] for stream, event in events if stream == TAGS and event["database"] == wiki.name}
        for page, revision in ((one, revision) for one in wiki.pages for revision in one.revisions):
            row = revisions.get((wiki.name, revision.id))
            if row is None:  # a move leaves a revision that is no edit
                continue
            assert row["revision_deleted_parts"] == [part for part in ("text", "comment", "user") if not revision.shown[part]]
            assert row["revision_tags"] == (list(revision.tags) if revision.id in tagged else None)
            if row["page_id"] == page.id:
                title = page.title.partition(":")[2] if page.namespace else page.title
                found = row["page_title"], row["page_namespace"], row["page_is_deleted"], row["page_merged_into_page_id"]
                assert found == (title, page.namespace, page.deleted, None)
            else:
                assert row["page_merged_into_page_id"] is not None and not row["revision_is_deleted_by_page_deletion"]
    names = {(wiki.name, user.id): user.name for wiki in wikis for user in wiki.users}
    for row in rows:
        if row["event_user_id"] is not None:
            assert row["event_user_text"] == names[row["wiki_id"], row["event_user_id"]]


def test_two_wikis_with_one_host_have_pages_and_editors_of_their_own(bare: Bare) -> None:
    """Both have a page 1 and an account 1; once they were one in the digests."""
    _, events = lived([])
    spaces = [row | {"hostname": "one.wikipedia.org"} for row in namespaces(random.Random(1))[MONTH]]
    commits = [{**arrived(events, ARRIVAL), SPACES: landed(SPACES, spaces, MONTH, ARRIVAL)}]
    found = bare.computed(commits)
    assert_as_the_reference(rows_of(commits), *(found[key] for key in RESULTS))
    digests = [row for row in found["mediawiki/history_reduced"] if row["event_type"] == "daily_digest"]
    assert len(digests) == 16 and {row["revisions"] for row in digests} == {1}


@pytest.mark.storm
@settings(max_examples=150, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(life=acts(), seed=SEEDS)
def test_history_is_what_plain_python_says_of_many_lives(bare: Bare, life: list[Act], seed: int) -> None:
    check_bare(bare, life, seed)


@pytest.mark.storm
@settings(max_examples=4, deadline=None, phases=WITHOUT_SHRINKING, suppress_health_check=list(HealthCheck))
@given(life=acts(most=24), seed=SEEDS)
def test_history_derived_commit_by_commit_is_what_plain_python_says(
    life: list[Act], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    live_on_a_platform(life, seed, tmp_path_factory.mktemp("home"))


def live_on_a_platform(life: Sequence[Act], seed: int, home: Path, count: int = 3) -> Platform:
    """Commit by commit, each with duplicates of what came before, deriving and comparing after each."""
    platform, commits = Platform(home), commits_of(life, seed, count)
    for number, commit in enumerate(commits, 1):
        platform.commit(commit)
        platform.derive()
        assert_as_the_reference(rows_of(commits[:number]), *(stored(platform.lakehouse, key) for key in RESULTS))
    return platform


@pytest.mark.storm
@settings(max_examples=2, deadline=None, phases=WITHOUT_SHRINKING, suppress_health_check=list(HealthCheck))
@given(life=acts(most=24), seed=SEEDS)
def test_history_of_what_came_through_gate_drain_and_landing_is_what_plain_python_says(
    world_of: Callable[[Path], World],  # noqa: F811
    life: list[Act],
    seed: int,
) -> None:
    world, chance = world_of(SOURCE_ROOT), random.Random(seed)
    _, events = lived(life)
    for month, rows in namespaces(chance).items():
        content = b"".join(orjson.dumps(row) + b"\n" for row in rows)
        land(world, SPACES, {f"project_namespace_map/snapshot={month:%Y-%m}/map.json.gz": gzip.compress(content, mtime=0)})
    for number, batch in enumerate(delivered(events, chance, 3)):
        for stream, key in STREAMS.items():
            lines = [orjson.dumps(event) for told, event in batch if told == stream]
            assert not world.produce(stream, lines).refusals
            world.ingest(key)
        if number == 1:
            columns = [schema(SNAPSHOT).field(column.name).remove_metadata() for column in registry().get(SNAPSHOT).columns]
            file = pa.BufferOutputStream()
            pq.write_table(pa.Table.from_pylist(snapshot_rows(events, chance), pa.schema(columns)), file)
            land(world, SNAPSHOT, {"history_snapshot/snapshot=2026-01/part-0.parquet": file.getvalue().to_pybytes()})
        for key in queries():
            world.derive(key)
        inputs = {key: stored(world.lakehouse, key) for key in (*STREAMS.values(), *LANDED)}
        assert_as_the_reference(inputs, *(stored(world.lakehouse, key) for key in RESULTS))


def test_the_real_revisions_repeat_a_hash_seventeen_times_and_restore_twelve(realdata: Path) -> None:
    """Of 98 revisions 17 have what their page had before; five of these were saved right upon it, which rule 11 takes for no revert."""
    lines = gzip.decompress((realdata / "content_history" / "wmf_content_mediawiki_content_history_v1.json.gz").read_bytes()).splitlines()
    of_page: dict[tuple[str, int], Rows] = {}
    for row in map(orjson.loads, lines):
        told = {"revision_id": row["revision_id"], "revision_parent_id": row.get("revision_parent_id"), "sha1": row["revision_sha1"]}
        of_page.setdefault((row["wiki_id"], row["page_id"]), []).append(told | {"event_timestamp": row["revision_dt"]})
    assert sum(map(len, of_page.values())) == 98
    repeated, restored = 0, 0
    for rows in of_page.values():
        known = [row for row in rows if row["sha1"] != "redacted"]
        ordered = sorted(known, key=lambda row: (row["event_timestamp"], row["revision_id"]))
        for series in reference.series_of(ordered):
            repeated += len(series) - 1
            restored += len(reference.reverters_of(ordered, series))
    assert (repeated, restored) == (17, 12)

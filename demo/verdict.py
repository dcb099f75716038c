"""What the platform must have found, held against what the generator knows. Values only; nothing is printed here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from demo.generator import Generated
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.stamp import ancestors, summary_of
from platform_resources.parts import Parts
from platform_resources.sourcing import query
from platform_resources.streams.gate import GateReport

FACTS = ("edits", "anonymous", "unattributed", "bot", "minor", "reverted", "bytes_added", "bytes_removed", "editors")
QUARANTINED = 'select reason, count(*) as events from "mediawiki"."page_change__quarantine" group by all order by events desc, reason'


@dataclass(frozen=True)
class Finding:
    """One thing the platform says, beside what is true."""

    what: str
    found: object
    true: object
    detail: str = ""

    @property
    def right(self) -> bool:
        """Whether both agree."""
        return self.found == self.true


def judge(parts: Parts, made: Generated, report: GateReport, recent: int, status: Sequence[dict[str, Any]]) -> list[Finding]:
    """Every finding of the demo: gate, ingestion, products row by row, checks."""
    truth, counts = made.truth, ingested(parts.lakehouse, "mediawiki.page_change")
    rows = {product["product"]: product["rows"] for product in status}
    refused = {refusal.line for refusal in report.refusals}
    failed = [check["name"] for product in status for check in product["checks"] if check["passed"] is False]
    return [
        Finding("accepted at the gate", report.accepted, truth.accepted, "events and their duplicates"),
        Finding("refused at the gate", report.refused, len(truth.refused), "malformed lines, each told with path and reason"),
        Finding("refused lines", refused, set(truth.refused)),
        Finding("read from the log", counts["read"], truth.accepted + truth.quarantined, "exactly once, over all commits"),
        Finding("deduplicated", counts["duplicates"], truth.duplicates, "redelivered events taken out on ingestion"),
        Finding("quarantined", sum(count for _, count in quarantined(parts)), truth.quarantined, "malformed lines written past the gate"),
        Finding("mediawiki.page_change rows", rows["mediawiki/page_change"], truth.events, "each event once"),
        Finding("mediawiki.recentchange rows", rows["mediawiki/recentchange"], recent, "each event once"),
        Finding("activity.edit_statistics rows", rows["activity/edit_statistics"], len(truth.facts), "wiki, page and day"),
        *_totals(parts, made),
        Finding("pages and days that differ", differing(parts, made), 0, "all nine facts of every row compared"),
        Finding("trust_safety.reverts", reverts(parts), {key: len(undone) for key, undone in truth.reverts.items()}),
        Finding("failed checks", failed, []),
    ]


def ingested(lakehouse: Lakehouse, identifier: str) -> Counter[str]:
    """The counts of all commits of a stream's table, summed."""
    table, counts = lakehouse.table(identifier), Counter[str]()
    for snapshot in ancestors(table) if table is not None else ():
        counts.update(orjson.loads(summary_of(snapshot).get("sdp.counts", "{}")))
    return counts


def quarantined(parts: Parts) -> list[tuple[str, int]]:
    """Reasons and how many events each has in the quarantine of page_change."""
    rows = query(QUARANTINED, parts.settings, parts.registry, include_quarantine=True, lakehouse=parts.lakehouse).to_pylist()
    return [(row["reason"], row["events"]) for row in rows]


def _totals(parts: Parts, made: Generated) -> list[Finding]:
    sums = ", ".join(f"cast(sum({name}) as bigint) as {name}" for name in FACTS[:6])
    [row] = query(f"select {sums} from activity.edit_statistics", parts.settings, parts.registry, lakehouse=parts.lakehouse).to_pylist()
    return [
        Finding(name, row[name], made.truth.total(name), "sum over activity.edit_statistics")
        for name in FACTS[:6]
        if name != "unattributed"
    ]


def differing(parts: Parts, made: Generated) -> int:
    """How many wiki, page and day rows are missing, too many, or differ in any fact."""
    columns = ", ".join(FACTS)
    sql = f"select wiki_id, page_id, day, {columns} from activity.edit_statistics"
    rows = query(sql, parts.settings, parts.registry, lakehouse=parts.lakehouse).to_pylist()
    found = {(row["wiki_id"], row["page_id"], row["day"]): tuple(row[name] for name in FACTS) for row in rows}
    true = {key: tuple(getattr(facts, name) for name in FACTS) for key, facts in made.truth.facts.items()}
    return sum(found.get(key) != true.get(key) for key in found.keys() | true.keys())


def reverts(parts: Parts) -> dict[tuple[str, int], int]:
    """Reverting revision -> edits undone, as trust_safety.reverts has it."""
    sql = "select wiki_id, rev_id, edits_undone from trust_safety.reverts"
    rows = query(sql, parts.settings, parts.registry, lakehouse=parts.lakehouse).to_pylist()
    return {(row["wiki_id"], row["rev_id"]): row["edits_undone"] for row in rows}

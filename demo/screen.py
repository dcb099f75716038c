"""What the demo shows: steps with their time, tables of what was found, lines to paste. Nothing is computed here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from demo.generator import Generated
from demo.verdict import Finding, quarantined
from platform_resources.cli.output import Col, console, draw_table, duration, human
from platform_resources.cli.status import draw_status
from platform_resources.config import Settings
from platform_resources.parts import Parts
from platform_resources.sourcing import query
from platform_resources.streams.gate import GateReport

EXAMPLE = (
    "select wiki_id, day, rank, page_title, edits, editors, reverted from activity.top_pages where rank <= 1 order by edits desc limit 5"
)
PASTE_QUERY = "select wiki_id, sum(edits) edits, sum(reverted) reverted from activity.edit_statistics group by all order by edits desc"
NEW_PRODUCT = "select day, wiki_id, sum(bot) / sum(edits) as bot_share from activity.edit_statistics group by all"
BROKEN = "data_products/activity/top_pages.yaml"
BREAK, MEND = f"sed -i.bak 's/logicalType: date$/logicalType: day/' {BROKEN}", f"mv {BROKEN}.bak {BROKEN}"


class Screen:
    """The terminal: colours and a spinner on a terminal, plain lines when piped."""

    def __init__(self) -> None:
        self.console = console()
        self._live: Live | None = None

    def title(self, name: str, what: str) -> None:
        """The heading."""
        self.console.print(Text(name, style="bold"), Text(what, style="dim"), sep="\n", soft_wrap=True)
        self.console.print()

    def say(self, line: str) -> None:
        """One line, never wrapped, so that it can be copied."""
        self.console.print(line, soft_wrap=True)

    def succeed(self, line: str) -> None:
        """The good end."""
        self.console.print(Text("\n✔ ", style="bold green").append(line), soft_wrap=True)

    def fail(self, line: str) -> None:
        """The bad end."""
        self.console.print(Text("\n✘ ", style="bold red").append(line), soft_wrap=True)

    @contextmanager
    def step(self, what: str) -> Iterator[Callable[[str], None]]:
        """One step: a spinner while it runs on a terminal, then one line with the result given to the function yielded."""
        began, result = time.monotonic(), [""]

        def done(said: str) -> None:
            result[0] = said

        self._live = (
            Live(Spinner("dots", text=what), console=self.console, transient=True, refresh_per_second=8)
            if self.console.is_terminal
            else None
        )
        if self._live is not None:
            self._live.start()
        try:
            yield done
        finally:
            if self._live is not None:
                self._live.stop()
            self._live = None
        line = Text.assemble(("✔ ", "green"), what, (f"  {time.monotonic() - began:.0f} s", "dim"))
        self.console.print(line.append(f"\n    {result[0]}", style="cyan") if result[0] else line, soft_wrap=True)

    def progress(self, status: Sequence[Mapping[str, Any]]) -> None:
        """How far each product is, under the spinner of the step at work."""
        if self._live is None:
            return
        lines = [
            Text(f"    {p['product']:<26} {human(p['rows']):>8} rows  {human(p['lag_events']):>8} behind  lag {duration(p['lag_seconds'])}")
            for p in status
        ]
        self._live.update(Group(Spinner("dots", text="Waiting for sensors to drain the streams and refresh the products"), *lines))

    def outcome(
        self, settings: Settings, made: Generated, report: GateReport, findings: Sequence[Finding], status: Sequence[Mapping[str, Any]]
    ) -> None:
        """What happened, what is in the tables, what went wrong on purpose, and an answer."""
        parts = Parts(settings)
        columns = [Col(""), Col("what", keep=True), Col("platform", right=True, keep=True), Col("truth", right=True, keep=True), Col("")]
        rows = [(mark(f), f.what, shown(f.found), shown(f.true), f.detail) for f in findings]
        self._table("What happened, beside what was generated", columns, rows)
        refusals = [(refusal.line, refusal.path or "-", refusal.reason) for refusal in report.refusals[:3]]
        self._table("Three of the refusals at the gate", [Col("line", right=True), Col("path"), Col("reason")], refusals)
        reasons = [Col("reason"), Col("events", right=True)]
        self._table("In quarantine (mediawiki.page_change__quarantine)", reasons, quarantined(parts))
        answer = query(EXAMPLE, settings, parts.registry, lakehouse=parts.lakehouse)
        self._table(EXAMPLE, [Col(name) for name in answer.column_names], [tuple(row.values()) for row in answer.to_pylist()])
        self.console.print(Text("\nStatus", style="bold"))
        draw_status(self.console, status)

    def _table(self, title: str, columns: Sequence[Col], rows: Sequence[Sequence[Any]]) -> None:
        self.console.print(Text(f"\n{title}", style="bold"), soft_wrap=True)
        draw_table(self.console, columns, rows)

    def paste(self, settings: Settings, url: str | None) -> None:
        """Where to look, while the UI at `url` lives on, and three lines that work as they stand."""
        home = settings.home.relative_to(settings.project) if settings.home.is_relative_to(settings.project) else settings.home
        sdp = f"SDP_HOME={home} .venv/bin/sdp"
        self.console.print()
        for name, path in (("Assets and lineage", "/asset-groups"), ("Runs", "/runs"), ("Sensors", "/automation")) if url else ():
            self.say(f"{name:<20} {url}{path}")
        lines = {
            "Query a product": f'{sdp} query "{PASTE_QUERY}"',
            "Break a contract, read the refusal, mend it": f"{BREAK}; {sdp} check; {MEND}",
            "Make a new product": f'{sdp} new product activity/bot_share --sql "{NEW_PRODUCT}" && {sdp} run activity/bot_share',
        }
        for what, line in lines.items():
            self.console.print(Text(f"\n# {what}", style="dim"))
            self.console.print(Text(line, style="bold"), soft_wrap=True)


def mark(finding: Finding) -> Text:
    """Right or wrong, in a cell."""
    return Text("✔", style="green") if finding.right else Text("✘", style="bold red")


def shown(value: object) -> str:
    """A finding's value in a cell: collections by their size."""
    return human(len(value)) if isinstance(value, set | frozenset | dict | list) else human(value)

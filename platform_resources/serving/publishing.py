"""Publishing: one slice's dump becomes files in a public place and rows of the table that is their index, all of it or nothing.

Files are written where nobody sees them, from one pinned snapshot of each input; when all are there and the index keeps its checks they
are moved into their places, checksums and index page follow, and the one commit of the table comes last. A run that was killed is taken
up where it was: what is finished, and still is what it was, is not written again.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
from pyiceberg.table import Table
from pyiceberg.typedef import Record

from platform_resources.config import Settings
from platform_resources.contracts.iceberg import table_definition
from platform_resources.contracts.model import Contract
from platform_resources.contracts.publications import Publication
from platform_resources.contracts.registry import Registry
from platform_resources.engines.audit import CheckOutcome, audit
from platform_resources.engines.duck import session
from platform_resources.engines.inputs import PinnedInput, pin_inputs
from platform_resources.engines.transform import Transform
from platform_resources.errors import PlatformError
from platform_resources.failpoints import failpoint
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.conforming import arrow_schema_of
from platform_resources.lakehouse.expiry import register_reader
from platform_resources.lakehouse.staging import Commit, Fence, Fenced, PartitionScope, StagedWrite, publish, stage_overwrite
from platform_resources.lakehouse.stamp import Stamp, has_committed, read_position, read_watermark
from platform_resources.runs import code_version, refused_branch
from platform_resources.serving import export_xml
from platform_resources.serving.dump_pages import beside, companions
from platform_resources.serving.dump_query import DumpQuery, PageRange
from platform_resources.serving.outlets import STAGING, Outlet, open_outlet, put
from platform_resources.serving.packing import Packed, Packer

_THREADS = min(4, os.cpu_count() or 1)
_CHUNK = 1 << 20
_OF_ROWS = frozenset({"export-row-invalid", "export-row-twice", "export-site-unknown", "transform-failed"})


@dataclass(frozen=True)
class DumpFile:
    """One file of a dump: its place below the root of the outlet, what is in it, and what is known of its bytes."""

    pages: PageRange
    name: str
    bytes: int
    xml_bytes: int
    sha1: str
    md5: str
    page_count: int
    revision_count: int


@dataclass(frozen=True)
class Published:
    """What one slice became. `kept` of the files were there from a run that had not come to its end; `removed` are names that are gone."""

    slice: str
    files: Sequence[DumpFile]
    kept: int
    removed: Sequence[str]
    commit: Commit
    outcomes: Sequence[CheckOutcome]
    position: Mapping[str, int | None]


class Blocked(Exception):  # noqa: N818 - an outcome
    """An error check failed on the index, so that nothing of the slice is shown; `outcomes` are those of all checks."""

    def __init__(self, outcomes: Sequence[CheckOutcome]) -> None:
        super().__init__("blocked")
        self.outcomes = list(outcomes)


class Stopped(Exception):  # noqa: N818 - an outcome
    """The run was asked to stop; the next one goes on with what is missing."""


@dataclass(frozen=True)
class _Plan:
    """What an unfinished dump is made of, kept beside its files: who is at work, from which snapshots, by which code, which ranges."""

    run_id: str
    inputs: Mapping[str, int | None]
    code: str
    ranges: Sequence[PageRange]

    def dump(self) -> bytes:
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def load(cls, data: bytes) -> _Plan | None:
        try:
            found = json.loads(data)
            return cls(found["run_id"], found["inputs"], found["code"], [PageRange(**one) for one in found["ranges"]])
        except (ValueError, KeyError, TypeError):
            return None


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


def where(contract: Contract) -> str:
    """The contract's file as problems show it, relative to the project."""
    return "/".join(contract.path.parts[-3:])


def start_of(contract: Contract, key: str, now: datetime) -> datetime:
    """Where the slice of a key begins, if its dump can be published.

    Raises:
        PlatformError: `partition-unknown`, `slice-future`, `slice-aged`.
    """
    publication, kept = contract.publication, contract.sla.retention
    if publication is None:
        raise PlatformError("not-published", f"{contract.key} publishes no files.", "Add a server that publishes.", file=where(contract))
    slices = publication.slices
    try:
        start = slices.at(key)
    except ValueError as reason:
        said = f"The partition {key!r} of {contract.key} {reason}."
        raise PlatformError("partition-unknown", said, f"Write e.g. {slices.key(slices.start)}.") from None
    if start > now:
        raise PlatformError(
            "slice-future",
            f"The dump of {key} of {contract.key} holds what is saved before {start:%Y-%m-%d}, which has not come.",
            "Publish an earlier one, or wait.",
        )
    if kept is not None and start < now - kept:
        raise PlatformError(
            "slice-aged",
            f"The dump of {key} of {contract.key} is past its retention, so it would be taken away at once.",
            f"Publish one from {now - kept:%Y-%m-%d} or later, or let the contract keep dumps longer.",
            file=where(contract),
        )
    return start


class Publishing:
    """One product's way into the public. One instance makes one run.

    Args:
        contract: of a product that publishes.
        transform: its query.
        lakehouse, registry, settings: where the inputs and the index are.
        run_id: names the run in stamps and plans.
        outlet: where to; default: what the contract says.
        anew: start from the inputs as they are now, whatever an earlier run left.
        on_file: called with each file that is written, or found written.
        stop: when set, the run ends before the next revision with `Stopped`.
        clock: the wall clock, for tests.
    """

    def __init__(
        self,
        contract: Contract,
        transform: Transform,
        *,
        lakehouse: Lakehouse,
        registry: Registry,
        settings: Settings,
        run_id: str,
        outlet: Outlet | None = None,
        anew: bool = False,
        on_file: Callable[[DumpFile], None] | None = None,
        stop: threading.Event | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        if contract.publication is None:
            raise PlatformError(
                "not-published", f"{contract.key} publishes no files.", "Add a server that publishes.", file=where(contract)
            )
        self.contract, self.transform = contract, transform
        self.publication: Publication = contract.publication
        self.lakehouse, self.registry, self.settings, self.run_id = lakehouse, registry, settings, run_id
        self.outlet = outlet or open_outlet(contract, settings)
        self._anew, self._on_file, self._clock = anew, on_file, clock
        self._stop = stop or threading.Event()
        self._definition = table_definition(contract)

    @property
    def code_version(self) -> str:
        """What the files are made by: the query and what the contract says of them."""
        return code_version(self.contract.fingerprint, self.transform.code_version)

    def publish(self, key: str) -> Published | None:
        """Publish the slice of a key; None when this very run has done so before.

        Raises:
            Blocked: an error check failed; what was published before stands.
            Stopped: the run was asked to stop.
            Fenced: another run took over.
            PlatformError: `partition-unknown`, `slice-future`, `slice-aged`, `product-not-materialised`, `publish-nothing`,
                `publish-folder-taken`, what `DumpQuery` raises of the rows, and what the outlet cannot.
        """
        start = start_of(self.contract, key, self._clock())
        table = self.lakehouse.table(self.contract.identifier)
        if table is not None and has_committed(table, self.run_id, key):
            return None
        position = read_position(table) if table is not None else None
        try:
            with TemporaryDirectory(prefix="sdp-inputs-") as folder:
                plan, inputs = self._planned(key, start, Path(folder))
                files, kept = self._files(plan, inputs, key, start)
        except PlatformError as error:
            if error.code in _OF_ROWS:
                self.outlet.sweep(self._staging(key))  # else the next run would take up the very snapshot that is refused
            raise
        staged = self._staged(plan, files, key, start, Fence(position=position))
        try:
            outcomes = self._audited(staged, key)
            failpoint("publish-before-reveal")
            removed = self._reveal(plan, files, key, start)
            failpoint("publish-before-commit")
            audited = staged.snapshot_id
            commit = publish(staged, lambda one: self._audit_anew(one, key, audited))
        except Blocked:
            raise
        except BaseException:
            staged.discard()
            raise
        failpoint("publish-after-commit")
        self.outlet.sweep(self._staging(key))
        self._forget()
        return Published(key, files, kept, removed, commit, outcomes, plan.inputs)

    # --- what it is made of

    def _staging(self, key: str) -> str:
        return f"{STAGING}{self.contract.identifier}/{key}/"

    def _plan_name(self, key: str) -> str:
        return f"{self._staging(key)}plan.json"

    def _planned(self, key: str, start: datetime, scratch: Path) -> tuple[_Plan, dict[str, PinnedInput]]:
        """The plan that an unfinished run left, taken over, or a new one over the inputs' heads."""
        for name in self.transform.inputs:  # before they are read: from here on expiry waits for what is being published
            register_reader(self.lakehouse, self.registry.get(name).identifier, self.contract.identifier)
        left = None if self._anew else self._left(key)
        if left is not None:
            plan = replace(left, run_id=self.run_id)
            inputs = pin_inputs(self.transform.inputs, self.registry, self.lakehouse, scratch, plan.inputs)
            put(self.outlet, self._plan_name(key), plan.dump())
            return plan, inputs
        inputs = pin_inputs(self.transform.inputs, self.registry, self.lakehouse, scratch)
        for name, pinned in inputs.items():
            if pinned.snapshot_id is None:
                raise PlatformError(
                    "product-not-materialised", f"{name}, which {self.contract.key} is made of, has no rows yet.", f"Make it first: {name}."
                )
        with session(self.settings) as con:
            query = DumpQuery(con, self.contract, self.transform, inputs, start)
            query.refuse_unfit()
            wikis = query.wikis()
            for wiki in wikis:
                query.site(wiki)
            ranges = [one for wiki in wikis for one in query.ranges(wiki)]
        if not ranges:
            raise PlatformError(
                "publish-nothing",
                f"{self.contract.key} has no revision from before {start:%Y-%m-%d}, so there is nothing to publish for {key}.",
                "Fill its inputs, or let the contract start later.",
                file=where(self.contract),
            )
        self.outlet.sweep(self._staging(key))
        plan = _Plan(self.run_id, {name: pinned.snapshot_id for name, pinned in inputs.items()}, self.code_version, ranges)
        put(self.outlet, self._plan_name(key), plan.dump())
        failpoint("publish-after-plan")
        return plan, inputs

    def _read(self, name: str) -> bytes | None:
        found = self.outlet.open(name)
        if found is None:
            return None
        with found:
            return found.read()

    def _left(self, key: str) -> _Plan | None:
        """The plan of an unfinished run, where its snapshots are still there and the code is the same.

        One that was committed is finished: to go on from it would show again what has been hidden since.
        """
        data = self._read(self._plan_name(key))
        plan = _Plan.load(data) if data is not None else None
        if plan is None or plan.code != self.code_version or set(plan.inputs) != set(self.transform.inputs):
            return None
        index = self.lakehouse.table(self.contract.identifier)
        if index is not None and has_committed(index, plan.run_id, key):
            return None
        for name, snapshot_id in plan.inputs.items():
            table = self.lakehouse.table(self.registry.get(name).identifier)
            if table is None or snapshot_id is None or table.metadata.snapshot_by_id(snapshot_id) is None:
                return None
        return plan

    # --- files

    def _files(self, plan: _Plan, inputs: Mapping[str, PinnedInput], key: str, start: datetime) -> tuple[list[DumpFile], int]:
        """Every file of the plan, those that are missing written."""
        files: list[DumpFile] = []
        missing: list[tuple[int, PageRange]] = []
        for pages in plan.ranges:
            found = self._finished(pages, key, start)
            if found is None:
                missing.append((len(files), pages))
            files.append(found or DumpFile(pages, self._name(pages, start), 0, 0, "", "", 0, 0))
        kept = len(files) - len(missing)
        if not missing:
            return files, kept
        with session(self.settings) as con, ThreadPoolExecutor(_THREADS, thread_name_prefix="pack") as pool:
            query = DumpQuery(con, self.contract, self.transform, inputs, start)
            for index, pages in missing:
                files[index] = self._written(query, pages, key, start, pool)
                if self._on_file is not None:
                    self._on_file(files[index])
                failpoint("publish-after-file")
        return files, kept

    def _name(self, pages: PageRange, start: datetime) -> str:
        return self.publication.file(pages.wiki_id, start, pages.first, pages.last)

    def _staged_name(self, pages: PageRange, key: str) -> str:
        return f"{self._staging(key)}files/{pages.wiki_id}-{pages.first}-{pages.last}.{self.publication.suffix}"

    def _facts_name(self, pages: PageRange, key: str) -> str:
        return f"{self._staging(key)}facts/{pages.wiki_id}-{pages.first}-{pages.last}.json"

    def _finished(self, pages: PageRange, key: str, start: datetime) -> DumpFile | None:
        """A file that an earlier run of this plan finished, if it still is what it was: where it was written, or already in its place."""
        data = self._read(self._facts_name(pages, key))
        if data is None:
            return None
        try:
            told = json.loads(data)
            found = DumpFile(pages, self._name(pages, start), **told)
        except (ValueError, TypeError):
            return None
        if self._sha1(self._staged_name(pages, key)) == found.sha1 or self._sha1(found.name) == found.sha1:
            return found
        return None

    def _sha1(self, name: str) -> str | None:
        found = self.outlet.open(name)
        if found is None:
            return None
        digest = hashlib.sha1(usedforsecurity=False)
        with found:
            while chunk := found.read(_CHUNK):
                digest.update(chunk)
        return digest.hexdigest()

    def _written(self, query: DumpQuery, pages: PageRange, key: str, start: datetime, pool: ThreadPoolExecutor) -> DumpFile:
        sink = self.outlet.create(self._staged_name(pages, key))
        packer = Packer(sink, self.publication.suffix, pool)
        try:
            page_count, revision_count = self._write(query, pages, packer)
            packed: Packed = packer.close()
            failpoint("publish-before-finish")
            sink.finish()
        except BaseException:
            packer.cancel()
            sink.abandon()
            raise
        facts = {**asdict(packed), "page_count": page_count, "revision_count": revision_count}
        failpoint("publish-before-facts")
        put(self.outlet, self._facts_name(pages, key), json.dumps(facts).encode())
        return DumpFile(pages, self._name(pages, start), **facts)

    def _write(self, query: DumpQuery, pages: PageRange, packer: Packer) -> tuple[int, int]:
        """The document of one range; pages and revisions in it."""
        packer.write(export_xml.opening(query.site(pages.wiki_id)))
        page = before = None
        counts = [0, 0]
        for row in query.revisions(pages):
            if self._stop.is_set():
                raise Stopped
            if row["page_id"] != page:
                packer.write((export_xml.PAGE_END if page is not None else "") + export_xml.page_start(row))
                page, before = row["page_id"], None
                counts[0] += 1
            if row["revision_id"] == before:
                raise PlatformError(
                    "export-row-twice",
                    f"{self.contract.key} cannot be published: its query gives the revision {before} of {pages.wiki_id} more than once.",
                    "Let each revision stand in one row, e.g. by a join that finds one row at most.",
                    file=self.transform.where,
                )
            before = row["revision_id"]
            packer.write(export_xml.revision(row, text=self.publication.text))
            counts[1] += 1
        packer.write((export_xml.PAGE_END if page is not None else "") + export_xml.CLOSING)
        return counts[0], counts[1]

    # --- index

    def _staged(self, plan: _Plan, files: Sequence[DumpFile], key: str, start: datetime, fence: Fence) -> StagedWrite:
        """The rows of the index, staged in place of the slice's."""
        table = self.lakehouse.table(self.contract.identifier)
        stamp = Stamp(
            self.run_id,
            self.code_version,
            self.contract.version,
            partition=key,
            position=dict(plan.inputs),
            watermark=max(start, _watermark(table) or start),  # an old slice makes nothing fresh
            counts={"inserted": len(files)},
        )
        cadence = self.publication.slices.cadence
        scope = PartitionScope.listed([Record(int(start.timestamp()) // (3600 if cadence == "hourly" else 86_400))])
        return stage_overwrite(self.lakehouse, self._definition, self._rows(files, start), stamp, partitions=scope, fence=fence)

    def _rows(self, files: Sequence[DumpFile], start: datetime) -> pa.Table:
        slice_value = self.publication.slices.value(start)
        rows = [
            {
                "wiki_id": one.pages.wiki_id, "first_page_id": one.pages.first, "last_page_id": one.pages.last, "file": one.name,
                "bytes": one.bytes, "xml_bytes": one.xml_bytes, "sha1": one.sha1, "md5": one.md5, "pages": one.page_count,
                "revisions": one.revision_count, "_slice": slice_value,
            }
            for one in files
        ]  # fmt: skip
        schema = arrow_schema_of(self._definition.schema)
        return pa.Table.from_pylist([{name: row[name] for name in schema.names} for row in rows], schema=schema)

    def _audited(self, staged: StagedWrite, key: str) -> list[CheckOutcome]:
        """The verdicts on the index.

        Raises:
            Blocked: one forbids it; the write is kept on its branch, and what was written for it is gone.
        """
        with session(self.settings) as con:
            outcomes = audit(con, staged, self.contract)
        if any(one.check.blocking and not one.passed for one in outcomes):
            staged.refuse(refused_branch(self.run_id))
            self.outlet.sweep(self._staging(key))
            raise Blocked(outcomes)
        return outcomes

    def _audit_anew(self, staged: StagedWrite, key: str, audited: int) -> None:
        """Audit a write that was staged again on another head."""
        if staged.snapshot_id != audited:
            self._audited(staged, key)

    # --- shown

    def _reveal(self, plan: _Plan, files: Sequence[DumpFile], key: str, start: datetime) -> list[str]:
        """Move every file into its place, take away what was there instead, and write what stands beside them; the names that went."""
        by_wiki: dict[str, list[DumpFile]] = {}
        for one in files:
            by_wiki.setdefault(one.pages.wiki_id, []).append(one)
        for wiki, own in by_wiki.items():
            self._require_claim(key)
            self._refuse_taken(wiki, start)
            self._beside(wiki, own, plan, start, done=False)
            failpoint("publish-after-status")
            for one in own:
                self._require_claim(key)
                self.outlet.move(self._staged_name(one.pages, key), one.name)
                failpoint("publish-after-move")
        names = {one.name for one in files}
        self._require_claim(key)
        removed = self._remove(lambda at, name: at == start and name not in names)
        for wiki, own in by_wiki.items():
            self._require_claim(key)
            self._beside(wiki, own, plan, start, done=True)
        return removed

    def _require_claim(self, key: str) -> None:
        """Go on only while no newer run has taken the dump over."""
        data = self._read(self._plan_name(key))
        plan = _Plan.load(data) if data is not None else None
        if plan is None or plan.run_id != self.run_id:
            raise Fenced.by(self.contract.identifier, f"the dump of {key} is at work in run {plan.run_id if plan else 'unknown'}")

    def _refuse_taken(self, wiki: str, start: datetime) -> None:
        folder = self.publication.folder(wiki, start)
        data = self._read(f"{folder}/dumpstatus.json")
        try:
            owner = json.loads(data or b"{}").get("product", self.contract.key)
        except ValueError:
            owner = self.contract.key
        if owner != self.contract.key:
            raise PlatformError(
                "publish-folder-taken",
                f"{self.contract.key} would publish in {folder}, where {owner} does.",
                "Give one of them a folder of its own in path.",
                file=where(self.contract),
                line=self.publication.line,
            )

    def _beside(self, wiki: str, files: Sequence[DumpFile], plan: _Plan, start: datetime, *, done: bool) -> None:
        """What stands beside the files: that they are being exchanged, or checksums, status and a page for people."""
        folder = self.publication.folder(wiki, start)
        for name, data in beside(self.contract, wiki, start, files, plan.inputs, now=self._clock(), done=done):
            put(self.outlet, f"{folder}/{name}", data)
            if done:
                failpoint("publish-after-companion")

    def _remove(self, doomed: Callable[[datetime, str], bool]) -> list[str]:
        """Take away files of this publication, and what stands beside them where nothing is left.

        What stands beside them goes first: only files lead back here, should this be cut short.
        """
        shown: list[tuple[str, datetime]] = []
        for name in self.outlet.names(self.publication.root):
            at = self.publication.slice_of(name)
            if at is not None:
                shown.append((name, at))
        gone = [(name, at) for name, at in shown if doomed(at, name)]
        left = {name.rpartition("/")[0] for name, at in shown if (name, at) not in set(gone)}
        for folder, at in {(name.rpartition("/")[0], at) for name, at in gone}:
            if folder not in left:
                for name in list(self.outlet.names(f"{folder}/")):
                    if companions(at, name.rpartition("/")[2]):
                        self.outlet.remove(name)
        for name, _ in gone:
            self.outlet.remove(name)
        return sorted(name for name, _ in gone)

    def _forget(self) -> list[str]:
        """Take away dumps that are older than the contract keeps them; their rows age by maintenance."""
        kept = self.contract.sla.retention
        if kept is None:
            return []
        cutoff = self._clock() - kept
        return self._remove(lambda at, _: at < cutoff)


def _watermark(table: Table | None) -> datetime | None:
    return read_watermark(table) if table is not None else None


def due(contract: Contract, table: Table | None, now: datetime) -> str | None:
    """The key of the newest slice that can be published and has not been; None where there is none."""
    publication = contract.publication
    if publication is None:
        return None
    start = publication.slices.floor(now)
    done = _watermark(table)
    if start < publication.slices.start or (done is not None and done >= start):
        return None
    return publication.slices.key(start)

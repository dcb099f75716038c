"""The repository's own products on a home of their own, worked by the real gate, drain and derivation, without Dagster."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from platform_resources.config import SOURCE_ROOT, Settings
from platform_resources.contracts.registry import Registry
from platform_resources.engines.audit import audit
from platform_resources.engines.derivation import Derivation
from platform_resources.engines.duck import connect
from platform_resources.engines.loading import read_transform
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.sourcing import query, source
from platform_resources.streams.gate import Gate, GateReport
from platform_resources.streams.ingestion import Drain, DrainReport
from platform_resources.streams.log import EventLog, open_log


@dataclass(frozen=True)
class World:
    """One platform: what its products are and the means to work them."""

    settings: Settings
    registry: Registry
    lakehouse: Lakehouse
    log: EventLog

    def produce(self, stream: str, lines: Iterable[bytes], *, unchecked: bool = False) -> GateReport:
        return Gate(self.registry, self.log, self.settings).produce(stream, lines, unchecked=unchecked)

    def ingest(self, key: str) -> DrainReport:
        drain = Drain(self.registry.get(key), lakehouse=self.lakehouse, log=self.log, run_id=str(uuid.uuid4()), settings=self.settings)
        return drain.run(until="end")

    def derive(self, key: str, *, recompute: bool = False) -> str:
        """Compute, audit and commit one derived product; every check must pass. Returns the plan that was taken."""
        contract = self.registry.get(key)
        transform = read_transform(contract, self.registry)
        assert transform is not None
        derivation = Derivation(contract, transform, lakehouse=self.lakehouse, registry=self.registry, settings=self.settings)
        derived = derivation.stage(run_id=str(uuid.uuid4()), recompute=recompute)
        if derived.staged is not None:
            with connect(self.settings) as con:
                outcomes = audit(con, derived.staged, contract)
            assert [(outcome.check.name, outcome.measured, outcome.error) for outcome in outcomes if not outcome.passed] == []
            derived.staged.commit()
        return derived.plan

    def query(self, sql: str, *, include_quarantine: bool = False) -> list[dict[str, object]]:
        return query(sql, self.settings, self.registry, include_quarantine=include_quarantine, lakehouse=self.lakehouse).to_pylist()

    def table(self, key: str) -> pa.Table:
        return source(key, registry=self.registry, lakehouse=self.lakehouse).arrow()


@pytest.fixture(scope="module")
def world_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], World]]:
    """Makes the world of a project folder; logs are closed at the end."""
    with ExitStack() as stack:

        def make(project: Path) -> World:
            settings = Settings(project=project, home=tmp_path_factory.mktemp("home"))
            log = open_log(settings)
            stack.callback(log.close)
            return World(settings, Registry.load(project), Lakehouse(settings), log)

        yield make


@pytest.fixture(scope="module")
def world(world_of: Callable[[Path], World]) -> World:
    """The world of this repository's products, one per test module."""
    return world_of(SOURCE_ROOT)

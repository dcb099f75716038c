"""A platform whose grants come from a local server of the API and whose dimensions are dropped as files."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from demo.grants import FluxxServer, write_dimensions
from platform_resources.config import SOURCE_ROOT, Settings
from platform_resources.contracts.registry import Registry
from platform_resources.engines.audit import audit
from platform_resources.engines.derivation import Derivation
from platform_resources.engines.duck import connect
from platform_resources.engines.loading import read_transform
from platform_resources.lakehouse.catalog import Lakehouse
from platform_resources.lakehouse.reading import arrow_table
from platform_resources.landing.landing import Landing
from platform_resources.landing.reports import LandingReport
from platform_resources.sourcing import source
from platform_resources.streams.log import open_log
from tests.products.conftest import World

REGISTRY = Registry.load(SOURCE_ROOT)
DIMENSIONS = ("country", "wiki", "country_economy")
TOTALS = ("grants_spending_by_country", "grants_spending_by_program", "grants_spending_by_global_south")
GRANTS = ("grants_input_metrics", *TOTALS, "grants_leadership_metrics")


@dataclass(frozen=True)
class GrantsWorld(World):
    """A world that can land and knows its server."""

    server: FluxxServer
    con: duckdb.DuckDBPyConnection
    warnings: dict[str, set[str]] = field(default_factory=dict)

    def land(self, product: str) -> LandingReport:
        """Land what is new of a product of the domain."""
        contract = self.registry.get(f"movement_insights/{product}")
        return Landing(contract, lakehouse=self.lakehouse, settings=self.settings, run_id=str(uuid.uuid4())).run()

    def derive(self, key: str, *, recompute: bool = False) -> str:
        """As of any world, but a check that only warns may fail; `warnings` says which."""
        contract = self.registry.get(key)
        transform = read_transform(contract, self.registry)
        assert transform is not None
        parts: dict[str, Any] = {"lakehouse": self.lakehouse, "registry": self.registry, "settings": self.settings, "con": self.con}
        derivation = Derivation(contract, transform, **parts)
        derived = derivation.stage(run_id=str(uuid.uuid4()), recompute=recompute)
        if derived.staged is not None:
            failed = [outcome for outcome in audit(self.con, derived.staged, contract) if not outcome.passed]
            assert [(one.check.name, one.measured, one.error) for one in failed if one.check.blocking] == []
            self.warnings[contract.name] = {one.check.name for one in failed}
            derived.staged.commit()
        return derived.plan

    def make(self, *products: str) -> list[str]:
        """Derive these products, each with its checks; the plans that were taken."""
        return [self.derive(f"movement_insights/{product}") for product in products]

    def rows(self, product: str) -> list[dict[str, Any]]:
        """All rows, as the domain itself may read them."""
        key = f"movement_insights/{product}"
        return source(key, registry=self.registry, lakehouse=self.lakehouse, reader="movement_insights").arrow().to_pylist()

    def quarantined(self) -> list[dict[str, Any]]:
        """What was put aside of the grants."""
        table = self.lakehouse.table(self.registry.get("movement_insights/grant").quarantine_identifier)
        return [] if table is None else arrow_table(table).to_pylist()


@contextmanager
def grants_world(home: Path, records: list[dict[str, Any]], *, canonical: Path | None = None) -> Iterator[GrantsWorld]:
    """A world with these records at the server and the dimensions dropped, of `canonical` the real countries and wikis."""
    drop = home / "drop" / "movement_insights"
    write_dimensions(drop)
    if canonical is not None:
        shutil.copyfile(canonical / "countries.tsv", drop / "country" / "2026-01-01.tsv")
        shutil.copyfile(canonical / "wikis.tsv", drop / "wiki" / "2026-01-01.tsv")
    with FluxxServer(records, token="hunter2") as server:
        settings = Settings(project=SOURCE_ROOT, home=home, connections={"fluxx": server.connection})
        log = open_log(settings)
        try:
            with connect(settings) as con:
                yield GrantsWorld(settings, REGISTRY, Lakehouse(settings), log, server, con)
        finally:
            log.close()

"""The cases of `bench.lakehouse`, a module for each subject. A module gives `CASES`: by name, a function from `Options` to its lines.

Here is what they share: the options of a run, the store it writes to, and how a peer that cannot take part is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from bench.harness import Result, machine
from platform_resources.config import Settings

Store: TypeAlias = Literal["folder", "swift", "rest"]
_SERVERS: Mapping[Store, tuple[str, ...]] = {"folder": (), "swift": ("postgresql", "swift"), "rest": ("iceberg-rest",)}


@dataclass(frozen=True)
class Options:
    """What one run of the benchmarks was asked for.

    Attributes:
        rows: rows of one measurement.
        repetitions: interleaved rounds.
        store: where tables lie: a folder with SQLite, Swift with the stack's catalog, or Swift with a REST catalog.
        folder: scratch space of this run, deleted at its end.
        peers: whether others are measured too.
    """

    rows: int
    repetitions: int
    store: Store
    folder: Path
    peers: bool = True

    def settings(self, home: str = "home") -> Settings:
        """Settings of a platform instance of its own in the chosen store; its project is `folder/project`."""
        return settings_of(self.store, self.folder, home)


Case: TypeAlias = Callable[[Options], list[Result]]


def settings_of(store: Store, folder: Path, home: str = "home") -> Settings:
    """Settings of an instance whose state is `folder/home`, and whose tables lie in the store; its servers are started where needed.

    Raises:
        PlatformError: what a server cannot be started for.
    """
    if store == "folder":
        return Settings(home=folder / home, project=folder / "project")
    from platform_resources.stack import services

    folder.chmod(0o711)  # PostgreSQL runs under an account of its own
    shared = services.start(_servers(folder), _SERVERS[store], die_with_parent=True)
    own = Settings(home=folder / home, project=folder / "project", profile="stack", catalog_type="rest" if store == "rest" else "sql")
    own.home.mkdir(parents=True, exist_ok=True)
    if not own.stack_path.exists():
        own.stack_path.symlink_to(shared.stack_path)
    name = own.catalog_name if store == "rest" else home  # a REST server has one catalog, a database as many as are named
    return own.model_copy(update={"warehouse": f"{shared.warehouse_uri}/{home}", "catalog_name": name})


def end_store(store: Store, folder: Path) -> None:
    """Stop the servers that `settings_of` started."""
    if store == "folder":
        return
    from platform_resources.stack import services

    services.stop(_servers(folder), _SERVERS[store])


def _servers(folder: Path) -> Settings:
    return Settings(home=folder / "servers")


def skipped(name: str, peer: str, reason: str, options: Options) -> Result:
    """The line of a peer that has no figure, with the reason."""
    return Result(name, None, "s", None, None, None, None, options.rows, machine(), peer=peer, store=options.store, skipped=reason)

"""Every domain and contract of a project, found by folder, and the problems found on the way. Nothing is cached on disk."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path

from platform_resources.contracts.domains import read_domain, relative
from platform_resources.contracts.findings import close_match, did_you_mean
from platform_resources.contracts.model import Contract, Domain
from platform_resources.contracts.publications import Publication
from platform_resources.contracts.reading import read_contract
from platform_resources.errors import PlatformError, Problem

__all__ = ["Domain", "Registry"]

PRODUCTS = "data_products"
DOMAIN_FILE = "domain.yaml"


class Registry:
    """What `data_products/` declares. A contract with an error is absent from `contracts`; `problems` says why."""

    def __init__(
        self,
        project: Path,
        domains: Mapping[str, Domain],
        contracts: Mapping[str, Contract],
        problems: tuple[Problem, ...],
        broken: Iterable[str] = (),
    ) -> None:
        self.project, self.domains, self.contracts, self.problems = project, domains, contracts, problems
        self.broken = frozenset(broken)
        self._by_stream = {c.source.stream: c for c in contracts.values() if c.source and c.source.kind == "stream" and c.source.stream}

    @classmethod
    def load(cls, project: Path) -> Registry:
        """Read every domain and contract of a project; never raises for a user's fault.

        Folders of `data_products/` with a `domain.yaml` are domains, every other `*.yaml` beside it is a contract.
        """
        project = project.resolve()
        domains: dict[str, Domain] = {}
        contracts: dict[str, Contract] = {}
        problems: list[Problem] = []
        broken: list[str] = []
        for folder in _folders(project / PRODUCTS):
            domain, found = read_domain(folder, project=project)
            problems += found
            if domain is None:  # its contracts are still read, so that one fault does not hide the others
                domain = Domain(folder.name, folder, owners=("team:unknown",))
            else:
                domains[folder.name] = domain
            for path in sorted(folder.glob("*.yaml")):
                if path.name == DOMAIN_FILE:
                    continue
                contract, found = read_contract(path, domain=domain, project=project)
                problems += found
                if contract is None or folder.name not in domains:
                    broken.append(f"{folder.name}/{path.stem}")
                else:
                    contracts[contract.key] = contract
        for found_problem, keys in _between(contracts, project):
            problems.append(found_problem)
            for key in keys:
                contracts.pop(key, None)
                broken.append(key)
        problems += _unknown_readers(contracts, {folder.name for folder in _folders(project / PRODUCTS)}, project)
        return cls(project, domains, contracts, tuple(sorted(problems)), broken)

    def problems_of(self, key_or_domain: str) -> tuple[Problem, ...]:
        """Problems in the files of one product (`d/p` or `d.p`), or of one domain (`d`)."""
        if not any(mark in key_or_domain for mark in "/."):
            prefix = f"{PRODUCTS}/{key_or_domain}/"
            return tuple(problem for problem in self.problems if problem.file.startswith(prefix))
        stem = f"{PRODUCTS}/{normal_key(key_or_domain)}"
        return tuple(problem for problem in self.problems if problem.file.rsplit(".", 1)[0] == stem)

    def get(self, key: str) -> Contract:
        """The contract of `d/p` or `d.p`.

        Raises:
            PlatformError: `product-unknown` with a close match, `product-broken` with the first fault of its contract, or
                `transform-without-contract`.
        """
        wanted = normal_key(key)
        found = self.contracts.get(wanted)
        if found is not None:
            return found
        if wanted in self.broken:
            errors = [p for p in self.problems_of(wanted) or self.problems_of(wanted.split("/")[0]) if p.severity == "error"]
            first = errors[0] if errors else Problem("", 0, "", "its contract has a fault.", "Run sdp check.")
            raise PlatformError(
                "product-broken",
                f"The contract of {wanted} cannot be used: {first.message}",
                first.remedy,
                file=first.file,
                line=first.line,
            )
        match = close_match(wanted, self.contracts) or next((k for k in self.contracts if k.split("/")[1] == wanted.split("/")[-1]), None)
        remedy = f"Did you mean {match}?" if match else "List the products with sdp list."
        for orphan in self.orphans():
            if orphan.file.rsplit(".", 1)[0] == f"{PRODUCTS}/{wanted}":
                raise PlatformError(orphan.code, orphan.message, orphan.remedy, file=orphan.file)
        raise PlatformError("product-unknown", f"There is no product {wanted}.", remedy)

    def by_stream(self, stream: str) -> Contract:
        """The contract that ingests a stream.

        Raises:
            PlatformError: `stream-unknown` with a close match.
        """
        found = self._by_stream.get(stream)
        if found is not None:
            return found
        match = close_match(stream, [name for name in self._by_stream if name])
        remedy = f"Did you mean {match}?" if match else "Name a stream that a contract's server declares."
        raise PlatformError("stream-unknown", f"No contract ingests the stream {stream}.", remedy)

    def streams(self) -> Mapping[str, Contract]:
        """Contracts by the stream they ingest."""
        return {name: contract for name, contract in self._by_stream.items() if name}

    def orphans(self) -> tuple[Problem, ...]:
        """Transforms that no contract stands beside, code `transform-without-contract`: nothing runs them.

        Not among `problems`: a file that nothing reads must not take its location down.
        """
        return tuple(
            Problem(
                relative(path, self.project),
                0,
                "transform-without-contract",
                f"Nothing runs the transform {path.name}: {path.parent.name}/{path.stem} has no contract.",
                f"Write {path.stem}.yaml beside it as docs/contracts.md says, or remove the file.",
            )
            for folder in _folders(self.project / PRODUCTS)
            for path in sorted([*folder.glob("*.sql"), *folder.glob("*.py")])
            if not path.with_suffix(".yaml").exists() and (path.suffix == ".sql" or _is_marked(path))
        )

    def transform_path(self, key: str) -> Path | None:
        """The .sql or .py beside a contract, None for a product without a transform."""
        domain, _, name = normal_key(key).partition("/")
        found = _transforms(self.project / PRODUCTS / domain, name)
        return found[0] if found else None


def normal_key(key: str) -> str:
    """`d/p` of `d/p` or `d.p`."""
    return key if "/" in key else key.replace(".", "/", 1)


def _folders(root: Path) -> list[Path]:
    return sorted(path.parent for path in root.glob(f"*/{DOMAIN_FILE}"))


def _transforms(folder: Path, name: str) -> list[Path]:
    return [path for suffix in (".sql", ".py") if (path := folder / f"{name}{suffix}").is_file()]


def _is_marked(path: Path) -> bool:
    """Whether a module holds a function under `@data_product`; other modules are what transforms import."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return False
    marks = [mark.func if isinstance(mark, ast.Call) else mark for node in ast.walk(tree) for mark in getattr(node, "decorator_list", ())]
    return "data_product" in {getattr(mark, "attr", getattr(mark, "id", None)) for mark in marks}


def _claim(contract: Contract) -> tuple[bool, str]:
    """The order in which a stream is given away: first to the domain it is named after, so nobody takes another team's product down."""
    stream = contract.source.stream if contract.source else None
    return not (stream or "").startswith(f"{contract.domain}."), contract.key


def _between(contracts: Mapping[str, Contract], project: Path) -> list[tuple[Problem, list[str]]]:
    """Faults that no contract shows alone: two of one stream, two transforms, none at all."""
    found: list[tuple[Problem, list[str]]] = []
    streams: dict[str, Contract] = {}
    found += _same_folder(contracts, project)
    for contract in sorted(contracts.values(), key=_claim):
        file = relative(contract.path, project)
        transforms = _transforms(contract.path.parent, contract.name)
        if len(transforms) == 2:
            problem = Problem(
                file, 0, "product-two-transforms", f"The product {contract.key} has both a .sql and a .py transform.", "Keep one of them."
            )
            found.append((problem, [contract.key]))
        elif transforms and contract.is_stream:
            problem = Problem(
                file,
                contract.source.line if contract.source else 0,
                "product-filled-twice",
                f"The product {contract.key} is a stream and also has the transform {transforms[0].name}.",
                "Remove the transform, or give it a product of its own.",
            )
            found.append((problem, [contract.key]))
        elif not transforms and contract.source is None:
            problem = Problem(
                file,
                0,
                "product-without-origin",
                f"Nothing fills the product {contract.key}: it has neither a source nor a transform.",
                f"Add a server with the custom property source, or write {contract.name}.sql or {contract.name}.py beside it.",
            )
            found.append((problem, [contract.key]))
        stream = contract.source.stream if contract.source and contract.is_stream else None
        if stream is None:
            continue
        other = streams.setdefault(stream, contract)
        if other is not contract:
            problem = Problem(
                file,
                contract.source.line if contract.source else 0,
                "contract-stream-twice",
                f"The stream {stream} is already ingested by {other.key}.",
                f"Read the product {other.key} instead.",
            )
            found.append((problem, [contract.key]))
    return found


def _same_folder(contracts: Mapping[str, Contract], project: Path) -> Iterator[tuple[Problem, list[str]]]:
    """Two that publish in one folder: each would take the other's checksums and index page for its own."""
    publishing: list[tuple[str, Publication, Contract]] = []
    for key in sorted(contracts):
        contract = contracts[key]
        if contract.publication is None:
            continue
        connection = contract.publication.connection or contract.domain
        for other_connection, other, owner in publishing:
            if connection == other_connection and contract.publication.shares_folder(other):
                problem = Problem(
                    relative(contract.path, project),
                    contract.publication.line,
                    "publish-folder-taken",
                    f"{key} would publish in {contract.publication.path.rpartition('/')[0]} of {connection}, where {owner.key} does.",
                    "Give one of them a folder of its own in path.",
                )
                yield problem, [key]
                break
        else:
            publishing.append((connection, contract.publication, contract))


def _unknown_readers(contracts: Mapping[str, Contract], known: Collection[str], project: Path) -> Iterator[Problem]:
    """Roles that name no domain: most often a slip, by which those who were meant are refused."""
    for contract in contracts.values():
        for reader in contract.readers or ():
            if reader not in known:
                yield Problem(
                    relative(contract.path, project),
                    contract.lines.get(("roles",), 0),
                    "contract-role-unknown",
                    f"The role {reader} may read {contract.key}, but no domain is called so.",
                    did_you_mean(reader, known),
                    "warning",
                )

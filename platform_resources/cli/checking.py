"""`sdp check`: every problem in contracts, transforms and registrations, with file, line, sentence and remedy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from platform_resources.cli.output import Command, answer, json_option
from platform_resources.config import Settings, load_settings
from platform_resources.contracts.registry import Registry
from platform_resources.errors import PlatformError, Problem
from platform_resources.workspace import FILE_NAME, Location, read_locations

if TYPE_CHECKING:
    from rich.console import Console


@click.command("check", cls=Command, writes_home=False)
@click.option(
    "--against", metavar="REF", help="Hold the contracts against those of a git ref too; a breaking change of an active product fails."
)
@json_option
def check_command(against: str | None, as_json: bool) -> None:
    """Check every contract, transform and registration of the project; exit 1 when there is an error."""
    settings = load_settings()
    registry = Registry.load(settings.project)
    problems = [
        *registry.problems,
        *registry.orphans(),
        *workspace_problems(settings, registry),
        *_transform_problems(settings, registry),
        *_check_problems(registry),
    ]
    if against is not None:
        from platform_resources.contracts.diff import check_against

        problems += check_against(settings.project, against)
    found = dict.fromkeys(_inside(problem, settings.project) for problem in problems)
    problems = sorted(found, key=lambda problem: (problem.severity == "error", problem))  # what stops comes last, next to the prompt
    errors = [problem for problem in problems if problem.severity == "error"]

    def draw(console: Console) -> None:
        for problem in problems:
            where = f"{problem.file}:{problem.line}" if problem.line else problem.file
            console.print(
                f"{where}: {problem.severity}: {problem.message} {problem.remedy} [{problem.code}]".replace(": :", ":"), soft_wrap=True
            )
        warnings = len(problems) - len(errors)
        if not errors:
            products, domains = _count(len(registry.contracts), "product"), _count(len(registry.domains), "domain")
            console.print(f"{products} in {domains} checked: no errors, {_count(warnings, 'warning')}.")

    answer({"ok": not errors, "problems": [problem.as_dict() for problem in problems]}, as_json=as_json, human=draw)
    if errors:
        files = {problem.file for problem in errors}
        raise PlatformError(
            "check-failed", f"{_count(len(errors), 'error')} in {_count(len(files), 'file')}.", "Mend them and check again."
        )


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def _inside(problem: Problem, project: Path) -> Problem:
    """The problem with its file relative to the project."""
    path = Path(problem.file)
    if not problem.file or not path.is_absolute() or not path.is_relative_to(project):
        return problem
    return Problem(str(path.relative_to(project)), problem.line, problem.code, problem.message, problem.remedy, problem.severity)


def _transform_problems(settings: Settings, registry: Registry) -> list[Problem]:
    if not any(registry.transform_path(key) for key in registry.contracts):
        return []
    from platform_resources.cli.foreground import use_project
    from platform_resources.engines.loading import check_transform

    use_project(settings)
    return [problem for contract in registry.contracts.values() for problem in check_transform(contract, registry)]


def _check_problems(registry: Registry) -> list[Problem]:
    checked = [contract for contract in registry.contracts.values() if contract.checks]
    if not checked:
        return []
    from platform_resources.engines.audit import unfit_checks

    return [problem for contract in checked for problem in unfit_checks(contract)]


def workspace_problems(settings: Settings, registry: Registry) -> list[Problem]:
    """Domains without a location, locations without a domain, and two locations of one domain."""
    try:
        locations = read_locations(settings.project)
    except PlatformError as error:
        return [error.problem()]
    problems: list[Problem] = []
    by_domain: dict[str, Location] = {}
    for location in locations:
        other = by_domain.setdefault(location.domain, location)
        if other is not location:
            message = f"The locations {other.name} and {location.name} both load the domain {location.domain}."
            problems.append(Problem(FILE_NAME, location.line, "location-twice", message, "Remove one of the two entries."))
        elif not location.folder.is_dir():
            problems.append(
                Problem(
                    FILE_NAME,
                    location.line,
                    "location-without-folder",
                    f"The location {location.name} is registered, but there is no folder {_shown(location.folder, settings.project)}.",
                    "Remove the entry, or make the folder with `sdp new domain`.",
                )
            )
        elif not (module := location.directory.joinpath(*location.module.split(".")).with_suffix(".py")).is_file():
            problems.append(
                Problem(
                    FILE_NAME,
                    location.line,
                    "location-without-module",
                    f"The location {location.name} names the module {location.module}, which does not exist.",
                    f"Write {_shown(module, settings.project)} as `sdp new domain` does.",
                )
            )
    folders = sorted(path.parent for path in (settings.project / "data_products").glob("*/domain.yaml"))
    return problems + [_unregistered(folder, settings.project) for folder in folders if folder.name not in by_domain]


def _unregistered(folder: Path, project: Path) -> Problem:
    return Problem(
        _shown(folder / "domain.yaml", project),
        0,
        "domain-unregistered",
        f"The domain {folder.name} is not registered in {FILE_NAME}, so nothing runs it.",
        f"Add its entry to load_from: module_name data_products.{folder.name}.definitions, location_name {folder.name}.",
    )


def _shown(path: Path, project: Path) -> str:
    return str(path.relative_to(project)) if path.is_relative_to(project) else str(path)

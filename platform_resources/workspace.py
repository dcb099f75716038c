"""workspace.yaml: which code locations the project has, read with lines and extended in place.

No location is imported here; what a location holds is in its module, which `cli.foreground` and the code servers load.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from platform_resources.errors import PlatformError

FILE_NAME = "workspace.yaml"


@dataclass(frozen=True)
class Location:
    """One `python_module` entry: its name in the UI, the module to import, the folder put on the import path, its line."""

    name: str
    module: str
    directory: Path
    line: int

    @property
    def domain(self) -> str:
        """The domain package the module lies in: `activity` for `data_products.activity.definitions`; else the name."""
        parts = self.module.split(".")
        return parts[1] if parts[0] == "data_products" and len(parts) > 1 else self.name

    @property
    def folder(self) -> Path:
        """The folder whose files are this location's own."""
        return self.directory.joinpath(*self.module.split(".")[:-1])


def read_locations(project: Path) -> list[Location]:
    """The code locations registered in the project's workspace.yaml, in its order.

    Raises:
        PlatformError: `workspace-invalid` when the file is absent, not YAML, or has an entry that is no `python_module`.
    """
    path = project / FILE_NAME
    entries = _entries(path, _text(path))
    locations = [_location(path, entry, project) for entry in (entries.value if entries else [])]
    seen: dict[str, Location] = {}
    for location in locations:
        if location.name in seen:
            raise _invalid(
                path,
                location.line,
                f"The location {location.name} stands here and in line {seen[location.name].line}.",
                "Remove one of the two entries.",
            )
        seen[location.name] = location
    return locations


def find_location(project: Path, domain: str) -> Location:
    """The location of a domain.

    Raises:
        PlatformError: `domain-unregistered` when workspace.yaml has none; `workspace-invalid` as `read_locations`.
    """
    locations = read_locations(project)
    for location in locations:
        if location.domain == domain:
            return location
    raise PlatformError(
        "domain-unregistered",
        f"The domain {domain} is not registered in {FILE_NAME}.",
        f"Add its entry to load_from (module data_products.{domain}.definitions), or create it with `sdp new domain {domain}`.",
        file=project / FILE_NAME,
    )


def entry_text(name: str, indent: str = "  ") -> str:
    """The entry of a domain as it stands in workspace.yaml."""
    lines = (
        "- python_module:",
        f"    module_name: data_products.{name}.definitions",
        f"    location_name: {name}",
        "    working_directory: .",
    )
    return "".join(f"{indent}{line}\n" for line in lines)


def register(project: Path, name: str) -> bool:
    """Add the domain to workspace.yaml, keeping every other byte of the file; False when it is there already.

    The file is replaced whole, so a reader sees the old one or the new one, and two writers wait for each other.

    Raises:
        PlatformError: `workspace-invalid` when the file cannot be read or extended.
    """
    path = project / FILE_NAME
    with _exclusive(project):
        if any(location.domain == name for location in read_locations(project)):
            return False
        text = _extended(path, _text(path), name)
        draft = path.with_name(f".{FILE_NAME}.{os.getpid()}")
        draft.write_text(text, encoding="utf-8")
        draft.chmod(path.stat().st_mode)
        draft.replace(path)
    return True


def _extended(path: Path, text: str, name: str) -> str:
    """The file's text with one more entry."""
    entries = _entries(path, text)
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n"
    if entries is None or not entries.value:
        kept = [line for line in lines if not re.match(r"load_from\s*:", line)]
        return "".join(kept) + "load_from:\n" + entry_text(name)
    if entries.flow_style:
        raise _invalid(
            path, entries.start_mark.line + 1, "load_from is written in one line.", "Write one entry per line, each beginning with a dash."
        )
    indent = " " * (entries.value[0].start_mark.column - 2)
    last = max(node.end_mark.line if node.end_mark.column else node.end_mark.line - 1 for node in _scalars(entries))
    return "".join(lines[: last + 1]) + entry_text(name, indent) + "".join(lines[last + 1 :])


def _scalars(node: yaml.Node) -> Iterator[yaml.ScalarNode]:
    if isinstance(node, yaml.ScalarNode):
        yield node
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _scalars(key)
            yield from _scalars(value)
    elif isinstance(node, yaml.SequenceNode):
        for child in node.value:
            yield from _scalars(child)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise _invalid(
            path, 0, f"{FILE_NAME} cannot be read: {error.strerror}.", "Work in the project's folder, or set SDP_PROJECT to it."
        ) from None


def _entries(path: Path, text: str) -> yaml.SequenceNode | None:
    """The node of `load_from`; None when the file has none or it is empty."""
    try:
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise _invalid(
            path, mark.line + 1 if mark else 0, f"{FILE_NAME} is not YAML: {getattr(error, 'problem', error)}.", "Mend the line."
        ) from None
    if root is None:
        return None
    if not isinstance(root, yaml.MappingNode):
        raise _invalid(path, 1, f"{FILE_NAME} is no mapping.", "Begin it with `load_from:`.")
    for key, value in root.value:
        if key.value != "load_from":
            continue
        if isinstance(value, yaml.SequenceNode):
            return value
        if isinstance(value, yaml.ScalarNode) and value.value in ("", "null", "~"):
            return None
        raise _invalid(
            path, key.start_mark.line + 1, "load_from is no list.", "Write one entry per domain under it, each beginning with a dash."
        )
    return None


def _location(path: Path, node: yaml.Node, project: Path) -> Location:
    line = node.start_mark.line + 1
    entry = yaml.SafeLoader("").construct_document(node) if isinstance(node, yaml.MappingNode) else None
    target = entry.get("python_module") if isinstance(entry, dict) else None
    if isinstance(target, str):
        target = {"module_name": target}
    if not isinstance(target, dict) or not isinstance(target.get("module_name"), str):
        raise _invalid(path, line, "An entry of load_from is no python_module with a module_name.", "Write it as `sdp new domain` does.")
    module = target["module_name"]
    directory = (project / str(target.get("working_directory", "."))).resolve()
    return Location(str(target.get("location_name") or module), module, directory, line)


def _invalid(path: Path, line: int, message: str, remedy: str) -> PlatformError:
    return PlatformError("workspace-invalid", message, remedy, file=path, line=line)


@contextmanager
def _exclusive(project: Path) -> Iterator[None]:
    """One writer of workspace.yaml at a time: an advisory lock on the project's folder, which replacing the file does not move."""
    descriptor = os.open(project, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

"""Read `domain.yaml`: the team that owns a folder of products. Contracts are read in `reading`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from platform_resources.contracts.durations import parse_duration
from platform_resources.contracts.findings import Findings, did_you_mean, show
from platform_resources.contracts.model import Domain
from platform_resources.contracts.people import read_owners, read_support, unknown_keys
from platform_resources.contracts.yaml_source import YamlFaultError, YamlSource, parse
from platform_resources.errors import Problem

DOMAIN_NAME = re.compile(r"[a-z][a-z0-9_]*")
KEYS = ("name", "title", "description", "owners", "on_call", "support", "defaults")
DEFAULTS = ("classification", "tags", "latency", "frequency", "retention")
CLASSIFICATIONS = ("public", "internal", "confidential", "restricted")


def relative(path: Path, project: Path) -> str:
    """A path as problems show it: relative to the project where it lies inside."""
    return str(path.relative_to(project)) if path.is_relative_to(project) else str(path)


def load_yaml(path: Path, project: Path, kind: str, text: str | None = None) -> tuple[YamlSource | None, Findings]:
    """A file as a YAML mapping, with the findings that keep it from being one (`<kind>-yaml`, `<kind>-key-twice`)."""
    file = relative(path, project)
    try:
        source = parse(path.read_text("utf-8") if text is None else text)
    except YamlFaultError as fault:
        findings = Findings(file, {(): fault.line})
        findings.error(f"{kind}-yaml", (), f"The file is not valid YAML: {fault.message}.", "Mend the text at this line.")
        return None, findings
    except (OSError, UnicodeDecodeError) as fault:
        findings = Findings(file, {})
        findings.error(f"{kind}-unreadable", (), f"The file cannot be read: {fault}.", "Make it a readable UTF-8 file.")
        return None, findings
    findings = Findings(file, source.lines)
    for key_path, line in source.duplicates:
        findings.lines = {**findings.lines, key_path: line}
        findings.error(f"{kind}-key-twice", key_path, f"The key {key_path[-1]} is given twice in the same place.", "Keep one of them.")
    if not isinstance(source.document, dict):
        findings.error(f"{kind}-yaml", (), "The file holds no keys.", "See docs/contracts.md for what belongs in it.")
        return None, findings
    return source, findings


def read_domain(folder: Path, *, project: Path, text: str | None = None) -> tuple[Domain | None, list[Problem]]:
    """The domain of a folder from its `domain.yaml`, or None with the reasons.

    `text` replaces the file's content (an older version, for a diff).
    """
    source, findings = load_yaml(folder / "domain.yaml", project, "domain", text)
    if source is None:
        return None, findings.problems
    document: Mapping[str, Any] = source.document
    for key in unknown_keys(document, KEYS):
        findings.error("domain-key-unknown", (key,), f"A domain has no key {key}.", did_you_mean(key, KEYS))
    name = document.get("name", folder.name)
    if name != folder.name:
        findings.error(
            "domain-name",
            ("name",),
            f"The domain is named {show(name)} but lies in the folder {folder.name}.",
            f"Write name: {folder.name}.",
        )
    if DOMAIN_NAME.fullmatch(folder.name) is None:
        findings.error(
            "domain-name",
            (),
            f"The domain's folder {folder.name!r} is no name for a table's namespace.",
            "Use lower-case letters, digits and underscores, a letter first.",
        )
    owners = read_owners(document.get("owners", []), ("owners",), findings)
    if not owners and not findings.failed:
        findings.error("domain-owner-missing", (), f"The domain {folder.name} has no owner.", "Add owners: [team:name].")
    for key in ("title", "description"):
        if not isinstance(document.get(key, ""), str):
            findings.error("domain-value", (key,), f"The {key} is {show(document[key])}, which is no text.", "Write a text.")
    domain = Domain(
        name=folder.name,
        path=folder,
        title=str(document.get("title") or folder.name.replace("_", " ").capitalize()),
        description=" ".join(str(document.get("description") or "").split()),
        owners=owners,
        on_call=_texts(document.get("on_call", []), ("on_call",), findings),
        support=read_support(document.get("support", []), ("support",), findings),
        defaults=_defaults(document.get("defaults", {}), findings),
        package=".".join(folder.relative_to(project).parts) if folder.is_relative_to(project) else folder.name,
    )
    return (None if findings.failed else domain), findings.problems


def _defaults(given: object, findings: Findings) -> Mapping[str, Any]:
    if not isinstance(given, dict):
        findings.error("domain-defaults", ("defaults",), "The defaults hold no keys.", f"Use {', '.join(DEFAULTS)}.")
        return {}
    defaults: dict[str, Any] = {}
    for key, value in given.items():
        path = ("defaults", str(key))
        if key not in DEFAULTS:
            findings.error("domain-key-unknown", path, f"A domain has no default {key}.", did_you_mean(key, DEFAULTS))
        elif key in ("latency", "frequency", "retention"):
            defaults[key] = _length(key, value, path, findings)
        elif key == "classification" and value not in CLASSIFICATIONS:
            findings.error(
                "contract-classification", path, f"The classification {show(value)} is not known.", did_you_mean(value, CLASSIFICATIONS)
            )
        else:
            defaults[key] = _texts(value, path, findings) if key == "tags" else value
    return defaults


def _texts(value: object, path: tuple[str, ...], findings: Findings) -> tuple[str, ...]:
    listed = [value] if isinstance(value, str) else value
    if isinstance(listed, list) and all(isinstance(text, str) for text in listed):
        return tuple(listed)
    findings.error("domain-value", path, f"{path[-1]} is {show(value)}, which is no list of texts.", "Write a list of texts.")
    return ()


def _length(key: str, value: object, path: tuple[str, ...], findings: Findings) -> timedelta | None:
    try:
        return parse_duration(value)
    except ValueError as reason:
        findings.error("domain-defaults", path, f"The {key} {show(value)} {reason}.", "Write e.g. 5 minutes or PT5M.")
        return None

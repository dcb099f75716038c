"""Who answers for a product: owners and support channels, from `domain.yaml` and from a contract's `team` and `support`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from platform_resources.contracts.findings import Findings, show
from platform_resources.contracts.model import Support
from platform_resources.contracts.yaml_source import DocumentPath

# What Dagster accepts as an asset owner: an e-mail address with a top-level domain of 2 to 7 letters, or a team.
_EMAIL = re.compile(r"\b[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,7}")
_TEAM = re.compile(r"team:[A-Za-z0-9_.-]+")
OWNER_REMEDY = "Write an address with a top-level domain of 2 to 7 letters, such as a@example.org, or team:name."
TOOLS = ("email", "slack", "teams", "discord", "ticket", "googlechat", "other")
_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+")


def is_owner(text: object) -> bool:
    """Whether Dagster would accept an owner."""
    return isinstance(text, str) and bool(_EMAIL.fullmatch(text) or _TEAM.fullmatch(text))


def read_owners(values: object, path: DocumentPath, findings: Findings) -> tuple[str, ...]:
    """Owners from a list of texts (or one text)."""
    listed = [values] if isinstance(values, str) else values
    if not isinstance(listed, list):
        findings.error("owner-invalid", path, f"The owners are {show(values)}, which is no list.", "Write owners: [team:name].")
        return ()
    owners = []
    for index, owner in enumerate(listed):
        if is_owner(owner):
            owners.append(owner)
        else:
            findings.error(
                "owner-invalid",
                (*path, index),
                f"The owner {show(owner)} is neither an e-mail address that Dagster takes nor a team.",
                OWNER_REMEDY,
            )
    return tuple(owners)


def read_team(team: Mapping[str, Any] | list[Any] | None, path: DocumentPath, findings: Findings) -> tuple[str, ...]:
    """Owners from an ODCS team: the members with role owner (all members where none has a role), else `team:<name>`."""
    if not team:
        return ()
    members = team if isinstance(team, list) else team.get("members") or []
    where = path if isinstance(team, list) else (*path, "members")
    leading = [m for m in members if "owner" in str(m.get("role", "")).lower()] or [m for m in members if not m.get("role")]
    owners = []
    for index, member in enumerate(members):
        if member not in leading or member.get("dateOut"):
            continue
        name = member["username"]
        if not is_owner(name):
            findings.error(
                "owner-invalid",
                (*where, index),
                f"The owner {show(name)} is neither an e-mail address that Dagster takes nor a team.",
                OWNER_REMEDY,
            )
        else:
            owners.append(name)
    if not owners and isinstance(team, dict) and team.get("name"):
        name = str(team["name"])
        owners.append(name if is_owner(name) else "team:" + re.sub(r"[^A-Za-z0-9_.-]+", "-", name.strip()).lower())
    return tuple(owners)


def read_support(values: object, path: DocumentPath, findings: Findings) -> tuple[Support, ...]:
    """Support channels from ODCS `support` items."""
    if not isinstance(values, list):
        findings.error("support-invalid", path, f"The support is {show(values)}, which is no list.", "Write a list of channels.")
        return ()
    channels = []
    for index, item in enumerate(values):
        if not isinstance(item, dict) or not isinstance(item.get("channel"), str):
            findings.error("support-invalid", (*path, index), "A support channel lacks its channel.", "Add channel: ....")
            continue
        support = Support(item["channel"], str(item.get("tool", "other")), item.get("url"), item.get("scope"))
        if support.tool == "email" and not _ADDRESS.fullmatch(support.address or ""):
            findings.error(
                "support-invalid",
                (*path, index),
                f"The support channel {show(support.channel)} is of the tool email but has no address.",
                "Put the address in channel, or mailto:address in url.",
            )
        channels.append(support)
    return tuple(channels)


def unknown_keys(document: Mapping[str, Any], known: Iterable[str]) -> list[str]:
    """Keys of a mapping that are not known, in order."""
    allowed = set(known)
    return [str(key) for key in document if key not in allowed]

"""What the supervisor asks of a Dagster webserver: reload a location, reload the workspace, how each location fares. GraphQL over HTTP."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

LOADED = "loaded"

_LOCATIONS = """{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus
  locationOrLoadError { __typename ... on PythonError { message causes { message } } } } } } }"""
_OUR_CLASS = re.compile(r"^platform_resources(\.\w+)+: ")
_RELOAD_LOCATION = "mutation($name: String!) { reloadRepositoryLocation(repositoryLocationName: $name) { __typename } }"
_RELOAD_WORKSPACE = "mutation { reloadWorkspace { __typename } }"


class WebserverSilentError(Exception):
    """The webserver does not answer, or not as one."""


def ask(url: str, query: str, variables: Mapping[str, Any] | None = None, *, timeout: float = 10.0) -> dict[str, Any]:
    """One GraphQL request.

    Raises:
        WebserverSilentError: when there is no answer within `timeout` seconds.
    """
    body = json.dumps({"query": query, "variables": dict(variables or {})}).encode()
    request = urllib.request.Request(f"{url}/graphql", data=body, headers={"Content-Type": "application/json"})  # noqa: S310 - our own server
    try:
        with urllib.request.urlopen(request, timeout=timeout) as response:  # noqa: S310
            data: dict[str, Any] = json.load(response)["data"]
    except (OSError, ValueError, KeyError, urllib.error.URLError) as error:
        raise WebserverSilentError(str(error)) from error
    return data


def locations(url: str) -> dict[str, str]:
    """State of each location: `loaded`, `loading`, or the innermost message of its load error."""
    entries = ask(url, _LOCATIONS)["workspaceOrError"].get("locationEntries", [])
    return {entry["name"]: _state(entry) for entry in entries}


def _state(entry: Mapping[str, Any]) -> str:
    outcome = entry["locationOrLoadError"] or {}
    if outcome.get("__typename") == "PythonError":
        # Dagster wraps what went wrong; the innermost cause is the sentence that helps. Before ours it puts the name of our class.
        words = [_OUR_CLASS.sub("", str(cause["message"]).strip()) for cause in (outcome, *outcome.get("causes", []))]
        return next(filter(None, reversed(words)), "error")
    return LOADED if entry["loadStatus"] == "LOADED" and outcome else "loading"


def reload_location(url: str, name: str, *, timeout: float = 120.0) -> None:
    """Make the location's code server load its files anew; returns when it has."""
    ask(url, _RELOAD_LOCATION, {"name": name}, timeout=timeout)


def reload_workspace(url: str, *, timeout: float = 120.0) -> None:
    """Make the webserver read its workspace file again."""
    ask(url, _RELOAD_WORKSPACE, timeout=timeout)

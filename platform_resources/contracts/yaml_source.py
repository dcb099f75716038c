"""YAML as a domain team wrote it: the document, the line of every key, and keys given twice. What it means is read elsewhere.

Timestamps stay text (`2024-01-01` is a version or an enum value as often as a date), so that a value is what the file shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

_BaseLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is ten times faster: 8 ms against 90 for page_change

DocumentPath = tuple[str | int, ...]


class _Loader(_BaseLoader):  # type: ignore[misc]
    """Safe loader without the timestamp type."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass
class YamlSource:
    """One YAML document: `lines` maps a path of keys and indices to its line (from 1); `duplicates` are paths of keys given twice."""

    document: Any
    lines: dict[DocumentPath, int] = field(default_factory=dict)
    duplicates: list[tuple[DocumentPath, int]] = field(default_factory=list)


class YamlFaultError(Exception):
    """The text is no YAML; `line` counts from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.message, self.line = message, line


def parse(text: str) -> YamlSource:
    """Parse one document.

    Raises:
        YamlFaultError: the text is not one well-formed YAML document.
    """
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        source = YamlSource(loader.construct_document(node) if node is not None else None)
        if node is not None:
            source.lines[()] = node.start_mark.line + 1
            _mark(node, (), source)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlFaultError(error.problem or "malformed", mark.line + 1 if mark else 0) from None
    except yaml.YAMLError as error:
        raise YamlFaultError(str(error).splitlines()[0], 0) from None
    except RecursionError:
        raise YamlFaultError("nested too deeply or refers to itself", 0) from None
    finally:
        loader.dispose()
    return source


def _mark(node: yaml.Node, path: DocumentPath, source: YamlSource) -> None:
    for key, child, line in _children(node):
        here = (*path, key)
        if here in source.lines and isinstance(node, yaml.MappingNode):
            source.duplicates.append((here, line))
        source.lines[here] = line
        _mark(child, here, source)


def _children(node: yaml.Node) -> Iterator[tuple[str | int, yaml.Node, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.tag != "tag:yaml.org,2002:merge":
                yield str(key.value), value, key.start_mark.line + 1
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield index, value, value.start_mark.line + 1

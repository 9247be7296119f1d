"""Plain values from YAML that anybody may have written, and the paths in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml


class _PlainLoader(yaml.SafeLoader):
    """Of plain values without aliases, by which a small file could hold billions of them."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """A node. Raises yaml.YAMLError for an alias."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it refers to other parts of itself")
        return super().compose_node(parent, index)


def load_yaml(text: str) -> Any:
    """What a text of YAML holds. Raises yaml.YAMLError for anything but plain values."""
    return yaml.load(text, _PlainLoader)  # a SafeLoader that takes less


def replaced(node: Any, old: str, new: str) -> Any:
    """Plain values in which texts that are `old`, or begin with it as a folder, begin with `new`."""
    if isinstance(node, Mapping):
        return {k: replaced(v, old, new) for k, v in node.items()}
    if isinstance(node, (list, tuple)):
        return [replaced(v, old, new) for v in node]
    if isinstance(node, str) and (node == old or node.startswith(f"{old}/")):
        return new + node[len(old) :]
    return node


def without_paths(data: Any) -> Any:
    """Options of data but for those that name files, where anything is a name."""
    return {k: v for k, v in data.items() if k not in ("root", "file", "splits")} if isinstance(data, Mapping) else data


def interpolations(node: Any) -> Iterator[str]:
    """The texts in plain values that refer to others."""
    if isinstance(node, Mapping):
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from interpolations(child)
    elif isinstance(node, str) and "${" in node:
        yield node

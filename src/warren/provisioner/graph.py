"""Read the graph that `terraform graph` prints, and walk it from a resource to its neighbours."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

_NODE = re.compile(r'^\s*"((?:[^"\\]|\\.)*)"\s*\[label = "((?:[^"\\]|\\.)*)"')
_EDGE = re.compile(r'^\s*"((?:[^"\\]|\\.)*)"\s*->\s*"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class Graph:
    """Nodes by name with their labels, and the edges from a dependent to what it depends on."""

    labels: Mapping[str, str]
    down: Mapping[str, Sequence[str]]
    up: Mapping[str, Sequence[str]]

    @classmethod
    def parse(cls, dot: str) -> Self:
        """Read the DOT text; lines that are neither a node nor an edge do not matter."""
        labels: dict[str, str] = {}
        down: dict[str, list[str]] = defaultdict(list)
        up: dict[str, list[str]] = defaultdict(list)
        for line in dot.splitlines():
            if edge := _EDGE.match(line):
                source, target = _plain(edge[1]), _plain(edge[2])
                down[source].append(target)
                up[target].append(source)
            elif node := _NODE.match(line):
                labels[_plain(node[1])] = _plain(node[2])
        return cls(labels, dict(down), dict(up))

    def find(self, label: str) -> str | None:
        """Give the node with this label, or `None`."""
        return next((name for name, own in self.labels.items() if own == label), None)

    def edge(self, source_end: str, target_end: str) -> bool:
        """Tell whether some edge goes from a node whose name ends so to one whose name ends so."""
        return any(
            source.endswith(source_end) and any(target.endswith(target_end) for target in targets)
            for source, targets in self.down.items()
        )

    def nearest(self, start: str, wanted: Iterable[str], *, upwards: bool) -> str | None:
        """Give the label out of `wanted` that is fewest edges away; among equals the smallest."""
        labels, edges = set(wanted), self.up if upwards else self.down
        seen, level = {start}, [start]
        while level:
            level = [node for name in level for node in edges.get(name, ()) if node not in seen]
            found = [label for node in level if (label := self.labels.get(node, "")) in labels]
            if found:
                return min(found)
            seen.update(level)
        return None


def _plain(quoted: str) -> str:
    return _ESCAPE.sub(r"\1", quoted)

"""Cells as graphs: what a search space tells about an architecture that is more than a chain of blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from oneshot.arch import Arch


@dataclass(frozen=True)
class CellGraph:
    """A directed acyclic graph whose edges are operations.

    Args:
        nodes: names, each after those that it reads: the inputs first, the output last.
        edges: ``(source, target, operation)``; two nodes may be joined by several. Operations are options such as
            ``"sep_conv_3x3"``, empty where a value is passed on as it is.
    """

    nodes: tuple[str, ...]
    edges: tuple[tuple[str, str, str], ...]


@runtime_checkable
class HasCells(Protocol):
    """A search space whose architectures are more than chains of blocks."""

    def graphs(self, arch: Arch) -> Mapping[str, CellGraph]:
        """The cells of ``arch`` by name."""
        ...

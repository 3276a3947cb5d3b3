"""Genotypes: how DARTS (https://github.com/quark0/darts, ``cnn/genotypes.py``) and those who follow it publish cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from oneshot.arch import suggest
from oneshot.spaces.edge_isomorphism import NODES, NONE, Edge

Pairs = Sequence[tuple[str, int]]
"""Operations and the nodes that they read, two for each of nodes 2 to 5."""


class Genotype(NamedTuple):
    """Two cells as published: pairs of an operation and the node that it reads, two for each of nodes 2 to 5, and the nodes that
    are concatenated, which are these. Nodes 0 and 1 are the outputs of the cell before the previous one and of the previous one.
    """

    normal: Pairs
    normal_concat: Sequence[int]
    reduce: Pairs
    reduce_concat: Sequence[int]


def read_pairs(cell: str, pairs: Pairs, concatenated: Sequence[int], operations: Sequence[str]) -> dict[Edge, str]:
    """The operations of the edges that ``pairs`` name; ``cell`` is for messages.

    Raises:
        ValueError: other nodes than 2 to 5, another operation than ``operations``, or a node that is read twice by one or before
            it is computed.
    """
    if len(pairs) != 2 * len(NODES) or [*concatenated] != [*NODES]:
        raise ValueError(
            f"{cell} has {len(pairs)} edges and concatenates {[*concatenated]}; a DARTS cell has two to each of nodes 2 to 5 and "
            "concatenates these"
        )
    edges: dict[Edge, str] = {}
    for index, (operation, source) in enumerate(pairs):
        target = NODES[index // 2]
        if operation == NONE or operation not in operations:
            known = [name for name in operations if name != NONE]
            raise ValueError(f"{operation!r} is no operation of DARTS; these are {known}{suggest(operation, known)}")
        if source not in range(target):
            raise ValueError(f"{cell}: node {target} cannot read node {source}, only earlier ones")
        if (source, target) in edges:
            raise ValueError(f"{cell}: node {target} cannot read node {source} twice")
        edges[source, target] = operation
    return edges


def write_pairs(cell: str, edges: Mapping[Edge, str]) -> list[tuple[str, int]]:
    """The inverse of ``read_pairs``.

    Raises:
        ValueError: a node has not two edges.
    """
    for node in NODES:
        number = sum(target == node for _, target in edges)
        if number != 2:
            raise ValueError(f"{cell}: node {node} has {number} edges; a genotype has two to every node")
    return [(operation, source) for (source, _), operation in sorted(edges.items(), key=lambda edge: edge[0][::-1])]

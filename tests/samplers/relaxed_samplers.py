"""Samplers of mixtures, and the space that they are tested on."""

from __future__ import annotations

from oneshot.samplers import (
    BinaryGates,
    Concrete,
    DifferentiableSampler,
    Dirichlet,
    EdgeNormalisation,
    EnsembleGumbel,
    HardGumbel,
    NodeSoftmax,
    Relaxation,
    Sigmoid,
    Softmax,
)
from oneshot.spaces import NASBench201

SPACE = NASBench201(num_classes=4, channels=4, num_cells=1)
RELAXATIONS: dict[str, Relaxation] = {
    "softmax": Softmax(),
    "hard_gumbel": HardGumbel(),
    "concrete": Concrete(),
    "gates": BinaryGates(),
    "all_gates": BinaryGates(paths="all"),
    "sigmoid": Sigmoid(),
    "dirichlet": Dirichlet(),
    "edges": EdgeNormalisation(Softmax()),
    "hard_edges": EdgeNormalisation(HardGumbel()),
    "nodes": NodeSoftmax(),
    "ensemble": EnsembleGumbel(),
}


def sampler_of(name: str, **arguments: object) -> DifferentiableSampler:
    return DifferentiableSampler(SPACE, 3, RELAXATIONS[name], **arguments)  # type: ignore[arg-type]

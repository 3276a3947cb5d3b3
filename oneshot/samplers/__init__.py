"""Samplers: which architectures one training step uses."""

from oneshot.samplers.attentive import AttentiveSampler
from oneshot.samplers.base import Sampler
from oneshot.samplers.controller import ControllerSampler
from oneshot.samplers.differentiable import (
    ArchitectureLearning,
    AuxiliarySkip,
    BetaDecay,
    BinaryGates,
    Concrete,
    Connections,
    CostTerm,
    Decided,
    DifferentiableSampler,
    Dirichlet,
    EarlyStopping,
    EdgeNormalisation,
    EnsembleGumbel,
    HardGumbel,
    Moment,
    NodeSoftmax,
    Regulariser,
    Relaxation,
    Sigmoid,
    Smoothing,
    Softmax,
    Temperature,
    ZeroOne,
)
from oneshot.samplers.fair import FairSampler
from oneshot.samplers.multinomial import MultinomialSampler
from oneshot.samplers.sandwich import SandwichSampler
from oneshot.samplers.uniform import UniformSampler

__all__ = [
    "ArchitectureLearning",
    "AttentiveSampler",
    "AuxiliarySkip",
    "BetaDecay",
    "BinaryGates",
    "Concrete",
    "Connections",
    "ControllerSampler",
    "CostTerm",
    "Decided",
    "DifferentiableSampler",
    "Dirichlet",
    "EarlyStopping",
    "EdgeNormalisation",
    "EnsembleGumbel",
    "FairSampler",
    "HardGumbel",
    "Moment",
    "MultinomialSampler",
    "NodeSoftmax",
    "Regulariser",
    "Relaxation",
    "Sampler",
    "SandwichSampler",
    "Sigmoid",
    "Smoothing",
    "Softmax",
    "Temperature",
    "UniformSampler",
    "ZeroOne",
]

"""Differentiable search: mixes of all options, whose weights learn by gradient."""

from oneshot.samplers.differentiable.auxiliary_skip import AuxiliarySkip
from oneshot.samplers.differentiable.beta_decay import BetaDecay
from oneshot.samplers.differentiable.concrete import Concrete
from oneshot.samplers.differentiable.connections import Connections
from oneshot.samplers.differentiable.cost_term import CostTerm
from oneshot.samplers.differentiable.decided import Decided
from oneshot.samplers.differentiable.dirichlet import Dirichlet
from oneshot.samplers.differentiable.edges import EdgeNormalisation
from oneshot.samplers.differentiable.ensemble_gumbel import EnsembleGumbel
from oneshot.samplers.differentiable.gates import BinaryGates
from oneshot.samplers.differentiable.hard_gumbel import HardGumbel
from oneshot.samplers.differentiable.learning import ArchitectureLearning
from oneshot.samplers.differentiable.moment import Moment, Temperature
from oneshot.samplers.differentiable.nodes import NodeSoftmax
from oneshot.samplers.differentiable.regulariser import Regulariser, ZeroOne
from oneshot.samplers.differentiable.relaxation import Relaxation
from oneshot.samplers.differentiable.sampler import DifferentiableSampler
from oneshot.samplers.differentiable.sigmoid import Sigmoid
from oneshot.samplers.differentiable.smoothing import Smoothing
from oneshot.samplers.differentiable.softmax import Softmax
from oneshot.samplers.differentiable.stopping import EarlyStopping

__all__ = [
    "ArchitectureLearning",
    "AuxiliarySkip",
    "BetaDecay",
    "BinaryGates",
    "Concrete",
    "Connections",
    "CostTerm",
    "Decided",
    "DifferentiableSampler",
    "Dirichlet",
    "EarlyStopping",
    "EdgeNormalisation",
    "EnsembleGumbel",
    "HardGumbel",
    "Moment",
    "NodeSoftmax",
    "Regulariser",
    "Relaxation",
    "Sigmoid",
    "Smoothing",
    "Softmax",
    "Temperature",
    "ZeroOne",
]

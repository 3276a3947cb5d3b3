"""Samplers: which architectures one training step uses."""

from oneshot.samplers.attentive import AttentiveSampler
from oneshot.samplers.base import Sampler
from oneshot.samplers.controller import ControllerSampler
from oneshot.samplers.fair import FairSampler
from oneshot.samplers.multinomial import MultinomialSampler
from oneshot.samplers.sandwich import SandwichSampler
from oneshot.samplers.uniform import UniformSampler

__all__ = [
    "AttentiveSampler",
    "ControllerSampler",
    "FairSampler",
    "MultinomialSampler",
    "Sampler",
    "SandwichSampler",
    "UniformSampler",
]

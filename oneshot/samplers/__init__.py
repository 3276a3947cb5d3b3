"""Samplers: which architectures one training step uses."""

from oneshot.samplers.attentive import AttentiveSampler
from oneshot.samplers.base import Sampler
from oneshot.samplers.fair import FairSampler
from oneshot.samplers.sandwich import SandwichSampler
from oneshot.samplers.uniform import UniformSampler

__all__ = ["AttentiveSampler", "FairSampler", "Sampler", "SandwichSampler", "UniformSampler"]

"""Weight-sharing one-shot neural architecture search: people write only subnets; the supernet is derived."""

from oneshot.arch import Arch, Choice
from oneshot.spaces.base import Make, SearchSpace
from oneshot.supernet import Supernet

__all__ = ["Arch", "Choice", "Make", "SearchSpace", "Supernet"]
__version__ = "0.1.0"

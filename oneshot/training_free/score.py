"""What a training-free score is."""

from __future__ import annotations

from typing import Protocol

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from oneshot.training_free.trial import Trial


class TrainingFreeScore(Protocol):
    """A number that a network gets before it is trained, higher is better.

    A score is a frozen dataclass of its settings, those of the publication by default; ``name`` is what users call it. Its
    settings ``num_images`` and ``repeats``, where it has them, are the images of its batch and the draws of weights over which it
    is a mean.
    """

    @property
    def name(self) -> str: ...

    def __call__(self, trial: Trial) -> float:
        """The score of one network. What several scores need of it is computed once, because ``trial`` remembers it.

        Raises:
            NotApplicable: the network lacks what the score looks at.
        """


class NotApplicable(ValueError):
    """A network lacks what a score looks at; the message says what, in words that follow the score's name."""


def weighted_layers(network: nn.Module) -> list[nn.Module]:
    """The convolutions and linear layers of a network, whose weights are what scores by gradients sum over.

    Raises:
        NotApplicable: there are none.
    """
    found: list[nn.Module] = [module for module in network.modules() if isinstance(module, _WEIGHTED)]
    if not found:
        raise NotApplicable("sums over the weights of convolutions and linear layers, of which the network has none")
    return found


_WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def is_norm(module: nn.Module) -> bool:
    """Whether a module normalises what it takes, whatever by; timm's may have an activation in them."""
    return isinstance(module, (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)) or type(module).__name__.startswith(
        ("RmsNorm", "SimpleNorm", "FrozenBatchNorm")
    )

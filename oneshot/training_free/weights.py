"""Networks with random weights that are functions of a seed and of the names of their blocks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from oneshot.arch import Arch
from oneshot.spaces.base import SearchSpace
from oneshot.spaces.making import Making

Weights = Literal["own", "gaussian", "kaiming"]
"""How weights are drawn: as the space's blocks do it themselves; those of convolutions and linear layers from a standard normal
distribution; or from one of variance ``2 / fan_in`` (He et al., ICCV 2015). The latter two set biases to 0 and norms to 1.
"""


class Untrained:
    """The network of ``arch`` with random weights, in training mode but for what drops values or paths at random.

    The weights of a block depend on the seed, its name and its shapes alone: two architectures that have a block in common have
    it with the same weights, so their scores differ by what differs in them.

    Attributes:
        network: with the weights that the blocks draw themselves.
    """

    def __init__(self, space: SearchSpace, arch: Arch, seed: int, device: torch.device) -> None:
        self._blocks: dict[str, nn.Module] = {}
        self._seed = seed

        def make(name: str, block: Callable[..., nn.Module], *args: Any, **kwargs: Any) -> nn.Module:
            if name not in self._blocks:
                torch.manual_seed(derive_seed(seed, name))
                module = block(*args, **kwargs)
                space.initialize(name, module)
                self._blocks[name] = module
            return self._blocks[name]

        with torch.random.fork_rng([]):
            self.network = space.build(arch, Making(arch, make)).to(device).train()
        for module in self.network.modules():
            if isinstance(module, _DropoutNd) or type(module).__name__ in ("DropPath", "StochasticDepth"):
                module.eval()

    @torch.no_grad()
    def draw(self, weights: Weights, repeat: int = 0) -> nn.Module:
        """The network with new weights, the same for the same ``repeat``; its own ones are lost.

        Buffers, such as the running statistics of batch normalisation, stay as they are.
        """
        assert weights != "own"
        for name, block in self._blocks.items():
            generator = torch.Generator().manual_seed(derive_seed(self._seed, name, weights, repeat))
            for module in block.modules():
                _draw(module, weights, generator)
        return self.network


def derive_seed(*parts: object) -> int:
    """A seed of 63 bits for each sequence of ``parts``."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def _draw(module: nn.Module, weights: Weights, generator: torch.Generator) -> None:
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)):
        scale = 1.0 if weights == "gaussian" else (2 / module.weight[0].numel()) ** 0.5
        # On the CPU, so that weights are the same on every device.
        module.weight.copy_(torch.empty(module.weight.shape).normal_(0, scale, generator=generator))
    elif isinstance(module, (_BatchNorm, nn.GroupNorm, nn.LayerNorm)):
        if isinstance(weight, Tensor):
            weight.fill_(1)
    else:
        return
    if isinstance(bias, Tensor):
        bias.zero_()

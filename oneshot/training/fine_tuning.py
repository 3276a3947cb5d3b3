"""How fast a network may learn that is trained already."""

from __future__ import annotations

from timm.layers import RmsNorm, RmsNorm2d
from torch import nn

_OTHERS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, RmsNorm, RmsNorm2d)
_BATCH_NORM = nn.modules.batchnorm._BatchNorm


def fine_tuning_rate(network: nn.Module) -> float:
    """A peak learning rate of AdamW for a network with trained weights, in batches of some 64 images: 0.001 where BatchNorm and
    nothing else normalises, a tenth of that for transformers, ConvNeXt and all others.

    The first was chosen for EfficientNet-Lite0 on held-out images; the networks of the second were fine-tuned by their authors
    at 2e-5 (Swin Transformer, configs of 22kto1k) and 5e-5 (ConvNeXt, TRAINING.md), in larger batches and for longer.
    """
    modules = list(network.modules())
    only_batch_norm = any(isinstance(module, _BATCH_NORM) for module in modules) and not any(
        isinstance(module, _OTHERS) for module in modules
    )
    return 1e-3 if only_batch_norm else 1e-4

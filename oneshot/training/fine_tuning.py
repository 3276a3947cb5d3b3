"""How fast a network may learn that is trained already."""

from __future__ import annotations

import statistics

from timm.layers import RmsNorm, RmsNorm2d
from torch import nn

_OTHERS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, RmsNorm, RmsNorm2d)
_BATCH_NORM = nn.modules.batchnorm._BatchNorm
_SHARE = 0.01  # of a weight, in one step


def fine_tuning_rate(network: nn.Module) -> float:
    """A peak learning rate of AdamW for a network with trained weights, in batches of some 64 images, to one digit.

    It is a hundredth of what weights are, the root mean square in the median over the layers, as AdamW's steps are about as
    large as its rate: the largest relative step of Adafactor (Shazeer and Stern, ICML 2018, section 8). That is 0.001 for
    EfficientNet-Lite0, which was chosen on held-out images. But at most 0.001, and 0.0001 where not BatchNorm alone normalises:
    Swin Transformers (configs of 22kto1k) and ConvNeXt (TRAINING.md) were fine-tuned by their authors at 2e-5 and 5e-5, in larger
    batches and for longer.
    """
    modules = list(network.modules())
    only_batch_norm = any(isinstance(module, _BATCH_NORM) for module in modules) and not any(
        isinstance(module, _OTHERS) for module in modules
    )
    sizes = [float(weight.detach().square().mean().sqrt()) for weight in network.parameters() if weight.dim() > 1]
    trained = [size for size in sizes if size > 0]  # a classifier may start at zero
    most = 1e-3 if only_batch_norm else 1e-4
    return float(f"{min(most, _SHARE * statistics.median(trained)):.0e}") if trained else most

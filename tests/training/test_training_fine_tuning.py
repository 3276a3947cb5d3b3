"""The learning rate of networks that begin trained."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from oneshot.training import fine_tuning_rate


@pytest.mark.parametrize(
    ("model", "rate"),
    [
        ("tf_efficientnet_lite0", 1e-3),
        ("resnet18", 1e-3),
        ("mobilenetv4_conv_small", 1e-3),
        ("deit_tiny_patch16_224", 1e-4),
        ("swin_tiny_patch4_window7_224", 1e-4),
        ("convnext_atto", 1e-4),
        ("poolformer_s12", 1e-4),  # group normalisation
        ("mobilevit_xxs", 1e-4),  # BatchNorm and LayerNorm
        ("vgg11", 1e-4),  # none at all
    ],
)
def test_a_rate_follows_from_what_normalises(model: str, rate: float) -> None:
    with torch.device("meta"):
        assert fine_tuning_rate(timm.create_model(model)) == rate


def test_root_mean_square_normalisation_is_not_batch_norm() -> None:
    for other in (nn.RMSNorm(4), timm.layers.RmsNorm(4), timm.layers.RmsNorm2d(4)):
        assert fine_tuning_rate(nn.Sequential(nn.BatchNorm2d(4), other)) == 1e-4

"""The learning rate of networks that begin trained."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from oneshot.training import fine_tuning_rate


@pytest.mark.parametrize(
    ("model", "most"),
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
def test_a_rate_follows_from_the_weights_and_what_normalises(model: str, most: float) -> None:
    network = timm.create_model(model, num_classes=3)
    found = []
    for size in (1.0, 0.05, 0.004):
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=size)
        nn.init.zeros_(network.get_classifier().weight)
        found.append(fine_tuning_rate(network))
    assert found == [most, min(most, 5e-4), 4e-5]


def test_the_rate_that_was_chosen_on_held_out_images(shared_data: Path) -> None:
    network = timm.create_model("tf_efficientnet_lite0")
    file = shared_data / "pretrained" / "tf_efficientnet_lite0.pt"
    network.load_state_dict(torch.load(file, weights_only=True))
    assert fine_tuning_rate(network) == 1e-3


def test_root_mean_square_normalisation_is_not_batch_norm() -> None:
    wide = nn.Conv2d(3, 4, 1)
    nn.init.ones_(wide.weight)
    assert fine_tuning_rate(nn.Sequential(wide, nn.BatchNorm2d(4))) == 1e-3
    for other in (nn.RMSNorm(4), timm.layers.RmsNorm(4), timm.layers.RmsNorm2d(4)):
        assert fine_tuning_rate(nn.Sequential(wide, nn.BatchNorm2d(4), other)) == 1e-4
    nn.init.zeros_(wide.weight)
    assert fine_tuning_rate(nn.Sequential(wide, nn.BatchNorm2d(4))) == 1e-3  # nothing is known

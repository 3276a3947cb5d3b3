"""Fused optimizer steps and clipping give what torch's plain ones do, also where tensors are used only now and then."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from training_runs import make_settings, make_trainer

from oneshot.training.optimization import clip_gradients, make_optimizer

CPU = torch.device("cpu")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1), nn.Linear(2, 2))
    return layers.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adamw", "adam", "nadam"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["other layout", "same layout"])
def test_steps_are_those_of_the_plain_optimizer(optimizer: str, layout: torch.memory_format) -> None:
    """Tensors without a gradient in some steps, and gradients and state that lie otherwise in memory than the weights."""
    from timm.optim import create_optimizer_v2

    found = []
    for is_ours in (True, False):
        module = network()
        settings = make_settings(optimizer=optimizer, weight_decay=0.1)
        if is_ours:
            stepping = make_optimizer(module, settings, 0.1, CPU)
            assert bool(stepping.param_groups[0].get("fused")) is (optimizer != "nadam")
        else:
            stepping = create_optimizer_v2(module, opt=optimizer, lr=0.1, weight_decay=0.1, momentum=0.9)
        generator = torch.Generator().manual_seed(0)
        for step in range(4):
            if step == 2:  # a state that lies otherwise, too
                state = stepping.state_dict()
                for values in state["state"].values():
                    for name, value in values.items():
                        if value.ndim == 4:
                            values[name] = value.contiguous(memory_format=layout)
                stepping.load_state_dict(state)
            for index, parameter in enumerate(module.parameters()):
                gradient = torch.randn(parameter.shape, generator=generator)
                if (step + index) % 3:
                    is_image = gradient.ndim == 4
                    parameter.grad = gradient.contiguous(memory_format=layout) if is_image else gradient
            stepping.step()
            stepping.zero_grad()
        found.append(list(module.parameters()))
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("largest", [0.1, 100.0])
@pytest.mark.parametrize("mode", ["norm", "value", "agc"])
def test_gradients_are_clipped_as_by_timm(largest: float, mode: str) -> None:
    from timm.utils import dispatch_clip_grad

    found = []
    for is_ours in (True, False):
        parameters = list(network().parameters())
        for parameter in parameters[1:]:  # the first has none
            parameter.grad = torch.ones_like(parameter)
        if is_ours:
            clip_gradients(parameters, make_settings(clip_grad=largest, clip_mode=mode))
        else:
            dispatch_clip_grad(parameters, largest, mode=mode)
        found.append([parameter.grad for parameter in parameters[1:]])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*found, strict=True))


@pytest.mark.parametrize("channels_last", [True, False])
def test_weights_lie_as_the_images_do(tmp_path: Path, channels_last: bool) -> None:
    trainer = make_trainer(tmp_path, channels_last=channels_last)
    weight = next(weight for weight in trainer.task.module.parameters() if weight.ndim == 4 and min(weight.shape) > 1)
    images = trainer.prepare(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), 8)
    for tensor in (weight, images):
        assert tensor.is_contiguous(memory_format=torch.channels_last) is channels_last

"""The training loop at its edges: images that do not suffice, the shortest runs, what a step moves, what the log says."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from toy_spaces import ConvNorm, ToySpace, make_data, make_images
from training_runs import RecordedImages, Scripted, make_trainer, values_of

from oneshot.arch import Arch
from oneshot.spaces import Make

SPACE = ToySpace()
LARGE = SPACE.arch({"resolution": 8, "width": 8, "depth": 2, "op": "conv3", "kernel": 3})
SMALL = SPACE.arch({"resolution": 8, "width": 4, "depth": 1, "op": "conv1"})

# Images that do not suffice ------------------------------------------------------------------------------------------


class FewerImages(RecordedImages):
    """Leaves out every third batch that is asked for."""

    def batches(self, index_batches: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        for number, batch in enumerate(super().batches(index_batches), 1):
            if number % 3:
                yield batch


def test_a_set_that_gives_fewer_batches_than_steps_ends_the_run(tmp_path: Path) -> None:
    data = replace(make_data(), train=FewerImages(make_images(96, seed=1)))
    with pytest.raises(ValueError, match="the training images gave 4 batches of an epoch where 6 were asked for"):
        make_trainer(tmp_path, data=data).run()


class PooledSpace(ToySpace):
    """With a norm behind the pooling, which sees one value of each channel of an image."""

    def build(self, arch: Arch, make: Make) -> nn.Module:
        width = arch.integer("width")
        head = [make("norm", nn.BatchNorm1d, width), make("classifier", nn.Linear, width, self.num_classes)]
        return nn.Sequential(
            make("stem", ConvNorm, 3, width, 3, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(1), *head
        )


@pytest.mark.parametrize(("num_images", "batch_size"), [(40, 1), (1, 64)])
def test_batches_too_small_for_the_network_name_their_setting(tmp_path: Path, num_images: int, batch_size: int) -> None:
    data = make_data(num_images)
    with pytest.raises(
        ValueError, match=rf"trainer.batch_size={batch_size} makes batches of 1 of the {num_images} training"
    ):
        make_trainer(tmp_path / "pooled", PooledSpace(), data=data, batch_size=batch_size).run()
    make_trainer(tmp_path / "plain", data=data, batch_size=batch_size, lr=0.001, epochs=1).run()


# What a step moves ---------------------------------------------------------------------------------------------------


def test_a_step_moves_the_slices_that_it_leaves_out_but_no_tensor_that_no_path_uses(tmp_path: Path) -> None:
    """Gradients have the size of the tensors in the bank: momentum and weight decay reach the slices that only others use."""
    before: list[dict[str, Tensor]] = []

    def watch(step: int) -> None:
        before.append({name: tensor.detach().clone() for name, tensor in trainer.task.module.named_parameters()})

    def sample(step: int) -> list[Arch]:
        return [LARGE if step == 0 else SMALL]

    trainer = make_trainer(tmp_path, sampler=lambda space: Scripted(space, sample, watch), warmup_epochs=0.0)
    trainer.run()
    wide = "bank.stem.conv.weight"
    assert not torch.equal(before[2][wide][4:], before[1][wide][4:])
    for name in before[0]:
        if name.startswith(("bank.block.", "bank.op.conv3.")):
            assert not torch.equal(before[1][name], before[0][name])
            assert torch.equal(before[-1][name], before[1][name])


def test_the_log_tells_how_far_a_run_is_at_every_epoch(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        make_trainer(tmp_path, epochs=3, eval_every=0).run()
    lines = [message for message in caplog.messages if message.startswith("train supernet: ")]
    for epoch, line in enumerate(lines, 1):
        assert re.fullmatch(
            rf"train supernet: {6 * epoch} of 18 steps, epoch {epoch} of 3, loss \d\.\d{{3}}, accuracy \d\.\d{{3}}, "
            r"\d+ images/s, \d\d:\d\d left",
            line,
        )
    assert len(lines) == 3


@pytest.mark.parametrize(("epochs", "num_images"), [(1, 16), (1, 17), (2, 16)])
def test_the_shortest_runs_pass_without_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, epochs: int, num_images: int
) -> None:
    """Of a cosine of one step timm would say that it has no effect; the rate is the peak all the same."""
    make_trainer(tmp_path, data=make_data(num_images), epochs=epochs, log_every=1, warmup_epochs=0.0).run()
    assert not caplog.records
    assert values_of(tmp_path, "lr/lr")[0] == pytest.approx(0.2)

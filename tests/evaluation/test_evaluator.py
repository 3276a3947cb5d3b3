"""Scores of subnets with inherited weights."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from toy_spaces import ToySpace, Unreadable, make_data, make_images
from training_runs import CPU, RecordedImages, copy_state, differences, make_trainer

from oneshot.data import Augmentation, ImageData, TensorImages, prepare
from oneshot.evaluation import Batches, Evaluator, ScoreSettings, evaluate
from oneshot.supernet import Supernet


@pytest.fixture(scope="module")
def data() -> ImageData:
    return make_data(num_held_out=200, augmentation=Augmentation())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, data: ImageData) -> Supernet:
    folder = tmp_path_factory.mktemp("supernet")
    space = ToySpace(resolutions=(6, 8), dropout=0.1)
    supernet = make_trainer(folder, space, data=data, epochs=10).run()
    assert isinstance(supernet, Supernet)
    return supernet


def make_evaluator(supernet: Supernet, data: ImageData, **options: Any) -> Evaluator:
    seed = options.pop("seed", 0)
    return Evaluator(supernet, data, ScoreSettings(**options), device=CPU, seed=seed)


# Scores --------------------------------------------------------------------------------------------------------------


class Constant(nn.Module):
    """Says class 1 with given odds, whatever the image."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)
        self.dropout = nn.Dropout(0.9)

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.dropout(self.logits.expand(len(images), -1))
        return result


def test_accuracy_and_loss_of_known_logits() -> None:
    labels = torch.tensor([1, 1, 0, 1, 2])
    module = Constant([0.0, torch.log(torch.tensor(2.0)).item(), 0.0])
    batches = ((torch.zeros(len(part), 3, 8, 8), part) for part in labels.split(2))
    score = evaluate(module, batches)
    assert score.accuracy == 3 / 5
    assert score.loss == pytest.approx((3 * torch.log(torch.tensor(2.0)) + 2 * torch.log(torch.tensor(4.0))).item() / 5)
    assert score.num_images == 5
    assert module.training


def test_the_mode_is_restored_after_an_error() -> None:
    def fail() -> Iterator[tuple[Tensor, Tensor]]:
        yield torch.zeros(2, 3, 8, 8), torch.zeros(2, dtype=torch.int64)
        raise OSError("a disk fails")

    for training in (True, False):
        module = Constant([0.0, 1.0]).train(training)
        with pytest.raises(OSError, match="a disk fails"):
            evaluate(module, fail())
        assert module.training is training


def test_the_size_of_the_batches_makes_no_difference(trained: Supernet, data: ImageData) -> None:
    scores = [make_evaluator(trained, data, batch_size=size)(trained.space.largest) for size in (1, 7, 200)]
    assert len({score.accuracy for score in scores}) == 1
    assert scores[0].loss == pytest.approx(scores[2].loss, rel=1e-5)
    assert scores[1].num_images == 200


def test_a_score_against_the_steps_written_out(trained: Supernet, data: ImageData) -> None:
    """Extract, measure statistics on all training images in one batch, classify the held-out images one by one."""
    arch = trained.space.smallest
    score = make_evaluator(trained, data)(arch)
    module = trained.extract(arch).train()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
            layer.reset_running_stats()
        layer.training = isinstance(layer, nn.BatchNorm2d)
    with torch.no_grad():
        module(prepare(data.train.images, 6, data.mean, data.std))  # type: ignore[attr-defined]
        logits = module.eval()(prepare(data.held_out.images, 6, data.mean, data.std))  # type: ignore[attr-defined]
    assert score.accuracy == (logits.argmax(1) == data.held_out.labels).double().mean().item()
    assert score.loss == pytest.approx(nn.functional.cross_entropy(logits, data.held_out.labels).item(), rel=1e-4)


def test_recalibration_is_what_makes_scores_good(trained: Supernet, data: ImageData) -> None:
    evaluator = make_evaluator(trained, data)
    with_it, without = [], []
    for arch in random.Random(0).sample(list(trained.space.enumerate()), 12):
        resolution = trained.space.input_shape(arch)[-1]
        with_it.append(evaluator(arch).accuracy)
        without.append(evaluate(trained.extract(arch), evaluator.held_out.at(resolution)).accuracy)
    assert sum(with_it) / 12 > sum(without) / 12 + 0.05
    assert min(with_it) > 0.4


def test_the_supernet_is_never_changed(trained: Supernet, data: ImageData) -> None:
    for mode in (True, False):
        trained.train(mode)
        before = copy_state(trained)
        evaluator = make_evaluator(trained, data)
        for arch in (trained.space.largest, trained.space.smallest):
            evaluator(arch)
        assert not differences(before, copy_state(trained))
        assert trained.training is mode
        assert all(parameter.grad is None for parameter in trained.parameters())
    trained.eval()


def test_scores_do_not_depend_on_what_was_scored_before(trained: Supernet, data: ImageData) -> None:
    archs = list(trained.space.enumerate())[:6]
    evaluator = make_evaluator(trained, data)
    forward = [evaluator(arch) for arch in archs]
    assert [make_evaluator(trained, data)(arch) for arch in reversed(archs)] == forward[::-1]


def test_an_architecture_of_another_space(trained: Supernet, data: ImageData) -> None:
    with pytest.raises(ValueError, match=r"choice 'resolution' cannot be 16; its options are \[6, 8\]"):
        make_evaluator(trained, data)(ToySpace(resolutions=(16,)).largest)


# Images --------------------------------------------------------------------------------------------------------------


def test_the_test_set_is_never_read(trained: Supernet, data: ImageData) -> None:
    closed = replace(data, test=Unreadable(50, 8))
    with pytest.raises(AssertionError, match="must not be read"):
        make_evaluator(trained, replace(data, held_out=Unreadable(50, 8)))(trained.space.largest)
    assert make_evaluator(trained, closed)(trained.space.largest) == make_evaluator(trained, data)(
        trained.space.largest
    )


def test_statistics_come_from_training_images_and_scores_from_held_out_ones(trained: Supernet, data: ImageData) -> None:
    """With other held-out labels the loss changes and the statistics do not; the other way round for training images."""
    arch = trained.space.largest
    relabelled = replace(data, held_out=TensorImages(data.held_out.images, data.held_out.labels.roll(1)))  # type: ignore[attr-defined]
    evaluator, other = make_evaluator(trained, data), make_evaluator(trained, relabelled)
    assert not differences(copy_state(evaluator.subnet(arch)), copy_state(other.subnet(arch)))
    assert evaluator(arch).loss != other(arch).loss
    brighter = replace(data, train=TensorImages(data.train.images // 2 + 100, data.train.labels))  # type: ignore[attr-defined]
    assert differences(copy_state(evaluator.subnet(arch)), copy_state(make_evaluator(trained, brighter).subnet(arch)))


def test_calibration_images_are_drawn_by_the_seed(trained: Supernet, data: ImageData) -> None:
    def drawn(**options: int) -> tuple[str, ...]:
        return make_evaluator(trained, data, **options).calibration.images.keys

    assert len(set(drawn(calibration_images=32))) == 32
    assert drawn(calibration_images=32) == drawn(calibration_images=32)
    assert drawn(calibration_images=32, seed=1) != drawn(calibration_images=32)
    assert len(drawn(calibration_images=10**6)) == len(data.train)
    with pytest.raises(ValueError, match="calibration_images is at least 2, not 0"):
        make_evaluator(trained, data, calibration_images=0)


def test_fewer_held_out_images_are_drawn_from_all_classes(trained: Supernet, data: ImageData) -> None:
    """Sets from folders are sorted by class: their first images would be of one class."""
    order = data.held_out.labels.argsort(stable=True)
    sorted_by_class = replace(data, held_out=data.held_out.subset(order))
    evaluator = make_evaluator(trained, sorted_by_class, max_images=40)
    assert len(evaluator.held_out.images) == 40
    assert set(evaluator.held_out.images.labels.tolist()) == {0, 1, 2, 3}
    assert evaluator(trained.space.largest).num_images == 40
    again = make_evaluator(trained, sorted_by_class, max_images=40)
    assert again.held_out.images.keys == evaluator.held_out.images.keys
    assert make_evaluator(trained, data, max_images=10**6)(trained.space.largest).num_images == 200


def test_prepared_images_are_kept_where_they_fit(data: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    images = RecordedImages(make_images(30, seed=4))
    batches = Batches(images, data, 8, CPU)
    first = list(batches.at(8))
    assert [len(labels) for _, labels in first] == [8, 8, 8, 6]
    assert torch.equal(torch.cat([labels for _, labels in first]), images.labels)
    expected = prepare(images.images, 8, data.mean, data.std)
    assert torch.equal(torch.cat([prepared for prepared, _ in first]), expected)
    assert first[0][0].is_contiguous(memory_format=torch.channels_last)
    list(batches.at(8))
    assert len(images.asked) == 4
    assert next(batches.at(6))[0].shape == (8, 3, 6, 6)
    monkeypatch.setattr("oneshot.evaluation.batches._PREPARED_BYTES", 100)
    few = Batches(images, data, 8, CPU)
    images.asked.clear()
    for _ in range(2):
        list(few.at(8))
    assert len(images.asked) == 8


def test_an_evaluation_that_stops_halfway_keeps_no_half_set(data: ImageData) -> None:
    batches = Batches(make_images(30, seed=4), data, 8, CPU)
    next(batches.at(8))
    assert sum(len(labels) for _, labels in batches.at(8)) == 30


def test_the_layout_of_the_images(data: ImageData) -> None:
    batches = Batches(make_images(4, seed=4), data, 2, CPU, torch.contiguous_format)
    assert next(batches.at(8))[0].is_contiguous()


def test_weights_that_only_a_file_has(tmp_path: Path, data: ImageData) -> None:
    """An evaluator takes a supernet as it is: with an average of the weights, the average's."""
    trainer = make_trainer(tmp_path, data=data, ema_decay=0.9)
    average = trainer.run()
    assert isinstance(average, Supernet)
    assert isinstance(trainer.task.module, Supernet)
    arch = average.space.largest
    assert make_evaluator(average, data)(arch).loss != make_evaluator(trainer.task.module, data)(arch).loss


def test_an_overflow_in_training_costs_no_score() -> None:
    """The running statistics in the bank stay infinite for good; scores are of statistics that are measured."""
    small = make_data(32, 24, 2)
    supernet = Supernet(ToySpace())
    archs = list(supernet.space.enumerate())
    evaluator = make_evaluator(supernet, small)
    expected = evaluator.score_all(archs)
    for arch in archs:
        supernet.train()(torch.full((2, 3, 8, 8), float("inf")), arch)
    statistics = [buffer for name, buffer in supernet.named_buffers() if "running" in name]
    assert not any(bool(buffer.isfinite().all()) for buffer in statistics)
    assert evaluator.score_all(archs) == expected
    assert [evaluator(arch) for arch in archs] == expected


def test_a_network_that_overflows_has_no_score(data: ImageData) -> None:
    """Not even an accuracy: the first class is what is left of logits that are no numbers."""
    batches = [(torch.full((4, 3, 8, 8), value), torch.zeros(4, dtype=torch.int64)) for value in (0.0, float("nan"))]
    score = evaluate(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1)), iter(batches))
    assert math.isnan(score.accuracy)
    assert math.isnan(score.loss)


def test_what_is_kept_of_several_sizes_fits_together(data: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    images = RecordedImages(make_images(30, seed=4))
    monkeypatch.setattr("oneshot.evaluation.batches._PREPARED_BYTES", 30 * 12 * 8**2)
    batches = Batches(images, data, 30, CPU)
    for size in (8, 6, 8, 6, 6):
        list(batches.at(size))
    assert len(images.asked) == 4  # the first size is kept; the second would not fit beside it


def test_images_from_files_that_are_too_many_prepared_are_decoded_once(
    data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their pixels are kept, a quarter as large."""

    class Decoded(Unreadable):
        def batches(self, index_batches: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
            asked.append(len(index_batches))
            return stored.batches(index_batches)

    stored, asked = make_images(30, seed=4), list[int]()
    monkeypatch.setattr("oneshot.evaluation.batches._PREPARED_BYTES", 0)
    batches = Batches(Decoded(30, 8), data, 8, CPU)
    for size in (8, 6, 8):
        found = torch.cat([images for images, _ in batches.at(size)])
        assert torch.equal(found, prepare(stored.images, size, data.mean, data.std))
    assert asked == [4]
    monkeypatch.setattr("oneshot.evaluation.batches._DECODED_BYTES", 30 * 3 * 8**2 - 1)
    batches = Batches(Decoded(30, 8), data, 8, CPU)
    for _ in range(2):
        list(batches.at(8))
    assert asked == [4, 4, 4]

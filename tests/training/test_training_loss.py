"""The loss of a step and its gradients, against formulas written out."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor, nn
from toy_spaces import ToySpace, make_images
from training_runs import Scripted

from oneshot.arch import Arch
from oneshot.processes import Share
from oneshot.samplers import SandwichSampler
from oneshot.supernet import Supernet
from oneshot.training import NonFiniteLossError, SubnetTask, SupernetTask


class PlainEngine:
    """What the trainer does for a task, without a trainer; remembers the resolutions asked for."""

    share = Share(0, 1, 1)

    def __init__(self) -> None:
        self.prepared: list[int] = []

    def prepare(self, images: Tensor, resolution: int) -> Tensor:
        self.prepared.append(resolution)
        return nn.functional.interpolate(images.double() / 128 - 1, resolution)

    def precision(self) -> AbstractContextManager[object]:
        return contextlib.nullcontext()

    def backward(self, loss: Tensor) -> None:
        loss.backward()


def make_supernet(resolutions: Sequence[int] = (8,)) -> Supernet:
    torch.manual_seed(0)
    return Supernet(ToySpace(resolutions=resolutions)).double()


def smoothed(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy against (1 - smoothing) of the label and smoothing / classes of every class."""
    logs = logits - logits.exp().sum(1, keepdim=True).log()
    return -((1 - smoothing) * logs[range(len(labels)), labels] + smoothing * logs.mean(1)).mean()


def check_gradients(found: nn.Module, expected: nn.Module) -> None:
    wanted = dict(expected.named_parameters())
    reached = 0
    for name, parameter in found.named_parameters():
        gradient = wanted[name].grad
        assert (parameter.grad is None) == (gradient is None), name
        if parameter.grad is not None and gradient is not None:
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-9, atol=1e-12)
            reached += bool(parameter.grad.abs().max() > 0)
    assert reached >= 5


IMAGES = make_images(12, seed=5)


def three_archs(space: ToySpace) -> list[Arch]:
    middle = space.arch({"resolution": space.max_resolution, "width": 4, "depth": 2, "op": "conv1", "kernel": 3})
    return [space.largest, space.smallest, middle]


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
def test_gradients_of_the_paths_add_up(smoothing: float) -> None:
    supernet = make_supernet()
    archs = three_archs(supernet.space)
    reference = copy.deepcopy(supernet)
    result = SupernetTask(supernet, Scripted(supernet.space, lambda step: archs), smoothing).step(
        IMAGES.images, IMAGES.labels, 0, PlainEngine()
    )
    inputs = PlainEngine().prepare(IMAGES.images, 8)
    losses = [smoothed(reference(inputs, arch), IMAGES.labels, smoothing) for arch in archs]
    sum(losses).backward()
    torch.testing.assert_close(result.loss, torch.stack(losses).mean().detach())
    check_gradients(supernet, reference)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_students_learn_from_the_first_network_only(smoothing: float) -> None:
    """In-place distillation (BigNAS, section 3.1): labels for the first, its probabilities, unsmoothed, for the others."""
    supernet = make_supernet()
    archs = three_archs(supernet.space)
    reference = copy.deepcopy(supernet)
    sampler = Scripted(supernet.space, lambda step: archs, teacher_first=True)
    result = SupernetTask(supernet, sampler, smoothing).step(IMAGES.images, IMAGES.labels, 0, PlainEngine())
    inputs = PlainEngine().prepare(IMAGES.images, 8)
    teacher = reference(inputs, archs[0])
    losses = [smoothed(teacher, IMAGES.labels, smoothing)]
    shares = teacher.detach().exp() / teacher.detach().exp().sum(1, keepdim=True)
    for arch in archs[1:]:
        logits = reference(inputs, arch)
        losses.append(-(shares * (logits - logits.exp().sum(1, keepdim=True).log())).sum(1).mean())
    sum(losses).backward()
    torch.testing.assert_close(result.loss, torch.stack(losses).mean().detach(), rtol=1e-5, atol=1e-6)
    for name, parameter in supernet.named_parameters():
        gradient = dict(reference.named_parameters())[name].grad
        assert parameter.grad is not None
        assert gradient is not None
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-7)


def test_without_distillation_every_network_learns_from_the_labels() -> None:
    supernet = make_supernet()
    reference = copy.deepcopy(supernet)
    sampler = SandwichSampler(supernet.space, num_random=1, distill=False)
    SupernetTask(supernet, sampler).step(IMAGES.images, IMAGES.labels, 3, PlainEngine())
    inputs = PlainEngine().prepare(IMAGES.images, 8)
    sum(smoothed(reference(inputs, arch), IMAGES.labels, 0.0) for arch in sampler.sample(3)).backward()
    check_gradients(supernet, reference)


def test_the_accuracy_is_that_of_the_first_network() -> None:
    supernet = make_supernet()
    archs = three_archs(supernet.space)
    reference = copy.deepcopy(supernet)
    task = SupernetTask(supernet, Scripted(supernet.space, lambda step: archs))
    result = task.step(IMAGES.images, IMAGES.labels, 0, PlainEngine())
    predicted = reference(PlainEngine().prepare(IMAGES.images, 8), archs[0]).argmax(1)
    assert result.accuracy == (predicted == IMAGES.labels).float().mean()


def test_images_are_prepared_once_for_each_resolution() -> None:
    supernet = make_supernet((6, 8))
    large, small = ({"resolution": size, "width": 8, "depth": 1, "op": "conv1"} for size in (8, 6))
    archs = [supernet.space.arch(values) for values in (large, small, large | {"width": 4}, small | {"op": "conv3"})]
    engine = PlainEngine()
    SupernetTask(supernet, Scripted(supernet.space, lambda step: archs)).step(IMAGES.images, IMAGES.labels, 0, engine)
    assert engine.prepared == [8, 6]


# Subnets -------------------------------------------------------------------------------------------------------------


def make_subnet_task(**options: object) -> SubnetTask:
    space = ToySpace()
    torch.manual_seed(0)
    module = space.network(space.largest).double()
    return SubnetTask(module, space.largest, 8, **options)  # type: ignore[arg-type]


def test_subnet_loss() -> None:
    task = make_subnet_task(label_smoothing=0.2)
    reference = copy.deepcopy(task.module)
    result = task.step(IMAGES.images, IMAGES.labels, 0, PlainEngine())
    expected = smoothed(reference(PlainEngine().prepare(IMAGES.images, 8)), IMAGES.labels, 0.2)
    expected.backward()
    torch.testing.assert_close(result.loss, expected.detach())
    check_gradients(task.module, reference)


@pytest.mark.parametrize("number", [12, 11, 2, 1])
def test_mixed_images_and_shares_of_classes(number: int) -> None:
    """timm's Mixup takes an even number of images: the last of an odd batch is left out, a single one learnt as it is."""
    seen: list[int] = []

    def mixup(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(len(images))
        shares = nn.functional.one_hot(labels, 4).double()
        return (images + images.flip(0)) / 2, 0.9 * (shares + shares.flip(0)) / 2 + 0.1 / 4

    task = make_subnet_task(label_smoothing=0.1, mixup=mixup)
    reference = copy.deepcopy(task.module)
    images, labels = IMAGES.images[:number], IMAGES.labels[:number]
    result = task.step(images, labels, 0, PlainEngine())
    inputs = PlainEngine().prepare(images, 8)
    even = number // 2 * 2
    if number > 1:
        inputs, targets = mixup(inputs[:even], labels[:even])
        assert seen == [even, even]
    else:
        targets = nn.functional.one_hot(labels, 4).double()
        assert not seen
    logits = reference(inputs)
    expected = -(targets * logits.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(result.loss, expected.detach())


def test_a_further_augmentation_sees_uint8_images() -> None:
    def transform(images: Tensor, share: Share, step: int) -> Tensor:
        assert images.dtype == torch.uint8
        return 255 - images

    plain, transformed = make_subnet_task(), make_subnet_task(transform=transform)
    inverted = plain.step(255 - IMAGES.images, IMAGES.labels, 0, PlainEngine())
    assert transformed.step(IMAGES.images, IMAGES.labels, 0, PlainEngine()).loss == inverted.loss


# Losses that are not numbers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_names_step_and_architecture(value: float) -> None:
    supernet = make_supernet()
    archs = three_archs(supernet.space)
    with torch.no_grad():
        supernet.bank.get_submodule("block.conv").weight.fill_(value)  # on the path of the first and the third
    task = SupernetTask(supernet, Scripted(supernet.space, lambda step: [archs[1], archs[2]]))
    with pytest.raises(NonFiniteLossError) as raised:
        task.step(IMAGES.images, IMAGES.labels, 41, PlainEngine())
    assert "at step 41" in str(raised.value)
    assert archs[2].to_json() in str(raised.value)
    assert "trainer.lr" in str(raised.value)


def test_a_subnets_loss_that_is_no_number() -> None:
    task = make_subnet_task(transform=lambda images, share, step: images)
    with torch.no_grad():
        task.module.get_submodule("classifier").weight.fill_(float("nan"))
    with pytest.raises(NonFiniteLossError, match=r"at step 7 for architecture .*conv3"):
        task.step(IMAGES.images, IMAGES.labels, 7, PlainEngine())

"""The distillation losses against their definitions, and who teaches whom in a step."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from test_training_loss import IMAGES, PlainEngine, check_gradients, make_supernet, three_archs
from torch import Tensor, nn
from toy_spaces import ToySpace
from training_runs import Scripted

from oneshot.arch import Arch
from oneshot.samplers import SandwichSampler, UniformSampler
from oneshot.supernet import Supernet
from oneshot.training import Distillation, SubnetTask, SupernetTask

torch.manual_seed(0)
STUDENT, TEACHER = torch.randn(7, 5), 2 * torch.randn(7, 5)
NO_LABELS = torch.zeros(())


def gradient(loss: Tensor, student: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(loss, student)
    return found


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("kind", ["cross_entropy", "kl"])
def test_soft_losses_are_their_formulas(kind: str, temperature: float) -> None:
    student = STUDENT.clone().requires_grad_()
    found = Distillation(kind=kind, temperature=temperature).soft_loss(student, TEACHER)
    target, logs = (TEACHER / temperature).softmax(1), (student / temperature).log_softmax(1)
    entropy = -(target * target.log()).sum(1).mean()
    expected = temperature**2 * (-(target * logs).sum(1).mean() - (entropy if kind == "kl" else 0))
    torch.testing.assert_close(found, expected)
    expected_gradient = temperature * ((student / temperature).softmax(1) - target) / len(student)
    torch.testing.assert_close(gradient(found, student), expected_gradient.detach())


def alpha_divergence(student: Tensor, teacher: Tensor, alpha: float) -> Tensor:
    """Of each image, as defined: sum of q ((p / q)^alpha - 1) / (alpha (alpha - 1)) and its limits at 0 and 1."""
    p, q = teacher.softmax(1), student.softmax(1)
    if alpha == 0:
        return (q * (q / p).log()).sum(1)
    if alpha == 1:
        return (p * (p / q).log()).sum(1)
    return (q * ((p / q) ** alpha - 1)).sum(1) / (alpha * (alpha - 1))


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (-0.5, 0.5), (0.0, 2.0)])
def test_the_adaptive_loss_has_the_gradient_of_the_larger_divergence(low: float, high: float) -> None:
    """Without clipping the surrogate's gradient is exactly that of the divergence."""
    near = STUDENT + 0.3 * TEACHER
    student = STUDENT.clone().requires_grad_()
    loss = Distillation(kind="alpha", alpha_min=low, alpha_max=high, alpha_clip=1e9).soft_loss(student, near)
    reference = STUDENT.clone().requires_grad_()
    both = [alpha_divergence(reference, near, alpha) for alpha in (low, high)]
    assert 0 < (both[0] > both[1]).sum() < len(STUDENT)  # the choice is made for each image
    expected = torch.maximum(*both).mean()
    torch.testing.assert_close(gradient(loss, student), gradient(expected, reference), rtol=1e-4, atol=1e-6)


def test_clipping_bounds_the_gradient() -> None:
    """A student that is sure of a class that the teacher finds impossible has a ratio of probabilities without bound."""
    teacher = torch.tensor([[8.0, 0.0]])

    def largest(clip: float) -> float:
        student = torch.tensor([[0.0, 2.0]], requires_grad=True)
        loss = Distillation(kind="alpha", alpha_min=-2.0, alpha_max=-1.0, alpha_clip=clip).soft_loss(student, teacher)
        return float(gradient(loss, student).abs().max())

    assert largest(5.0) <= 5.0
    assert largest(1e12) > 100


def test_the_parts_are_weighted() -> None:
    labels = torch.tensor(0.7)
    soft = Distillation().soft_loss(STUDENT, TEACHER)
    torch.testing.assert_close(
        Distillation(ratio=0.5, label_weight=2.0).loss(STUDENT, TEACHER, labels), 0.5 * soft + 1.4
    )
    assert Distillation(ratio=0.0, label_weight=1.0).loss(STUDENT, TEACHER, labels) == labels
    torch.testing.assert_close(Distillation().loss(STUDENT, TEACHER, labels), soft)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "kll"}, "distillation.kind is one of cross_entropy, kl, alpha, not 'kll'; did you mean 'kl'"),
        ({"ratio": -1.0}, "distillation.ratio is at least 0, not -1.0"),
        ({"ratio": 0.0}, "both 0: nothing would be learned"),
        ({"temperature": 0.0}, "distillation.temperature is a finite number above 0, not 0.0"),
        ({"alpha_clip": math.inf}, "distillation.alpha_clip"),
        ({"alpha_min": 1.0}, "distillation.alpha_min 1.0 is not below alpha_max 1.0"),
    ],
)
def test_it_refuses(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Distillation(**changes)  # type: ignore[arg-type]


# In a step -----------------------------------------------------------------------------------------------------------


class Proposing(Scripted):
    """Proposes two architectures for the second place of a step."""

    def proposals(self, step: int) -> list[list[Arch]]:
        first, *rest = self.sample(step)
        return [[first], rest]


def test_an_external_teacher_teaches_every_network_beside_the_labels() -> None:
    supernet = make_supernet()
    teacher = make_supernet().extract(supernet.space.smallest)
    for parameter in teacher.parameters():
        parameter.data.mul_(1.5)
    archs = three_archs(supernet.space)
    reference, kept = copy.deepcopy(supernet), copy.deepcopy(teacher)
    distillation = Distillation(ratio=0.5, label_weight=1.0)
    task = SupernetTask(supernet, Scripted(supernet.space, lambda step: archs), 0.1, distillation, teacher)
    assert task.facts() == {"loss at the end": "the teacher's answers (weight 0.5) and the labels (weight 1)"}
    task.step(IMAGES.images, IMAGES.labels, 0, PlainEngine())
    inputs = PlainEngine().prepare(IMAGES.images, 8)
    with torch.no_grad():
        target = kept.train()(inputs).softmax(1)  # normalised with the batch, as in the published code
    total: Tensor = torch.zeros(())
    for arch in archs:
        logits = reference(inputs, arch)
        hard = nn.functional.cross_entropy(logits, IMAGES.labels, label_smoothing=0.1)
        total = total + hard - 0.5 * (target.float() * logits.float().log_softmax(1)).sum(1).mean()
    total.backward()
    wanted = dict(reference.named_parameters())
    for name, parameter in supernet.named_parameters():
        expected = wanted[name].grad
        assert (parameter.grad is None) == (expected is None)
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-6)
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_a_teacher_can_see_images_at_its_own_resolution_with_its_own_statistics() -> None:
    supernet = Supernet(ToySpace(resolutions=(6, 8))).double().train()
    small = supernet.space.arch({**supernet.space.largest, "resolution": 6})
    teacher = make_supernet().extract(ToySpace().largest).eval()
    asked: list[int] = []

    class Preparing(PlainEngine):
        def prepare(self, images: Tensor, resolution: int) -> Tensor:
            asked.append(resolution)
            return super().prepare(images, resolution)

    with torch.no_grad():
        target = teacher(PlainEngine().prepare(IMAGES.images, 8)).float().softmax(1)
    reference = copy.deepcopy(supernet)
    sampler = Scripted(supernet.space, lambda step: [small, small])
    task = SupernetTask(supernet, sampler, 0.0, Distillation(full_resolution=True), teacher, teacher_resolution=8)
    task.step(IMAGES.images, IMAGES.labels, 0, Preparing())
    assert sorted(asked) == [6, 8]
    for _ in range(2):
        logits = reference(PlainEngine().prepare(IMAGES.images, 6), small)
        nn.functional.cross_entropy(logits.float(), target).backward()
    check_gradients(supernet, reference)
    with pytest.raises(ValueError, match="needs teacher_resolution"):
        SupernetTask(supernet, sampler, 0.0, Distillation(full_resolution=True), teacher)


def test_a_single_network_can_learn_from_another_one_too() -> None:
    student, teacher = make_supernet().extract(ToySpace().smallest), make_supernet().extract(ToySpace().largest)
    reference, largest = copy.deepcopy(student), copy.deepcopy(teacher)
    distillation = Distillation(label_weight=0.5)
    task = SubnetTask(student, ToySpace().smallest, 6, 0.1, teacher=(teacher, 8), distillation=distillation)
    task.step(IMAGES.images, IMAGES.labels, 0, PlainEngine())
    logits = reference(PlainEngine().prepare(IMAGES.images, 6))
    with torch.no_grad():
        target = largest.eval()(PlainEngine().prepare(IMAGES.images, 8)).float().softmax(1)
    hard = nn.functional.cross_entropy(logits, IMAGES.labels, label_smoothing=0.1)
    (0.5 * hard + nn.functional.cross_entropy(logits.float(), target)).backward()
    check_gradients(student, reference)
    with pytest.raises(ValueError, match=r"set retrain\.distill=false"):
        SubnetTask(student, ToySpace().smallest, 6, mixup=lambda x, y: (x, y), teacher=(teacher, 8))


@pytest.mark.parametrize("lowest", [True, False])
def test_of_several_proposals_that_with_the_lowest_or_highest_loss_is_trained(lowest: bool) -> None:
    supernet = make_supernet()
    archs = three_archs(supernet.space)
    inputs = PlainEngine().prepare(IMAGES.images, 8)
    with torch.no_grad():
        losses = [
            nn.functional.cross_entropy(copy.deepcopy(supernet)(inputs, arch), IMAGES.labels).item()
            for arch in archs[1:]
        ]
    chosen = archs[1:][losses.index(min(losses) if lowest else max(losses))]
    reference = copy.deepcopy(supernet)
    sampler = Proposing(supernet.space, lambda step: archs)
    sampler.prefers_low_loss = lowest
    SupernetTask(supernet, sampler).step(IMAGES.images, IMAGES.labels, 0, PlainEngine())
    SupernetTask(reference, Scripted(reference.space, lambda step: [archs[0], chosen])).step(
        IMAGES.images, IMAGES.labels, 0, PlainEngine()
    )
    check_gradients(supernet, reference)


@pytest.mark.parametrize("distill", [True, False])
def test_with_a_teacher_in_the_step_only_the_largest_network_has_dropout(
    distill: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    supernet = Supernet(ToySpace(dropout=0.9)).train()
    dropped = []

    def forward(self: nn.Dropout, x: Tensor) -> Tensor:
        dropped.append(self.training)
        return x

    monkeypatch.setattr(nn.Dropout, "forward", forward)
    sampler = SandwichSampler(supernet.space, num_random=2, distill=distill)
    engine = PlainEngine()
    engine.prepare = lambda images, resolution: images.float()  # type: ignore[method-assign]
    SupernetTask(supernet, sampler).step(IMAGES.images, IMAGES.labels, 0, engine)
    assert dropped == ([True, False, False, False] if distill else [True] * 4)
    dropped.clear()
    SupernetTask(supernet, UniformSampler(supernet.space, num_paths=2)).step(IMAGES.images, IMAGES.labels, 0, engine)
    assert dropped == [True, True]

"""Each training-free score against a straight re-derivation: numpy, counting by hand, finite differences, or a law it obeys."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from oneshot.training_free import log_rank_sum
from oneshot.training_free.az_nas import entropy, examine, trainability
from oneshot.training_free.fisher import fisher
from oneshot.training_free.grad_norm import grad_norm
from oneshot.training_free.gradients import loss_gradients
from oneshot.training_free.grasp import grasp
from oneshot.training_free.jacobian_covariance import jacobian_covariance
from oneshot.training_free.naswot import agreement, log_determinant
from oneshot.training_free.score import NotApplicable
from oneshot.training_free.snip import snip
from oneshot.training_free.swap import num_patterns, regularisation
from oneshot.training_free.synflow import synflow
from oneshot.training_free.zen_score import zen_score

LABELS = torch.tensor([0, 1, 2, 1, 0, 2])


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def convolutional(activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), activation()),
        nn.Sequential(nn.Conv2d(4, 5, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(5), activation()),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(1),
        nn.Linear(5, 3),
        activation(),
    )
    return network.double()


def patterns(network: nn.Sequential, images: Tensor) -> list[np.ndarray]:
    """``(num_images, num_units)`` of each activation."""
    found = []
    with torch.no_grad():
        x = images
        for layer in [inner for outer in network for inner in (outer if isinstance(outer, nn.Sequential) else [outer])]:
            if isinstance(layer, (nn.ReLU, nn.GELU)):
                found.append((x.flatten(1) > 0).numpy())
            x = layer(x)
    return found


@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU])
def test_naswot_counts_units_that_agree(activation: type[nn.Module]) -> None:
    network, images = convolutional(activation), draw(6, 3, 5, 5)
    signs = np.concatenate(patterns(network, images), axis=1)
    expected = [[sum(a == b for a, b in zip(one, other, strict=True)) for other in signs] for one in signs]
    found = agreement(network, images)
    np.testing.assert_array_equal(found, expected)
    assert log_determinant(found) == pytest.approx(math.log(abs(np.linalg.det(np.array(expected, dtype=float)))))
    assert log_determinant(agreement(network, images[[0, 0, 1]])) < -20  # two images that cannot be told apart


@pytest.mark.parametrize("number", [6, 70])
def test_swap_counts_different_patterns_of_units_of_maps(number: int) -> None:
    network, images = convolutional(), draw(number, 3, 5, 5)
    maps = np.concatenate(patterns(network, images)[:2], axis=1)  # the third is of vectors
    assert num_patterns(network, images) == len({tuple(unit) for unit in maps.T})


def test_the_regularisation_of_swap_is_a_bell_curve() -> None:
    assert regularisation(5.0, 5.0, 2.0) == 1.0
    assert regularisation(7.0, 5.0, 8.0) == pytest.approx(math.exp(-0.5))
    assert regularisation(9.0, 5.0, 0.0) == 1.0


def test_synflow_of_every_layer_is_the_sum_of_all_paths() -> None:
    # Tanaka et al.'s law: the saliencies of each layer add up to the same, the product of absolute weights summed over paths.
    torch.manual_seed(0)
    first, second, third = (nn.Linear(*size, bias=False).double() for size in ((12, 7), (7, 5), (5, 3)))
    network = nn.Sequential(nn.Flatten(1), first, nn.LayerNorm(7), nn.GELU(), second, nn.ReLU6(), third).double()
    paths = (third.weight.abs() @ second.weight.abs() @ first.weight.abs()).sum().item()
    before = copy.deepcopy(network.state_dict())
    assert synflow(network, (3, 2, 2)) == pytest.approx(3 * paths, rel=1e-12)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_zen_score_gives_back_what_batch_normalisation_takes() -> None:
    network = convolutional()
    for norm in (network[0][1], network[1][1]):  # type: ignore[index]
        norm.momentum, norm.eps = 1.0, 1e-30  # the variances of the last batch, exactly
    images = draw(6, 3, 5, 5)
    moved = images + 0.01 * draw(6, 3, 5, 5, seed=1)
    before = zen_score(network, images, moved)
    with torch.no_grad():
        network[1][0].weight.mul_(3.0)  # type: ignore[index]
        parts = nn.Sequential(network[0], network[1][0], network[1][1])  # type: ignore[index]
        after = parts(images) - parts(moved)  # up to the last norm, which takes the scale away
    assert zen_score(network, images, moved) == pytest.approx(before + math.log(3))
    variances = [norm.running_var.mean().item() for norm in (network[0][1], network[1][1])]  # type: ignore[index]
    with torch.no_grad():
        network(moved)
    expected = math.log(after.abs().flatten(1).sum(1).mean().item()) + sum(math.log(value) / 2 for value in variances)
    assert zen_score(network, images, moved) == pytest.approx(expected)
    with pytest.raises(NotApplicable, match="other norms"):
        zen_score(nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4)).double(), images, moved)


def test_scores_by_gradients_of_a_linear_classifier() -> None:
    torch.manual_seed(0)
    network, images = nn.Sequential(nn.Flatten(1), nn.Linear(12, 3)).double(), draw(6, 3, 2, 2)
    weight, x = network[1].weight.detach().numpy(), images.flatten(1).numpy()
    outputs = x @ weight.T + network[1].bias.detach().numpy()  # type: ignore[union-attr]
    shares = np.exp(outputs) / np.exp(outputs).sum(1, keepdims=True)
    errors = (shares - np.eye(3)[LABELS.numpy()]) / 6
    gradient = errors.T @ x
    found = loss_gradients(network, images, LABELS)
    assert grad_norm(found) == pytest.approx(np.linalg.norm(gradient))
    assert snip(found) == pytest.approx(np.abs(weight * gradient).sum())
    assert fisher(found) == pytest.approx((((outputs * errors) ** 2).mean(0) / 2).sum() * 12)


def test_fisher_of_convolutions_and_of_tokens() -> None:
    torch.manual_seed(0)
    convolution, linear = nn.Conv2d(3, 4, 2), nn.Linear(4, 3)
    network = nn.Sequential(convolution, nn.Flatten(2), Transposed(), linear, Mean()).double()
    images = draw(6, 3, 3, 3)
    a = convolution(images).detach().requires_grad_()
    b = linear(a.flatten(2).transpose(1, 2))
    gradients = torch.autograd.grad(cross_entropy(b.mean(1), LABELS), [a, b])
    of_maps = ((a * gradients[0]).sum((2, 3)) ** 2).mean(0).sum() / 2 * 12
    of_tokens = ((b * gradients[1]).sum(1) ** 2).mean(0).sum() / 2 * 4
    assert fisher(loss_gradients(network, images, LABELS)) == pytest.approx((of_maps + of_tokens).item())


class Transposed(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


def test_grasp_is_the_hessian_times_the_gradient_by_finite_differences() -> None:
    network, images = convolutional(nn.GELU), draw(6, 3, 5, 5)
    weights = [network[0][0].weight, network[1][0].weight, network[4].weight]  # type: ignore[index]

    def gradient() -> list[Tensor]:
        return list(torch.autograd.grad(cross_entropy(network(images), LABELS), weights))

    own, step = gradient(), 1e-4
    start = [weight.detach().clone() for weight in weights]
    ends = []
    for sign in (1, -1):
        with torch.no_grad():
            for weight, at, way in zip(weights, start, own, strict=True):
                weight.copy_(at + sign * step * way)
        ends.append(gradient())
    with torch.no_grad():
        for weight, at in zip(weights, start, strict=True):
            weight.copy_(at)
    products = [(after - before) / (2 * step) for after, before in zip(*ends, strict=True)]
    expected = -sum((at * product).sum().item() for at, product in zip(start, products, strict=True))
    assert grasp(network, images, LABELS) == pytest.approx(expected, rel=1e-5)


def test_grasp_of_a_gate_that_torch_cannot_differentiate_twice() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Hardsigmoid(), nn.Flatten(1), nn.Linear(36, 3)).double()
    assert math.isfinite(grasp(network, draw(6, 3, 5, 5), LABELS))


def test_jacobian_covariance_of_a_linear_network() -> None:
    # All gradients are the same, so the correlations are ones, with one eigenvalue of 6 and five of 0.
    network = nn.Sequential(nn.Flatten(1), nn.Linear(12, 3)).double()
    expected = -(math.log(6 + 1e-5) + 1 / (6 + 1e-5)) - 5 * (math.log(1e-5) + 1e5)
    assert jacobian_covariance(network, draw(6, 3, 2, 2)) == pytest.approx(expected, rel=1e-6)
    by_image = nn.Sequential(nn.Flatten(1), nn.Linear(12, 8), nn.GELU(), nn.Linear(8, 3)).double()
    images = draw(6, 3, 2, 2).requires_grad_()
    (gradient,) = torch.autograd.grad(by_image(images).sum(), images)
    values = np.linalg.eigvals(np.corrcoef(gradient.flatten(1).numpy())).real + 1e-5
    assert jacobian_covariance(by_image, images) == pytest.approx(-np.sum(np.log(values) + 1 / values), rel=1e-6)


def test_the_entropy_of_features() -> None:
    assert entropy(torch.eye(4).repeat(50, 1) - 0.25) == pytest.approx(math.log(3), abs=1e-4)  # three directions, alike
    features = draw(40, 3)
    values = np.linalg.eigvalsh(np.cov(features.numpy().T))
    shares = values / values.sum()
    assert entropy(features) == pytest.approx(-(shares * np.log(shares)).sum(), abs=1e-6)
    assert entropy(draw(5, 30)) <= math.log(4) + 1e-6  # five points span four directions
    assert math.isnan(entropy(torch.ones(5, 3)))


def test_trainability_of_blocks() -> None:
    signs = draw(2, 4, 3, 3).sign()
    gradient = draw(2, 5, 6, 6, seed=1)
    mean = np.zeros((20, 4))  # over positions of the output, of the pixels below each of them by its channels
    for image in range(2):
        for row in range(3):
            for column in range(3):
                below = gradient[image, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].reshape(-1)
                mean += np.outer(below, signs[image, :, row, column]) / 18
    largest = np.linalg.norm(mean, 2)
    assert trainability(signs, gradient) == pytest.approx(2 - largest - 1 / largest, abs=1e-5)
    assert trainability(signs, signs) == -math.inf
    assert trainability(signs, -signs) == pytest.approx(trainability(signs, 3 * signs) * 0, abs=0.8)
    wide = draw(2, 80, 30, 30).sign()  # so many channels that the largest singular value is found by iteration
    estimate = (wide.movedim(1, -1).flatten(0, 2).T @ wide.movedim(1, -1).flatten(0, 2) / 1800).numpy()
    largest = 2 * np.linalg.norm(estimate, 2)
    assert trainability(wide, 2 * wide) == pytest.approx(2 - largest - 1 / largest, abs=1e-5)


def test_blocks_are_examined_in_order() -> None:
    network, images = convolutional(), draw(6, 3, 5, 5)
    found = examine(network, images, torch.Generator().manual_seed(0))
    # The chain is made of what lies in sequences: convolution, norm, convolution, norm.
    assert len(found.entropies) == 4
    assert len(found.trainabilities) == 3
    assert all(math.isfinite(value) for value in (*found.entropies, *found.trainabilities))
    with pytest.raises(NotApplicable, match="only one"):
        examine(nn.Sequential(nn.Conv2d(3, 4, 1)).double(), images, torch.Generator())


def test_log_ranks_are_added_up() -> None:
    found = log_rank_sum({"a": np.array([1.0, 3.0, 2.0, 2.0]), "b": np.array([5.0, -np.inf, 7.0, np.nan])})
    ranks = np.array([[1, 4, 2.5, 2.5], [3, 1.5, 4, 1.5]])
    np.testing.assert_allclose(found, np.log(ranks / 4).sum(0))

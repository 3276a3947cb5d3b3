"""Gradients that go straight into the parts that were cut are those that autograd finds of the cuts one by one."""

import copy
import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from oneshot.arch import Arch, Choice
from oneshot.cuts import RememberedCuts
from oneshot.sharing import KernelTransform, Pieces, SharingRule, crop
from oneshot.spaces import Make, SearchSpace
from oneshot.supernet import Supernet

Gradients = dict[str, Tensor | None]


class Doubled(SharingRule):
    """A rule of somebody's own."""

    def forward(self, stored: Tensor, shape: torch.Size) -> Tensor:
        return 2 * crop(stored, shape)


class Net(nn.Module):
    """Every kind of cut: leading slices, kernels with and without matrices, pieces, a rule of its own; and an unused layer."""

    def __init__(self, arch: Arch, make: Make) -> None:
        super().__init__()
        width, kernel = arch.integer("width"), arch.integer("kernel")
        self.stem = make("stem", nn.Conv2d, 3, width, 3, bias=True)
        self.wide = make("wide", nn.Conv2d, width, width, kernel, padding=kernel // 2, groups=width)
        self.plain = make("plain", nn.Conv2d, width, width, min(kernel, 5), padding=min(kernel, 5) // 2)
        self.parts = make("parts", nn.Linear, width, 2 * width)
        self.own = make("own", nn.Linear, width, width)
        self.head = make("head", nn.Linear, width, 2)
        self.unused = make("unused", nn.Linear, width, width)

    def forward(self, x: Tensor) -> Tensor:
        features = self.plain(self.wide(self.stem(x)).sin()).mean((2, 3)).sin()
        first, second = self.parts(features).chunk(2, 1)
        return self.head(self.own((first * second).sin()))


class CutSpace(SearchSpace):
    """Networks of three widths and three kernels."""

    num_classes = 2
    resolution = 9
    choices = (Choice("width", (2, 3, 4)), Choice("kernel", (3, 5, 7)))
    sharing = {  # noqa: RUF012
        "wide.weight": lambda: KernelTransform((3, 5, 7)),
        "parts.weight": lambda: Pieces(
            {0: {2 * w: [(0, w), (4, w)] for w in (2, 3)}, 1: {w: [(0, w)] for w in (2, 3)}}
        ),
        "parts.bias": lambda: Pieces({0: {2 * w: [(8 - 2 * w, 2 * w)] for w in (2, 3)}}),
        "own.weight": Doubled,
    }

    def build(self, arch: Arch, make: Make) -> nn.Module:
        return Net(arch, make)


class PlainCuts(RememberedCuts):
    """Leaves every cut to autograd."""

    def of(self, *args: object) -> None:
        return None


SPACE = CutSpace()
IMAGES = torch.randn(2, 3, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
ARCHS = list(SPACE.enumerate())


def pair(layout: torch.memory_format = torch.contiguous_format) -> tuple[Supernet, Supernet]:
    """A supernet with no two values alike, and a copy whose cuts are autograd's."""
    torch.manual_seed(0)
    supernet = Supernet(SPACE).double().to(memory_format=layout)  # type: ignore[call-overload]
    with torch.no_grad():
        for parameter in supernet.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, dtype=torch.float64))
    plain = copy.deepcopy(supernet)
    plain._cuts = PlainCuts()
    return supernet, plain


def loss(supernet: Supernet, arch: Arch) -> Tensor:
    result: Tensor = supernet(IMAGES, arch).square().sum()
    return result


def gradients(supernet: Supernet) -> Gradients:
    return {name: parameter.grad for name, parameter in supernet.named_parameters()}


def clear(supernet: Supernet) -> None:
    for parameter in supernet.parameters():
        parameter.grad = None


def assert_same(found: Gradients, expected: Gradients) -> None:
    assert {name for name, value in found.items() if value is None} == {
        name for name, value in expected.items() if value is None
    }
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-12, atol=1e-12, msg=name)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_steps_of_other_networks_leave_nothing_behind(layout: torch.memory_format) -> None:
    """Steps of one and of several paths, some of them with the largest network, which cuts nothing."""
    rng, (supernet, plain) = random.Random(0), pair(layout)
    for _ in range(20):
        archs = rng.choices(ARCHS, k=rng.choice((1, 1, 3)))
        for of in (supernet, plain):
            clear(of)
            for arch in archs:
                loss(of, arch).backward()
        assert_same(gradients(supernet), gradients(plain))
        assert supernet.get_parameter("bank.unused.weight").grad is None


def test_the_memory_of_gradients_is_used_again() -> None:
    supernet, _ = pair()
    name = "bank.stem.weight"
    loss(supernet, SPACE.smallest).backward()
    place = supernet.get_parameter(name).grad.data_ptr()
    clear(supernet)
    others = torch.ones(supernet.get_parameter(name).shape, dtype=torch.float64)  # would take the place if it were free
    loss(supernet, ARCHS[1]).backward()
    assert supernet.get_parameter(name).grad.data_ptr() == place != others.data_ptr()


@pytest.mark.parametrize("kept", [lambda gradient: gradient, lambda gradient: gradient[:1]], ids=["whole", "part"])
def test_a_gradient_that_is_kept_stays_what_it_was(kept: Callable[[Tensor], Tensor]) -> None:
    supernet, plain = pair()
    loss(supernet, SPACE.smallest).backward()
    before = {name: kept(value) for name, value in gradients(supernet).items() if value is not None}
    copies = {name: value.clone() for name, value in before.items()}
    clear(supernet)
    for of in (supernet, plain):
        loss(of, ARCHS[4]).backward()
    assert_same(gradients(supernet), gradients(plain))
    assert all(torch.equal(value, copies[name]) for name, value in before.items())


def test_a_gradient_that_was_changed_leaves_nothing_behind() -> None:
    supernet, plain = pair()
    loss(supernet, SPACE.smallest).backward()
    for parameter in supernet.parameters():
        if parameter.grad is not None:
            parameter.grad.fill_(torch.nan)
    clear(supernet)
    for of in (supernet, plain):
        loss(of, SPACE.smallest).backward()
    assert_same(gradients(supernet), gradients(plain))


@pytest.mark.parametrize("arch", ARCHS[:3])
def test_gradients_that_are_asked_for_are_given(arch: Arch) -> None:
    found = []
    for of in pair():
        parameters = list(of.parameters())
        first = torch.autograd.grad(loss(of, arch), parameters, create_graph=True, allow_unused=True)
        total = torch.stack([value.square().sum() for value in first if value is not None]).sum()
        second = torch.autograd.grad(total, parameters, allow_unused=True)
        assert all(parameter.grad is None for parameter in parameters)
        some = parameters[:2]
        loss(of, arch).backward(inputs=some)
        assert [parameter.grad is not None for parameter in parameters] == [True, True] + [False] * (
            len(parameters) - 2
        )
        orders = {"first": first, "second": second, "some": [parameter.grad for parameter in some]}
        found.append({f"{order} {index}": value for order in orders for index, value in enumerate(orders[order])})
    assert_same(*found)


def test_hooks_see_gradients() -> None:
    found = []
    for of in pair():
        seen: Gradients = {}
        weight, bias = of.get_parameter("bank.stem.weight"), of.get_parameter("bank.stem.bias")
        weight.register_hook(lambda gradient, seen=seen: seen.update(weight=gradient.clone()) or 3 * gradient)
        bias.register_post_accumulate_grad_hook(lambda bias, seen=seen: seen.update(bias=bias.grad.clone()))
        loss(of, SPACE.smallest).backward()
        found.append({**seen, **gradients(of)})
        assert {"weight", "bias"} <= seen.keys()
    assert_same(*found)


def test_other_tensors_may_take_the_places_of_the_bank() -> None:
    """The transforms of torch.func, weights that were moved, and weights that learn no more."""
    supernet, plain = pair()
    loss(supernet, SPACE.smallest).backward()

    def of_weights(of: Supernet) -> Gradients:
        def result(weights: dict[str, Tensor]) -> Tensor:
            return torch.func.functional_call(of, weights, (IMAGES, SPACE.smallest)).square().sum()

        return torch.func.grad(result)({name: 2 * value.detach() for name, value in of.named_parameters()})

    assert_same(of_weights(supernet), of_weights(plain))
    for change in (
        lambda of: of.float().double(),
        lambda of: of.get_parameter("bank.stem.weight").requires_grad_(False),
        lambda of: setattr(of.bank.own, "bias", nn.Parameter(torch.ones(4, dtype=torch.float64))),
    ):
        for of in (supernet, plain):
            change(of)
            clear(of)
            loss(of, ARCHS[3]).backward()
        assert_same(gradients(supernet), gradients(plain))
        clear(supernet), clear(plain)
        for of in (supernet, plain):
            loss(of, SPACE.smallest).backward()
        assert_same(gradients(supernet), gradients(plain))


def test_a_backward_pass_may_come_twice() -> None:
    for of in (pairs := pair()):
        result = loss(of, SPACE.smallest)
        result.backward(retain_graph=True)
        result.backward()
    assert_same(gradients(pairs[0]), gradients(pairs[1]))


def test_weights_changed_before_the_backward_pass_are_refused() -> None:
    supernet, _ = pair()
    result = loss(supernet, SPACE.smallest)
    with torch.no_grad():
        supernet.get_parameter("bank.wide.weight_rule.5to3").add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        result.backward()

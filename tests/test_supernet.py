"""The supernet: what it shares, what a step touches, what is copied, and what it refuses."""

import copy
import gc
import pickle
import random
from collections.abc import Callable

import pytest
import torch
from one_choice import OneChoice
from space_examples import ViTSpace, images, some_archs
from torch import Tensor, nn

from oneshot.arch import Arch
from oneshot.sharing import SharingRule
from oneshot.spaces import Make, OFAMobileNetV3, SearchSpace
from oneshot.spaces.making import Making
from oneshot.supernet import Supernet


def cut(stored: Tensor, shape: torch.Size) -> Tensor:
    """Leading slices, and the centre of a convolution's kernel."""
    starts = [0, 0, *((have - want) // 2 for have, want in zip(stored.shape[2:], shape[2:], strict=True))]
    if stored.ndim != 4:
        starts = [0] * stored.ndim
    return stored[tuple(slice(start, start + want) for start, want in zip(starts, shape, strict=False))]


def names_in_bank(space: SearchSpace, arch: Arch) -> dict[str, str]:
    """The supernet's name of every parameter of the network."""
    names: dict[int, str] = {}

    def make(name: str, block: Callable[..., nn.Module], *args: object, **kwargs: object) -> nn.Module:
        module = block(*args, **kwargs)
        names.update({id(parameter): f"bank.{name}.{path}" for path, parameter in module.named_parameters()})
        return module

    network = space.build(arch, Making(arch, make))
    return {path: names[id(parameter)] for path, parameter in network.named_parameters()}


# A step ----------------------------------------------------------------------------------------------------------------


def test_gradients_reach_the_sampled_path_and_only_that(any_space: SearchSpace, any_supernet: Supernet) -> None:
    stored = dict(any_supernet.named_parameters())
    for arch in some_archs(any_space, 4):
        names = names_in_bank(any_space, arch)
        extracted = any_supernet.extract(arch)
        any_supernet.zero_grad()
        x = images(any_space, arch)
        for run in (extracted, lambda x, arch=arch: any_supernet(x, arch)):
            torch.manual_seed(1)
            run(x).logsumexp(1).sum().backward()
        expected = set()
        for path, parameter in extracted.named_parameters():
            if parameter.grad is None:  # the stem, where a cell passes nothing on
                continue
            name = names[path]
            size = parameter.shape[-1]
            matrices = {f"{name}_rule.{small + 2}to{small}" for small in (3, 5) if small >= size} & stored.keys()
            expected |= {name} | matrices
            if not matrices:
                taken = cut(stored[name].grad, parameter.shape)
                if name.removeprefix("bank.") in any_space.sharing:  # as many heads of each third
                    thirds = stored[name].grad.chunk(3)
                    taken = torch.cat([third[: len(parameter) // 3] for third in thirds])
                    taken = taken[:, : parameter.shape[1]] if parameter.ndim > 1 else taken
                assert torch.equal(taken, parameter.grad), name
                assert stored[name].grad.count_nonzero() == parameter.grad.count_nonzero(), name
        assert {name for name, parameter in stored.items() if parameter.grad is not None} == expected


def test_training_moves_the_statistics_of_the_path_and_no_others(
    any_space: SearchSpace, any_supernet: Supernet
) -> None:
    for arch in some_archs(any_space, 2):
        for buffer in any_supernet.buffers():
            if buffer.is_floating_point():
                buffer.fill_(1e4)  # far from every statistic of a batch: what is averaged moves, whatever the rounding
        before = {name: buffer.clone() for name, buffer in any_supernet.named_buffers()}
        any_supernet.train()(images(any_space, arch), arch)
        moved = sum(int((buffer != before[name]).sum()) for name, buffer in any_supernet.named_buffers())
        assert moved == sum(buffer.numel() for buffer in any_supernet.extract(arch).buffers())


def test_evaluation_moves_nothing(any_space: SearchSpace, any_supernet: Supernet) -> None:
    before = {name: tensor.clone() for name, tensor in any_supernet.state_dict().items()}
    any_supernet.eval()
    for arch in some_archs(any_space, 2):
        any_supernet(images(any_space, arch), arch).sum().backward()
        any_supernet.extract(arch).train()(images(any_space, arch))
    assert all(torch.equal(tensor, before[name]) for name, tensor in any_supernet.state_dict().items())


def test_calls_may_alternate(any_space: SearchSpace, any_supernet: Supernet) -> None:
    """Neither the architecture nor the mode of an earlier call shows in a later one, also between forward and backward."""
    archs = some_archs(any_space, 3)
    any_supernet.eval()
    expected = [any_supernet(images(any_space, arch), arch) for arch in archs]
    gradients = [
        torch.autograd.grad(logits.sum(), [*any_supernet.parameters()], allow_unused=True) for logits in expected
    ]
    before = copy.deepcopy(any_supernet.state_dict())
    any_supernet.train()
    for arch in archs[::2]:  # whose blocks the others use as well
        any_supernet(images(any_space, arch), arch)
    any_supernet.load_state_dict(before)
    any_supernet.eval()
    again = [any_supernet(images(any_space, arch), arch) for arch in archs]
    for logits, expected_logits, expected_gradient in zip(again, expected, gradients, strict=True):
        assert torch.equal(logits, expected_logits)
        gradient = torch.autograd.grad(logits.sum(), [*any_supernet.parameters()], allow_unused=True)
        for one, two in zip(gradient, expected_gradient, strict=True):
            assert (one is None) == (two is None)
            assert one is None or torch.equal(one, two)


def test_training_works_after_inference_mode(any_space: SearchSpace, any_supernet: Supernet) -> None:
    arch = any_space.smallest
    with torch.inference_mode():
        any_supernet.eval()(images(any_space, arch), arch)
    any_supernet.train()(images(any_space, arch), arch).sum().backward()


def test_no_memory_is_held_between_calls() -> None:
    space = OFAMobileNetV3(num_classes=5, resolutions=(32,), width_multiplier=0.5)
    supernet = Supernet(space).eval()
    rng = random.Random(0)

    def held() -> int:
        gc.collect()
        # Not subclasses: exports leave tensors without memory behind, which have no address to ask for.
        tensors = [found for found in gc.get_objects() if type(found) in (Tensor, nn.Parameter)]
        storages = [found.untyped_storage() for found in tensors if found.device.type == "cpu"]
        return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())

    before = held()
    for _ in range(10):
        arch = space.sample(rng)
        supernet(images(space, arch), arch).sum().backward()
        supernet.extract(arch)
    supernet.zero_grad()
    assert held() < before + 100_000  # the bank has 8 MB


# Copies ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda supernet: pickle.loads(pickle.dumps(supernet))])
def test_a_copy_is_equal_and_independent(
    any_space: SearchSpace, any_supernet: Supernet, copied: Callable[[Supernet], Supernet]
) -> None:
    any_supernet.eval()
    archs = some_archs(any_space, 2)
    expected = [any_supernet(images(any_space, arch), arch) for arch in archs]
    other = copied(any_supernet)
    assert not other.training
    for arch, logits in zip(archs, expected, strict=True):
        assert torch.equal(other(images(any_space, arch), arch), logits)
    for parameter in other.parameters():
        parameter.data.zero_()
    for arch, logits in zip(archs, expected, strict=True):
        assert torch.equal(any_supernet(images(any_space, arch), arch), logits)
        assert not other(images(any_space, arch), arch).any()


def test_the_state_is_read_back_by_a_fresh_supernet(any_space: SearchSpace, any_supernet: Supernet) -> None:
    fresh = Supernet(any_space).eval()
    fresh.load_state_dict(any_supernet.eval().state_dict())
    for arch in some_archs(any_space, 2):
        x = images(any_space, arch)
        assert torch.equal(fresh(x, arch), any_supernet(x, arch))


def test_an_extracted_network_is_independent(any_space: SearchSpace, any_supernet: Supernet) -> None:
    arch = any_space.largest
    extracted = any_supernet.extract(arch)
    storages = {tensor.untyped_storage().data_ptr() for tensor in any_supernet.state_dict().values()}
    assert not storages & {tensor.untyped_storage().data_ptr() for tensor in extracted.state_dict().values()}
    assert all(parameter.is_leaf and parameter.requires_grad for parameter in extracted.parameters())
    for module in extracted.modules():
        module.register_forward_hook(lambda *_: pytest.fail("this hook is not this network's"))
    x = images(any_space, arch)
    any_supernet(x, arch)
    any_supernet.extract(arch)(x)


def test_what_a_module_holds_is_copied_with_it() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(3, 3), nn.Linear(3, 3)
            self.both = (self.one, self.two)
            self.by_name = {"one": [self.one]}
            self.alias = self.one

        def forward(self, x: Tensor) -> Tensor:
            return self.both[1](self.by_name["one"][0](x.mean((2, 3))))

    def network(option: object, make: Make) -> nn.Module:
        return make("pair", Pair)

    space = OneChoice(network)
    supernet = Supernet(space)
    extracted = supernet.extract(space.smallest)
    assert extracted.both == (extracted.one, extracted.two)
    assert extracted.by_name["one"][0] is extracted.alias is extracted.one
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(extracted(x), supernet(x, space.smallest))


def test_frozen_parameters_stay_frozen() -> None:
    def network(option: object, make: Make) -> nn.Module:
        def head() -> nn.Module:
            linear = nn.Linear(48, int(option))
            linear.bias.requires_grad_(False)
            return nn.Sequential(nn.Flatten(), linear)

        return make("head", head)

    space = OneChoice(network)
    supernet = Supernet(space)
    for arch in (space.smallest, space.largest):
        assert [parameter.requires_grad for parameter in supernet.extract(arch).parameters()] == [True, False]
        supernet(images(space, arch), arch).sum().backward()
    assert supernet.get_parameter("bank.head.1.bias").grad is None


# What is shared --------------------------------------------------------------------------------------------------------


def test_only_kernels_are_cut_in_the_centre() -> None:
    space = ViTSpace()
    supernet = Supernet(space)
    position = supernet.extract(space.smallest).get_parameter("position.position")
    assert position.shape == (1, 16, 16)
    assert torch.equal(position, supernet.get_parameter("bank.position.position")[:, :, :16])


def test_a_block_of_one_name_may_be_another_module() -> None:
    def network(option: object, make: Make) -> nn.Module:
        norm = make("norm", nn.Identity) if option == "none" else make("norm", nn.BatchNorm2d, 3)
        return nn.Sequential(norm, nn.Flatten(), make("head", nn.Linear, 48, 2))

    space = OneChoice(network, ("batch", "none"))
    supernet = Supernet(space)
    assert "bank.norm.num_batches_tracked" in supernet.state_dict()
    for arch in space.enumerate():
        assert torch.equal(supernet(images(space, arch), arch), supernet.extract(arch)(images(space, arch)))


def test_a_tensor_is_as_large_as_its_largest_parts() -> None:
    """No network has both the most inputs and the most outputs; what is new starts as the space starts it."""

    class Crossed(OneChoice):
        def initialize(self, name: str, block: nn.Module) -> None:
            if isinstance(block, nn.Linear):
                nn.init.constant_(block.weight, 7.0)

    def network(option: object, make: Make) -> nn.Module:
        inputs, outputs = {"wide": (48, 2), "tall": (12, 5)}[str(option)]
        return nn.Sequential(
            nn.AdaptiveAvgPool2d(int((inputs / 3) ** 0.5)), nn.Flatten(), make("head", nn.Linear, inputs, outputs)
        )

    supernet = Supernet(Crossed(network, ("wide", "tall")))
    weight = supernet.get_parameter("bank.head.weight")
    assert weight.shape == (5, 48)
    assert (weight == 7).all()
    assert supernet.get_parameter("bank.head.bias").abs().max() <= 12**-0.5


class Counted(nn.Linear):
    """A layer that counts how many of it were made."""

    made = 0

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        Counted.made += 1


def test_a_function_inside_build_makes_its_block_once() -> None:
    def network(option: object, make: Make) -> nn.Module:
        width = 8 if option in (1, 2) else 16
        body = make("body", lambda: nn.Sequential(nn.Flatten(), Counted(48, width)))
        return nn.Sequential(body, make(f"head{option}", lambda: nn.Linear(width, 2)))

    space = OneChoice(network, (1, 2, 3))
    supernet = Supernet(space)
    assert supernet.get_parameter("bank.body.1.weight").shape == (16, 48)
    Counted.made = 0
    for arch in space.enumerate():
        supernet(images(space, arch), arch)
    assert Counted.made == 0


class Halved(SharingRule):
    """A rule with a buffer of its own."""

    def prepare(self, stored: torch.Size, name: str) -> None:
        self.register_buffer("factor", torch.tensor(0.5))

    def forward(self, stored: Tensor, shape: torch.Size) -> Tensor:
        return super().forward(stored, shape) * self.factor


def test_a_space_names_its_own_rules() -> None:
    def network(option: object, make: Make) -> nn.Module:
        return nn.Sequential(nn.Flatten(), make("head", nn.Linear, 48, int(option)))

    space = OneChoice(network)
    space.sharing = {"*.weight": Halved}
    supernet = Supernet(space)
    stored = supernet.get_parameter("bank.head.weight")
    assert torch.equal(supernet.extract(space.smallest)[1].weight, 0.5 * stored[:1])
    assert torch.equal(supernet.extract(space.largest)[1].weight, stored)
    assert "bank.head.weight_rule.factor" in supernet.state_dict()

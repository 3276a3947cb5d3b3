"""Closed-form repair: exact least squares for every kind of reader, shared bit for bit, never on the bank."""

from __future__ import annotations

import copy
import functools
import random
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from timm.layers import Conv2dSame, StdConv2d
from torch import Tensor, nn
from toy_spaces import make_data
from training_runs import CPU, copy_state, differences

from oneshot.arch import Arch
from oneshot.evaluation import Evaluator, RepairSettings, ScoreSettings, refit, repaired
from oneshot.evaluation.reference import BlockReference, Places
from oneshot.evaluation.refit import RIDGE, Fit, Layer, TooFewPlacesError, UnfitError
from oneshot.evaluation.repair import readers_of, repair_block
from oneshot.evaluation.unrepaired import RepairTally
from oneshot.sorting import input_energies, sort_channels
from oneshot.spaces import NASBenchMacro, SearchSpace, TimmSpace
from oneshot.supernet import Supernet

# One layer -----------------------------------------------------------------------------------------------------------

LAYERS: dict[str, Callable[[], Layer]] = {
    "1x1": lambda: nn.Conv2d(6, 5, 1, bias=False),
    "1x1 strided": lambda: nn.Conv2d(6, 5, 1, stride=2),
    "3x3 strided": lambda: nn.Conv2d(6, 5, 3, stride=2, padding=1),
    "3x3 dilated, padded to the same size": lambda: nn.Conv2d(6, 5, 3, dilation=2, padding="same"),
    "5x3 padded as TensorFlow does": lambda: Conv2dSame(6, 5, (5, 3), stride=2),
    "grouped": lambda: nn.Conv2d(6, 9, 3, padding=1, groups=3),
    "depthwise": lambda: nn.Conv2d(6, 6, 5, stride=2, padding=2, groups=6, bias=False),
    "one-dimensional": lambda: nn.Conv1d(6, 4, 3, stride=2, padding=1),
    "linear": lambda: nn.Linear(6, 5),
}


def least_squares(layer: Layer, values: Tensor, wanted: Tensor) -> list[Tensor]:
    """Weights and bias by numpy's least squares, from the layer's outputs on inputs and weights that are single ones."""
    names = ["weight"] if layer.bias is None else ["weight", "bias"]
    sizes = [getattr(layer, name).numel() for name in names]
    probe = copy.deepcopy(layer)
    columns = []
    for index in range(sum(sizes)):
        ones = torch.zeros(sum(sizes), dtype=torch.float64)
        ones[index] = 1
        for name, part in zip(names, ones.split(sizes), strict=True):
            getattr(probe, name).data.copy_(part.view_as(getattr(probe, name)))
        columns.append(probe(values).detach().flatten())
    design = torch.stack(columns, 1).numpy()
    # The penalty: relative to the mean square sum of the inputs of each group.
    weight = layer.weight.detach()
    groups = 1 if isinstance(layer, nn.Linear) else layer.groups
    each = weight.shape[0] // groups * weight[0].numel()
    outputs_of_group = weight.shape[0] // groups
    rows, right = [design], [wanted.flatten().numpy()]
    for group in range(groups):
        own = np.arange(group * each, (group + 1) * each)
        strength = RIDGE * (design[:, own] ** 2).sum() / outputs_of_group / weight[0].numel()
        penalty = np.zeros((each, design.shape[1]))
        penalty[np.arange(each), own] = strength**0.5
        rows.append(penalty)
        right.append(strength**0.5 * weight.flatten().numpy()[own])
    found = np.linalg.lstsq(np.concatenate(rows), np.concatenate(right), rcond=None)[0]
    return list(torch.from_numpy(found).split(sizes))


@pytest.mark.parametrize("kind", LAYERS)
def test_a_fit_is_the_least_squares_solution(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(refit, "_PATCH_VALUES", 700)  # a few images at a time
    layer = LAYERS[kind]().double()
    shape = {nn.Linear: (24, 7, 6), nn.Conv1d: (24, 6, 9)}.get(type(layer), (24, 6, 9, 8))
    values = torch.randn(shape, dtype=torch.float64) + 0.5
    output = layer(values).detach()
    wanted = output + torch.randn_like(output) + 1
    expected = least_squares(layer, values, wanted)
    dim = refit.channel_dim(layer)
    fit = Fit(layer)
    for part in range(0, 24, 8):
        batch, of_batch = slice(part, part + 8), output[part : part + 8]
        missing = refit.rows_of(wanted[batch] - of_batch, dim, None)
        chosen = torch.randperm(len(missing)).sort().values
        fit.add(values[batch], of_batch, missing, None if part else chosen)
    fit.solve()
    torch.testing.assert_close(layer.weight.detach().flatten(), expected[0], rtol=1e-9, atol=1e-9)
    if layer.bias is not None:
        torch.testing.assert_close(layer.bias.detach(), expected[1], rtol=1e-9, atol=1e-9)
    assert (layer(values) - wanted).square().sum() < (output - wanted).square().sum()


def test_only_chosen_rows_are_fitted_on() -> None:
    torch.manual_seed(0)
    whole, some = (nn.Conv2d(2, 3, 3, padding=1).double() for _ in range(2))
    some.load_state_dict(whole.state_dict())
    values = torch.randn(40, 2, 4, 4, dtype=torch.float64)
    output = whole(values).detach()
    chosen = torch.arange(0, 640, 16)  # the first place of each image
    missing = torch.randn(40, 3, dtype=torch.float64)
    fit = Fit(some)
    fit.add(values, output, missing, chosen)
    fit.solve()
    narrow = nn.functional.pad(values, (1, 1, 1, 1))[:, :, :3, :3]  # what that place reads, alone
    fit = Fit(whole)
    whole.padding = (0, 0)
    fit.add(narrow, whole(narrow).detach(), missing, None)
    fit.solve()
    torch.testing.assert_close(some.weight, whole.weight)


def test_what_cannot_be_fitted_is_said() -> None:
    torch.manual_seed(0)
    values = torch.randn(8, 4, 5, 5)
    layer = StdConv2d(4, 3, 1)
    output = layer(values).detach()
    missing = torch.randn(200, 3)
    with pytest.raises(UnfitError, match="more than a Conv2d"):
        Fit(layer).add(values, output, missing, None)
    with pytest.raises(UnfitError, match="pads with mode 'reflect'"):
        Fit(nn.Conv2d(4, 3, 3, padding=1, padding_mode="reflect"))
    plain = nn.Conv2d(4, 3, 1)
    fit = Fit(plain)
    fit.add(values[:1, :, :1], plain(values[:1, :, :1]).detach(), missing[:5], None)
    before = plain.weight.clone()
    with pytest.raises(
        UnfitError, match="4 weights of each output are fitted on at least 6 places in the images, and these have 5"
    ):
        fit.solve()
    assert torch.equal(plain.weight, before)


def test_silent_channels_keep_their_weights() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 3, 1, bias=False)
    before = layer.weight.detach().clone()
    values = torch.randn(8, 4, 5, 5) * torch.tensor([1.0, 1, 0, 1])[:, None, None]
    fit = Fit(layer)
    fit.add(values, layer(values).detach(), torch.randn(200, 3), None)
    fit.solve()
    assert torch.equal(layer.weight[:, 2], before[:, 2])
    assert not torch.allclose(layer.weight[:, [0, 1, 3]], before[:, [0, 1, 3]], atol=1e-3)


# Networks ------------------------------------------------------------------------------------------------------------


def make_evaluator(supernet: Supernet, memory_limit: int = 2**30, measured: bool = False) -> Evaluator:
    supernet.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    data = make_data(160, 12, 2, size=supernet.space.max_resolution)
    settings = ScoreSettings(batch_size=25, memory_limit_gb=memory_limit / 2**30)
    return Evaluator(supernet, data, settings, device=CPU, repair=RepairSettings(160, measured))


@functools.cache
def make_space(model: str) -> SearchSpace:
    return TimmSpace(model, 4, 32, width_ratios=(0.5, 1.0), input_ratios=(1.0,))


def make_supernet(model: str) -> Supernet:
    torch.manual_seed(0)
    supernet = Supernet(make_space(model)).eval()
    for name, tensor in supernet.state_dict().items():
        if tensor.is_floating_point() and tensor.dim() == 1 and not name.endswith("var"):
            tensor.add_(0.1 * torch.randn(tensor.shape))
    return supernet


def gap(evaluator: Evaluator, network: nn.Module) -> float:
    """The mean squared distance from the logits of the largest network, on the images of the repair."""
    largest = evaluator.subnet(evaluator.supernet.space.largest)
    images = next(iter(evaluator.fitted_on.at(evaluator.supernet.space.max_resolution)))[0]
    with torch.no_grad():
        return float((network(images) - largest(images)).square().mean())


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_vit"])
def test_repaired_networks_are_nearer_to_the_largest(name: str) -> None:
    supernet = make_supernet(name)
    space, evaluator = supernet.space, make_evaluator(supernet)
    before = copy_state(supernet)
    largest = evaluator.subnet(space.largest)
    assert not differences(largest.state_dict(), supernet.extract(space.largest).state_dict())
    for kind in ("width", "depth"):
        arch = space.decide(lambda choice, kind=kind: choice.options[0 if choice.name.endswith(kind) else -1])
        cut, found = supernet.extract(arch).eval(), evaluator.subnet(arch)
        changed = differences(found.state_dict(), cut.state_dict())
        if kind == "depth" and not changed:
            continue  # nothing runs after the block that is left out
        assert changed
        assert not [key for key in changed if "running" in key]
        assert gap(evaluator, found) < (0.8 if kind == "width" else 1.0) * gap(evaluator, cut)
    assert not differences(supernet.state_dict(), before)


def test_what_follows_a_block_that_is_left_out_makes_up_for_it() -> None:
    space = TimmSpace("test_vit", 4, 32, width_ratios=(1.0,), input_ratios=(1.0,), removal=["blocks.0"])
    torch.manual_seed(0)
    supernet = Supernet(space).eval()
    evaluator, arch = make_evaluator(supernet), space.smallest
    cut, found = supernet.extract(arch).eval(), evaluator.subnet(arch)
    changed = {
        key.strip(".").removesuffix(".weight").removesuffix(".bias")
        for key in differences(found.state_dict(), cut.state_dict())
    }
    assert changed == {f"blocks.{index}.{reader}" for index in range(1, 6) for reader in ("attn.proj", "mlp.fc2")}
    assert gap(evaluator, found) < 0.8 * gap(evaluator, cut)


@pytest.mark.parametrize(
    ("name", "limit"), [("test_efficientnet", 2**30), ("test_efficientnet", 100_000), ("test_vit", 2**30)]
)
def test_scores_of_many_are_those_of_one_by_one(name: str, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    supernet = make_supernet(name)
    space, rng = supernet.space, random.Random(0)
    arch = space.sample(rng)
    archs = [space.smallest, space.largest, arch, *list(space.neighbours(arch))[-2:]]
    calls = count_fits(monkeypatch)
    evaluator = make_evaluator(supernet)
    expected = [evaluator(one) for one in archs]
    alone = len(calls)
    assert len({score.loss for score in expected}) > 3
    calls.clear()
    evaluator = make_evaluator(supernet, memory_limit=limit)
    assert evaluator.score_all(archs) == expected
    if name != "test_vit":  # its forward looks at the size of the images, so each is scored alone
        assert 0 < len(calls) < alone
    calls.clear()
    assert evaluator.score_all(archs) == [evaluator(one) for one in archs] == expected
    assert not calls  # they are remembered


def count_fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []
    solve = Fit.solve
    monkeypatch.setattr(Fit, "solve", lambda fit: (calls.append(fit.num_rows), solve(fit))[1])
    return calls


def test_both_ways_of_repair_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    supernet = make_supernet("test_efficientnet")
    narrow = supernet.space.smallest
    expected = make_evaluator(supernet).subnet(narrow).state_dict()
    monkeypatch.setattr(repaired.RepairedEvaluation, "_by_calls", lambda self, arch: None)
    assert not differences(make_evaluator(supernet).subnet(narrow).state_dict(), expected)


def test_memory_that_is_short_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    supernet = make_supernet("test_efficientnet")
    narrow = supernet.space.smallest
    expected = make_evaluator(supernet).subnet(narrow).state_dict()
    monkeypatch.setattr(repaired, "WORKING_BYTES", 100_000)
    assert not differences(make_evaluator(supernet).subnet(narrow).state_dict(), expected)


def test_a_trained_supernet_is_repaired_to_its_own_largest_network() -> None:
    supernet = make_supernet("test_efficientnet")
    for name, tensor in supernet.state_dict().items():
        if name.endswith("running_var"):
            tensor.mul_(9.0)  # of a mixture of networks, of no use to any
    before = copy_state(supernet)
    evaluator = make_evaluator(supernet, measured=True)
    plain = Evaluator(supernet, make_data(160, 12, 2, size=32), ScoreSettings(160, batch_size=25), device=CPU)
    largest, narrow = supernet.space.largest, supernet.space.smallest
    assert not differences(evaluator.subnet(largest).state_dict(), plain.subnet(largest).state_dict())
    assert gap(evaluator, evaluator.subnet(narrow)) < gap(evaluator, plain.subnet(narrow))
    archs = [narrow, largest, supernet.space.sample(random.Random(1))]
    assert evaluator.score_all(archs) == [evaluator(arch) for arch in archs]
    assert not differences(supernet.state_dict(), before)


def test_a_space_whose_networks_differ_in_more_than_size_is_refused() -> None:
    supernet = Supernet(NASBenchMacro(4, 8))
    evaluator = make_evaluator(supernet)
    with pytest.raises(ValueError, match=r"evaluation\.repair=false, because networks of NASBenchMacro differ"):
        evaluator(supernet.space.smallest)


# One block -----------------------------------------------------------------------------------------------------------


def by_hand(layer: nn.Linear, values: Tensor, wanted: Tensor) -> Tensor:
    """The weight with a free bias: what is left of a ridge regression once means are taken off."""
    weight = layer.weight.detach()
    strength = RIDGE * values.square().sum() / values.shape[1]
    values, wanted = values - values.mean(0), wanted - wanted.mean(0)
    rows = torch.cat([values, strength.sqrt() * torch.eye(values.shape[1], dtype=torch.float64)])
    right = torch.cat([wanted, strength.sqrt() * weight.T])
    return torch.linalg.lstsq(rows, right).solution.T


def test_a_projection_of_heads_is_fitted_to_what_it_gave() -> None:
    supernet = make_supernet("test_vit").double()
    space = supernet.space
    arch = space.arch({**space.largest, "blocks.0.heads": 1})
    block, whole = (
        next(block for block in supernet.skeleton(one, lambda part: part.module)[1] if block.name == "blocks.0")
        for one in (arch, space.largest)
    )
    narrow, full = (supernet.extract_block(one).eval() for one in (block, whole))
    assert list(readers_of(space, block, whole)) == ["attn.proj", "mlp.fc2"]
    tokens = torch.randn(40, 5, 64, dtype=torch.float64)
    heard: dict[str, Tensor] = {}
    full.attn.proj.register_forward_hook(lambda module, args, output: heard.update(wanted=output.detach()))  # type: ignore[union-attr, operator]
    narrow.attn.proj.register_forward_hook(lambda module, args, output: heard.update(values=args[0].detach()))  # type: ignore[union-attr, operator]
    with torch.no_grad():
        full(tokens)
        narrow(tokens)
        expected = by_hand(narrow.attn.proj, heard["values"].flatten(0, 1), heard["wanted"].flatten(0, 1))  # type: ignore[arg-type, union-attr]
        reference = BlockReference({"attn.proj": [heard["wanted"].flatten(0, 1)]})
        left = repair_block(narrow, {"attn.proj": None}, reference, Places(40), lambda: [lambda: narrow(tokens)])
    assert not left
    torch.testing.assert_close(narrow.attn.proj.weight.detach(), expected, rtol=1e-8, atol=1e-9)  # type: ignore[union-attr]


def test_smaller_kernels_are_fitted() -> None:
    space = TimmSpace("test_convnext", 4, 32, width_ratios=(1.0,), depth_ratio=1.0, input_ratios=(1.0,))
    torch.manual_seed(0)
    supernet = Supernet(space).eval()
    evaluator, arch = make_evaluator(supernet), space.smallest
    cut, found = supernet.extract(arch).eval(), evaluator.subnet(arch)
    assert any(key.endswith("conv_dw.weight") for key in differences(found.state_dict(), cut.state_dict()))
    assert gap(evaluator, found) < gap(evaluator, cut)


def test_sorted_channels_are_repaired_too() -> None:
    supernet = make_supernet("test_efficientnet")
    space, evaluator = supernet.space, make_evaluator(supernet)
    trained = space.restrict({choice.name: choice.options[-1:] for choice in space.choices})
    images = [batch for batch, _ in evaluator.fitted_on.at(32)]
    sort_channels(supernet, trained, input_energies(supernet, trained.largest, images))
    assert gap(evaluator, evaluator.subnet(space.smallest)) < gap(evaluator, supernet.extract(space.smallest).eval())


def test_layers_without_enough_images_are_counted_in_one_sentence() -> None:
    supernet = make_supernet("test_resnet")
    space, data = supernet.space, make_data(160, 12, 2, size=32)
    settings = ScoreSettings(batch_size=25)
    few, all_images = (Evaluator(supernet, data, settings, device=CPU, repair=RepairSettings(n)) for n in (8, 160))
    assert few.repair_notes() == []
    widths = random.Random(0)
    archs = [space.smallest, *(space.sample(widths) for _ in range(3))]
    few.score_all(archs)
    (note,) = few.repair_notes()
    assert re.match(
        r"\d+ of the \d+ layers that are repaired are left as they are in some or all networks, \S+ for", note
    )
    assert "weights of each output are fitted on at least" in note
    assert note.endswith("; evaluation.repair_images gives more")
    left, number = few.too_few_places(space.smallest)
    assert 0 < left <= number == len(repaired_layers(supernet, space.smallest))
    again = Evaluator(supernet, data, settings, device=CPU, repair=RepairSettings(8))  # that has scored nothing
    assert again.too_few_places(space.smallest) == (left, number)
    assert few.too_few_places(space.largest) == (0, 0)
    all_images.score_all(archs)
    assert all("repair_images" not in note for note in all_images.repair_notes())
    assert all_images.too_few_places(space.smallest)[0] < left


def repaired_layers(supernet: Supernet, arch: Arch) -> list[str]:
    _, blocks = supernet.skeleton(arch, lambda block: block.module)
    _, whole = supernet.skeleton(supernet.space.largest, lambda block: block.module)
    of_name = {block.name: block for block in whole}
    return [path for block in blocks for path in readers_of(supernet.space, block, of_name[block.name])]


def test_layers_that_any_process_left_as_they_are_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = RepairTally(), RepairTally()
    first.add("stem", {"": object(), "conv": object()}, {})
    second.add("stem", {"": object()}, {"": TooFewPlacesError("too few places")})
    second.add("head", {"fc": object()}, {"fc": UnfitError("no number")})
    monkeypatch.setattr("oneshot.evaluation.unrepaired.gathered", lambda tally: [tally, second])
    few, odd = first.of_all_processes().notes(True)
    assert few.startswith("1 of the 3 layers")
    assert few.endswith("stem for one: too few places; evaluation.repair_images gives more")
    assert odd.startswith("1 of the 3 layers")
    assert odd.endswith("head.fc for one: no number")
    assert first.notes(True) == []

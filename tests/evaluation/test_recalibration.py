"""BatchNorm recalibration, against statistics computed layer by layer and against the formula for pooled samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import BatchNormAct2d
from torch import Tensor, nn

from oneshot.evaluation import recalibrate


class Net(nn.Module):
    """Three BatchNorms, the last one on single values, with dropout between them that must stay off."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.second = nn.Sequential(
            nn.Dropout(0.5), nn.Conv2d(6, 5, 3, stride=2), nn.BatchNorm2d(5, eps=1e-3), nn.SiLU()
        )
        self.last = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Linear(7, 4)
        )

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.last(self.second(self.first(images)))
        return result


def make_net(seed: int = 0) -> Net:
    torch.manual_seed(seed)
    net = Net()
    for layer in net.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(layer.weight, 0.5, 2.0)
            nn.init.normal_(layer.bias)
            layer.running_mean.uniform_(-3, 3)
            layer.running_var.uniform_(0.1, 5)
    return net


def make_images(number: int, size: int = 8, seed: int = 1) -> Tensor:
    return torch.randn(number, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 + 0.7


def statistics(net: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in net.named_buffers()}


def naive_statistics(net: Net, images: Tensor) -> dict[str, Tensor]:
    """Layer by layer in double precision: every BatchNorm normalises with the mean and variance of what it is given."""
    net = net.double()
    found: dict[str, Tensor] = {}
    values = images.double()
    for name, layer in (
        (f"{part}.{index}", layer)
        for part, layers in net.named_children()
        for index, layer in layers.named_children()  # type: ignore[attr-defined]
    ):
        if isinstance(layer, nn.Dropout):
            continue
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            dims = [dim for dim in range(values.dim()) if dim != 1]
            shape = [1, -1] + [1] * (values.dim() - 2)
            mean = values.mean(dims)
            variance = (values - mean.view(shape)).square().mean(dims)
            count = values.numel() // len(mean)
            found[f"{name}.running_mean"] = mean
            found[f"{name}.running_var"] = variance * count / (count - 1)
            values = (values - mean.view(shape)) / (variance + layer.eps).sqrt().view(shape)
            values = values * layer.weight.view(shape) + layer.bias.view(shape)
        else:
            values = layer(values)
    return found


def check_close(found: dict[str, Tensor], expected: dict[str, Tensor], rtol: float = 1e-4) -> None:
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name].double(), tensor.double(), rtol=rtol, atol=1e-5)


# What comes out ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [2, 40, 256])
@torch.no_grad()
def test_statistics_are_those_of_one_big_batch(number: int) -> None:
    net, images = make_net(), make_images(number)
    assert recalibrate(net, [images]) is net
    expected = naive_statistics(make_net(), images)
    assert len(expected) == 6
    check_close(statistics(net), expected)


def test_statistics_are_those_of_torch_with_momentum_one() -> None:
    """torch's own training mode gives the same numbers, if dropout is left out."""
    net, reference, images = make_net(), make_net(), make_images(64)
    recalibrate(net, images.split(10))
    for layer in reference.modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.momentum = 1.0
        layer.training = not isinstance(layer, nn.Dropout)
    with torch.no_grad():
        reference(images)
    for name, buffer in statistics(reference).items():
        if "num_batches" not in name:
            torch.testing.assert_close(statistics(net)[name], buffer, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("max_pixels", [2**23, 64 * 64, 1], ids=["one chunk", "chunks of 64", "chunks of 32"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_how_the_images_are_split_makes_no_difference(max_pixels: int, layout: torch.memory_format) -> None:
    images = make_images(256).contiguous(memory_format=layout)
    results = []
    for sizes in ([256], [1] * 256, [7] * 36 + [4], [100, 1, 155], [64] * 4):
        net = recalibrate(make_net(), images.split(sizes), max_pixels).eval()
        with torch.no_grad():
            results.append((statistics(net), net(images[:9])))
    for found, logits in results[1:]:
        assert torch.equal(logits, results[0][1])
        for name, buffer in found.items():
            assert torch.equal(buffer, results[0][0][name]), name


@given(st.lists(st.integers(1, 70), min_size=1, max_size=5))
@settings(max_examples=20)
def test_any_split_of_any_number_of_images(sizes: list[int]) -> None:
    if sum(sizes) < 2:
        sizes = [*sizes, 1]
    images = make_images(sum(sizes))
    whole, parts = (statistics(recalibrate(make_net(), split, 1)) for split in ([images], images.split(sizes)))
    for name, buffer in whole.items():
        assert torch.equal(buffer, parts[name]), name


@pytest.mark.parametrize("number", [100, 128, 33])
def test_chunks_are_pooled_exactly(number: int) -> None:
    """The first BatchNorm sees the same values in chunks as at once, so its statistics are those of all images."""
    net, images = make_net(), make_images(number)
    recalibrate(net, images.split(16), max_pixels=1)
    expected = naive_statistics(make_net(), images)
    check_close(statistics(net), {name: tensor for name, tensor in expected.items() if name.startswith("first")}, 1e-5)


POISONED = ["inf", "-inf", "nan", "1e38"]


@pytest.mark.parametrize("value", POISONED)
def test_what_the_statistics_were_makes_no_difference(value: str) -> None:
    """One overflow in training leaves infinite running statistics for good: no average ever forgets them."""

    def make() -> nn.Module:
        parts = (make_net(), nn.Unflatten(1, (4, 1, 1)), BatchNormAct2d(4), nn.SyncBatchNorm(4, momentum=None))
        return nn.Sequential(*parts)

    clean, poisoned = make(), make()
    for name, buffer in poisoned.named_buffers():
        if "num_batches" not in name:
            buffer.fill_(float(value))
    images = make_images(96)
    for net in (clean, poisoned):
        recalibrate(net, images.split(10), max_pixels=1)
    expected = statistics(clean)
    for name, buffer in statistics(poisoned).items():
        assert torch.equal(buffer, expected[name]), name
    assert bool(poisoned.eval()(images).isfinite().all())


class Twice(nn.Module):
    """Calls one norm on the images and, in all chunks but the first, on what it made of them, shifted."""

    calls = 0

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        result: Tensor = self.norm(images)
        return result if self.calls == 1 else self.norm(3 * result + 5)


def test_a_norm_that_is_called_several_times_pools_its_calls() -> None:
    images = make_images(64)
    first, second = images.split(32)
    mean, deviation = second.mean((0, 2, 3), keepdim=True), second.var((0, 2, 3), correction=0, keepdim=True).add(1e-5)
    seen = torch.cat([first, second, 3 * (second - mean) / deviation.sqrt() + 5])
    net = recalibrate(Twice(), [images], max_pixels=1)
    torch.testing.assert_close(net.norm.running_mean, seen.mean((0, 2, 3)), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(net.norm.running_var, seen.var((0, 2, 3)), rtol=1e-5, atol=1e-5)


def test_a_norm_that_never_measures_keeps_its_statistics() -> None:
    class Frozen(nn.BatchNorm2d):
        def forward(self, values: Tensor) -> Tensor:
            return nn.functional.batch_norm(values, self.running_mean, self.running_var, self.weight, self.bias)

    net = nn.Sequential(Frozen(3), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    net[0].running_mean.fill_(2.0)
    net[0].running_var.fill_(9.0)
    images = make_images(40)
    recalibrate(net, [images])
    assert net[0].running_mean.tolist() == [2.0] * 3
    assert net[0].running_var.tolist() == [9.0] * 3
    with torch.no_grad():
        expected = net[1]((images - 2) / (9 + 1e-5) ** 0.5).mean((0, 2, 3))
    torch.testing.assert_close(net[2].running_mean, expected, rtol=1e-4, atol=1e-5)


def test_statistics_that_training_does_not_track_but_evaluation_uses_are_measured() -> None:
    net = nn.BatchNorm2d(3)
    net.track_running_stats = False
    images = make_images(40)
    recalibrate(net, [images])
    torch.testing.assert_close(net.running_mean, images.mean((0, 2, 3)))
    assert not net.track_running_stats


@pytest.mark.parametrize("image", [7, 40])
def test_an_image_that_overflows_is_not_hidden(image: int) -> None:
    images = make_images(64)
    images[image] = float("inf")
    net = recalibrate(make_net(), [images], max_pixels=1).eval()
    assert bool(net(make_images(2)).isnan().all())


def test_a_single_image_is_refused_by_the_name_of_its_setting() -> None:
    net = make_net()
    before = statistics(net)
    with pytest.raises(ValueError, match=r"single value of a channel: .*at least 2 images .calibration_images"):
        recalibrate(net, [make_images(1)])
    assert all(torch.equal(buffer, before[name]) for name, buffer in statistics(net).items())


def test_later_layers_see_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within a chunk every layer normalises with the chunk's own statistics; the pooled ones follow from the chunks'."""
    images = make_images(96)
    net = recalibrate(make_net(), [images], max_pixels=1)
    moments = []
    for chunk in images.split(32):
        found = naive_statistics(make_net(), chunk)
        mean, variance = found["last.3.running_mean"], found["last.3.running_var"] * 31 / 32
        moments.append((mean, variance + mean.square()))
    mean = sum(first for first, _ in moments) / 3
    variance = (sum(second for _, second in moments) / 3 - mean.square()) * 96 / 95
    check_close(statistics(net), {"last.3.running_mean": mean, "last.3.running_var": variance}, 1e-3)
    assert not torch.allclose(
        net.last[3].running_var, naive_statistics(make_net(), images)["last.3.running_var"].float()
    )


def test_chunks_hold_as_many_pixels_as_allowed() -> None:
    seen: list[int] = []

    class Watched(Net):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(len(images))
            return super().forward(images)

    recalibrate(Watched(), make_images(200).split(30), max_pixels=64 * 50)
    assert seen == [50, 50, 50, 50]
    seen.clear()
    recalibrate(Watched(), make_images(200, size=16).split(30), max_pixels=64 * 50)
    assert seen == [32] * 6 + [8]


def test_no_chunk_holds_a_single_image() -> None:
    """One value of a channel has no variance: a layer behind the pooling would refuse it."""
    net = recalibrate(make_net(), make_images(65).split(8), max_pixels=1)
    check_close(
        statistics(net),
        {
            name: value
            for name, value in naive_statistics(make_net(), make_images(65)).items()
            if name.startswith("first")
        },
    )


# What stays as it was ------------------------------------------------------------------------------------------------


def test_weights_modes_momenta_and_counts_stay() -> None:
    net = make_net()
    net.first[1].momentum = None
    net.second[2].momentum = 0.3
    net.second.eval()
    net.first[1].num_batches_tracked.fill_(17)
    weights = {name: parameter.clone() for name, parameter in net.named_parameters()}
    modes = [layer.training for layer in net.modules()]
    assert len(set(modes)) == 2
    recalibrate(net, [make_images(40)])
    assert all(torch.equal(parameter, weights[name]) for name, parameter in net.named_parameters())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert [layer.training for layer in net.modules()] == modes
    assert (net.first[1].momentum, net.second[2].momentum, net.last[3].momentum) == (None, 0.3, 0.1)
    assert net.first[1].num_batches_tracked == 17
    assert not net.first[1]._forward_pre_hooks


def test_it_is_the_same_twice() -> None:
    net = recalibrate(make_net(), [make_images(50)])
    before = statistics(net)
    recalibrate(net, [make_images(50)])
    assert all(torch.equal(buffer, before[name]) for name, buffer in statistics(net).items())


def failing_images() -> Iterator[Tensor]:
    yield make_images(32)
    raise OSError("a disk fails")


class Fragile(Net):
    """Fails in its second chunk."""

    calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        logits = super().forward(images)
        if self.calls == 2:
            raise RuntimeError("out of memory")
        return logits


@pytest.mark.parametrize(
    ("images", "error"),
    [
        (lambda: make_images(96).split(32), RuntimeError),
        (failing_images, OSError),
        (lambda: [make_images(32), make_images(32, size=9)[:, :2]], RuntimeError),
    ],
    ids=["module", "images", "shape"],
)
def test_a_failure_leaves_everything_as_it_was(images: Callable[[], Iterator[Tensor]], error: type[Exception]) -> None:
    torch.manual_seed(0)
    net = Fragile()
    net.load_state_dict(make_net().state_dict())
    net.second.eval()
    net.first[1].momentum = None
    before, modes = statistics(net), [layer.training for layer in net.modules()]
    with pytest.raises(error):
        recalibrate(net, images(), max_pixels=1)
    assert all(torch.equal(buffer, before[name]) for name, buffer in statistics(net).items())
    assert [layer.training for layer in net.modules()] == modes
    assert (net.first[1].momentum, net.second[2].momentum) == (None, 0.1)
    assert not any(layer._forward_pre_hooks for layer in net.modules())


def test_without_images() -> None:
    net = make_net()
    before = statistics(net)
    with pytest.raises(ValueError, match="at least one batch of images"):
        recalibrate(net, [])
    assert all(torch.equal(buffer, before[name]) for name, buffer in statistics(net).items())


def test_a_network_without_batch_norm() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.BatchNorm2d(4, track_running_stats=False))
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    recalibrate(net, [make_images(4)])
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert net.training


def test_parts_of_a_norm_stay_off() -> None:
    """timm's BatchNorm has an activation and dropout of its own."""
    net = nn.Sequential(BatchNormAct2d(3, drop_layer=lambda: nn.Dropout(0.9)), nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    with torch.no_grad():
        plain = make_images(64) - make_images(64).mean((0, 2, 3), keepdim=True)
        plain = plain / (plain.square().mean((0, 2, 3), keepdim=True) + 1e-5).sqrt()
        expected = net[1](plain.relu()).mean((0, 2, 3))
    recalibrate(net, [make_images(64)])
    torch.testing.assert_close(net[2].running_mean, expected, rtol=1e-4, atol=1e-5)


def test_a_norm_that_is_not_reached_keeps_its_statistics() -> None:
    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.BatchNorm2d(3), nn.BatchNorm2d(3)
            self.unused.running_mean.fill_(5.0)
            self.unused.running_var.fill_(7.0)

        def forward(self, images: Tensor) -> Tensor:
            result: Tensor = self.used(images)
            return result

    net = recalibrate(Branch(), make_images(96).split(10), max_pixels=1)
    assert net.unused.running_mean.tolist() == [5.0] * 3
    assert net.unused.running_var.tolist() == [7.0] * 3
    torch.testing.assert_close(net.used.running_mean, make_images(96).mean((0, 2, 3)))

"""Subnets of timm's models as plain models of timm: the files, and the function in the card that loads them."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from space_examples import SPACES, images
from timm.data import resolve_model_data_config
from timm.models._features import FeatureGetterNet, FeatureListNet
from torch import Tensor, nn

from oneshot.arch import Arch
from oneshot.config.own_code import run_code
from oneshot.export import ExportSettings
from oneshot.pipeline.export import export_subnet
from oneshot.pipeline.folders import Subnet
from oneshot.pipeline.timm_files import timm_files
from oneshot.spaces import NetworkSpace, SearchSpace, TimmSpace
from oneshot.spaces.plain import in_plain_values

CARD = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.2, 0.3], "interpolation": "bilinear", "crop_pct": 0.9, "macs": 1234567}


def subnet_of(space: SearchSpace, arch: Arch) -> Subnet:
    torch.manual_seed(0)
    network = space.network(arch)
    for name, buffer in network.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 1.5)
    return Subnet(space, arch, network.state_dict(), {}, {**CARD, "classes": list("abcde")})


def printed_function(folder: Path) -> Callable[..., Any]:
    """What the card prints, run as somebody who copied it would."""
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(code, names)
    load: Callable[..., Any] = names["load_model"]
    return load


def write(subnet: Subnet, folder: Path) -> Callable[..., Any]:
    for name, content in timm_files(subnet, subnet.card).files.items():
        (folder / name).write_bytes(content)
    return printed_function(folder)


def logits(network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = network(x)
    return found


@pytest.mark.parametrize(("known", "told"), [({}, False), ({"image_size": 32}, False), ({"image_size": 48}, True)])
def test_images_that_are_prepared_in_two_steps_are_told(known: dict[str, int], told: bool, tmp_path: Path) -> None:
    space = TimmSpace("test_resnet", 5, 32)
    subnet = subnet_of(space, space.largest)
    text = timm_files(subnet, subnet.card | known | {"resize": "first so, then so"}).files["README.md"].decode()
    assert ("# the accuracies above are of images prepared in another way: first so, then so\n" in text) == told


# Position embeddings and heads; gates; a stem whose output timm lists among the features.
@pytest.mark.parametrize(("model", "size"), [("test_vit", 48), ("test_efficientnet", 32), ("test_resnet", 32)])
def test_what_the_card_prints_loads_the_same_network(model: str, size: int, tmp_path: Path) -> None:
    space = TimmSpace(model, 5, size, width_ratios=(0.5, 1.0), input_ratios=(0.7, 1.0))
    for arch in (space.smallest, space.sample(random.Random(0))):
        subnet = subnet_of(space, arch)
        load = write(subnet, tmp_path)
        x = images(space, arch)
        assert torch.equal(logits(load(tmp_path), x), logits(subnet.module(), x))

        prepared = resolve_model_data_config(load(tmp_path))
        assert tuple(prepared["input_size"]) == space.input_shape(arch)
        assert {name: prepared[name] for name in ("interpolation", "crop_pct")} == {
            "interpolation": "bilinear",
            "crop_pct": 0.9,
        }
        assert list(prepared["mean"]) == CARD["mean"]

        grey, mixed = load(tmp_path, in_chans=1), x.mean(1, keepdim=True)
        torch.testing.assert_close(logits(grey, mixed), logits(subnet.module(), mixed.expand(x.shape)))

        fewer = load(tmp_path)
        fewer.reset_classifier(2)
        assert logits(fewer, x).shape == (len(x), 2)

        for number in (3, 0):
            other = load(tmp_path, num_classes=number)
            assert other.num_classes == number
            expected = load(tmp_path)
            expected.reset_classifier(number)
            body, features = (logits(one.forward_features, x) for one in (other, expected))
            assert torch.equal(body, features)
            assert logits(other, x).shape == (len(x), number or other.head_hidden_size)
        assert torch.equal(logits(load(tmp_path, num_classes=5, drop_rate=0.2), x), logits(subnet.module(), x))
        with pytest.raises(ValueError, match=rf"are not those of a {model} with {{'features_only': True}}"):
            load(tmp_path, features_only=True)
        with pytest.raises(ValueError, match=r"the weights are those in .*: leave out pretrained"):
            load(tmp_path, pretrained=True)

        backbone = FeatureGetterNet(load(tmp_path), out_indices=(0, 1, 2))
        with torch.no_grad():
            features = backbone(x)
        assert [feature.shape[1] for feature in features] == backbone.feature_info.channels()
    if model == "test_resnet":
        listed = FeatureListNet(load(tmp_path), out_indices=(0, 1))
        with torch.no_grad():
            assert [feature.shape[1] for feature in listed(x)] == listed.feature_info.channels()
        assert listed.feature_info.channels()[0] < 64


def test_models_that_know_the_size_of_images_take_another(tmp_path: Path) -> None:
    space = TimmSpace("test_vit", 5, 48, width_ratios=(0.5, 1.0), input_ratios=(1.0,))
    subnet = subnet_of(space, space.smallest)
    load, x = write(subnet, tmp_path), torch.randn(2, 3, 64, 64)
    larger = load(tmp_path, img_size=64)
    assert logits(larger, x).shape == (2, 5)
    assert resolve_model_data_config(larger)["input_size"] == (3, 64, 64)
    dynamic = load(tmp_path, dynamic_img_size=True)  # resamples position embeddings alike
    torch.testing.assert_close(logits(larger, x), logits(dynamic, x))
    for options in ({"global_pool": "avg"}, {"patch_size": 8}):
        with pytest.raises(ValueError, match="are not those of a test_vit with"):
            load(tmp_path, **options)
    space = TimmSpace("test_resnet", 5, 32, input_ratios=(1.0,))
    load = write(subnet_of(space, space.smallest), tmp_path)
    with pytest.raises(ValueError, match="a test_resnet has no img_size to set"):
        load(tmp_path, img_size=64)
    assert logits(load(tmp_path, global_pool="max"), x).shape == (2, 5)


def test_the_size_of_the_card_changes_nothing(tmp_path: Path) -> None:
    """Swin's windows fit the size that it was made for, and would be others for the smaller size of a subnet."""
    space = TimmSpace("swin_tiny_patch4_window7_224", 5, 64, width_ratios=(0.5, 1.0), input_ratios=(0.75, 1.0))
    subnet = subnet_of(space, space.smallest)
    load, x = write(subnet, tmp_path), torch.randn(2, 3, 48, 48)
    for size in (48, (48, 48)):
        assert torch.equal(logits(load(tmp_path, img_size=size), x), logits(load(tmp_path), x))


def test_a_new_classifier_reads_what_the_narrower_layer_before_it_gives() -> None:
    with torch.device("meta"):
        original, narrow = (timm.create_model("hgnetv2_b0", num_classes=5) for _ in range(2))
        narrow.head.last_conv = nn.Conv2d(narrow.num_features, 512, 1, bias=False)
        narrow.head.fc = nn.Linear(512, 5)
    numbers = in_plain_values(narrow, original, (3, 32, 32)).numbers
    assert numbers[""] == {"head_hidden_size": 512}
    assert numbers["head"] == {"num_features": 512}


def test_an_exported_model_is_checked_where_oneshot_cannot_be_imported(tmp_path: Path) -> None:
    space = TimmSpace("test_vit", 5, 32, width_ratios=(0.5, 1.0), input_ratios=(1.0,))
    subnet = subnet_of(space, space.smallest)
    exported = export_subnet(subnet, tmp_path, ExportSettings("timm"))
    assert exported.max_abs_difference <= 1e-6
    assert exported.path == tmp_path / "model.safetensors"
    x = images(space, space.smallest)
    assert torch.equal(logits(printed_function(tmp_path)(tmp_path), x), logits(subnet.module(), x))
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architecture"] == "test_vit"
    assert config["label_names"] == list("abcde")
    gone = [f"blocks.{i}" for i in range(6) if i >= space.smallest.integer("blocks.depth")]
    assert config["narrowed"]["left_out"] == gone
    assert json.loads((tmp_path / "model.json").read_text())["format"] == "timm"


def test_a_network_of_ones_own_is_narrowed_in_the_same_way(tmp_path: Path) -> None:
    space = NetworkSpace("torchvision:shufflenet_v2_x0_5", 5, 32, input_ratios=(1.0,))
    subnet = subnet_of(space, space.smallest)
    load = write(subnet, tmp_path)
    x = images(space, space.smallest)
    fresh = torchvision.models.get_model("shufflenet_v2_x0_5", num_classes=5)
    assert torch.equal(logits(load(tmp_path, fresh), x), logits(subnet.module(), x))
    with pytest.raises(ValueError, match="not for a network of your own"):
        load(tmp_path, fresh, num_classes=3)


def test_the_file_of_ones_own_network_may_have_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "neighbour_of_own_net.py").write_text("WIDTH = 32\n")
    (own / "own_net.py").write_text(
        "from torch import nn\nfrom neighbour_of_own_net import WIDTH\n\n\ndef build(num_classes):\n"
        "    return nn.Sequential(nn.Conv2d(3, 8, 3, 4), nn.Sequential(nn.Conv2d(8, WIDTH, 1), nn.ReLU(), nn.Conv2d(WIDTH, 8, 1))"
        ", nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))\n"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    run_code([str(own / "own_net.py")])
    try:
        space = NetworkSpace("own_net.py:build", 5, 32, input_ratios=(1.0,))
        exported = export_subnet(subnet_of(space, space.smallest), tmp_path / "out", ExportSettings("timm"))
    finally:
        for name in ("own_net", "neighbour_of_own_net"):
            sys.modules.pop(name, None)
    assert exported.max_abs_difference <= 1e-6


def test_networks_that_only_oneshot_builds_are_told_what_takes_them(tmp_path: Path) -> None:
    space = SPACES["nasbench_macro"]()
    with pytest.raises(ValueError, match=r"format=timm is for networks of \+space=timm .*NASBenchMacro are built by"):
        export_subnet(subnet_of(space, space.smallest), tmp_path, ExportSettings("timm"))
    space = SPACES["timm_vit"]()
    with pytest.raises(ValueError, match=r"half=true is not for format=timm"):
        export_subnet(subnet_of(space, space.smallest), tmp_path, ExportSettings("timm", half=True))
    assert not list(tmp_path.glob("model*"))

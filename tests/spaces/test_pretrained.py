"""Spaces that start from trained weights: every kind of file, and files of something else."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from space_examples import images
from torch import nn

from oneshot.reading import read_torch
from oneshot.spaces import NetworkSpace, SearchSpace, TimmSpace
from oneshot.spaces.loading import from_definition
from oneshot.supernet import Supernet

MODEL = "test_efficientnet"


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    torch.manual_seed(7)
    return timm.create_model(MODEL, num_classes=5).eval()


def saved(folder: Path, kind: str, state: dict[str, Any]) -> Path:
    path = folder / f"weights.{'safetensors' if kind == 'safetensors' else 'pth'}"
    others = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    arguments = argparse.Namespace(model=MODEL, lr=0.1)
    contents: dict[str, Any] = {
        "state dict": state,
        "module": {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}},
        "train.py": {"epoch": 3, "arch": MODEL, "state_dict": state, "optimizer": {"lr": 1.0}, "args": arguments},
        "average": {"state_dict": others, "state_dict_ema": state, "args": arguments},
    }
    save_file(state, path) if kind == "safetensors" else torch.save(contents[kind], path)
    return path


@pytest.mark.parametrize("kind", ["state dict", "module", "train.py", "average", "safetensors"])
def test_the_largest_network_has_the_weights_of_the_file(kind: str, trained: nn.Module, tmp_path: Path) -> None:
    space = TimmSpace(MODEL, 5, 32, str(saved(tmp_path, kind, trained.state_dict())))
    x = images(space, space.largest)
    assert torch.equal(Supernet(space).eval()(x, space.largest), trained(x))
    assert space.starts_trained


def test_a_classifier_for_other_classes_is_fresh(trained: nn.Module, tmp_path: Path) -> None:
    space = TimmSpace(MODEL, 3, 32, str(saved(tmp_path, "state dict", trained.state_dict())))
    network = Supernet(space).extract(space.largest)
    assert network.classifier.out_features == 3  # type: ignore[union-attr]
    assert not any(tensor.any() for tensor in network.classifier.parameters())  # type: ignore[union-attr]
    assert torch.equal(network.conv_head.weight, trained.conv_head.weight)  # type: ignore[union-attr, arg-type]


def test_positions_are_resampled_as_timm_does(tmp_path: Path) -> None:
    torch.manual_seed(0)
    trained = timm.create_model("test_vit", num_classes=5, img_size=64)
    path = saved(tmp_path, "state dict", trained.state_dict())
    space = TimmSpace("test_vit", 5, 48, str(path))
    expected = timm.layers.resample_abs_pos_embed(
        trained.pos_embed, (3, 3), num_prefix_tokens=trained.num_prefix_tokens
    )
    torch.testing.assert_close(Supernet(space).bank.pos_embed.value, expected)  # type: ignore[union-attr, arg-type]


def test_a_checkpoint_needs_no_weights(trained: nn.Module, tmp_path: Path) -> None:
    path = saved(tmp_path, "state dict", trained.state_dict())
    space = TimmSpace(MODEL, 5, 32, str(path))
    path.unlink()
    again = from_definition(space.definition)
    assert again.definition == space.definition
    assert not again.starts_trained
    assert str(again.network(again.largest)) == str(space._skeleton)


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("code_was_run",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": {"weight": Evil()}}, "holds more than tensors and plain values"),
        (
            torch.nn.Identity(),
            r"more than tensors and plain values, torch\.nn\..*Identity, .* save the state dict alone",
        ),
        ({"epoch": 3}, "holds no state dict: epoch is no tensor"),
        ({}, "holds no state dict"),
        (b"no file of weights", "no file of weights: it does not begin as a PyTorch file does"),
        (b"hello", "no file of weights: it does not begin as a PyTorch file does"),
        (b"PK and no more", "no file of weights, or damaged"),
    ],
)
def test_a_file_of_something_else(content: Any, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("weights.pt").write_bytes(content) if isinstance(content, bytes) else torch.save(content, "weights.pt")
    with pytest.raises(ValueError, match=message):
        TimmSpace(MODEL, 5, 32, "weights.pt")
    assert not Path("code_was_run").exists()


def test_text_is_no_pytorch_file(tmp_path: Path) -> None:
    path = tmp_path / "text.pt"
    path.write_text("hello")
    with pytest.raises(
        ValueError, match=r"text\.pt is truncated, damaged or no PyTorch file: it does not begin like one$"
    ):
        read_torch(path)


def test_weights_of_another_network(trained: nn.Module, tmp_path: Path) -> None:
    path = saved(tmp_path, "state dict", trained.state_dict())
    with pytest.raises(
        ValueError, match=r"another network than ResNet: it lacks conv1.+ and \d+ more; it has conv_stem"
    ):
        TimmSpace("test_resnet", 5, 32, str(path))
    changed = trained.state_dict() | {"conv_head.weight": torch.zeros(3, 3)}
    path = saved(tmp_path, "state dict", changed)
    with pytest.raises(ValueError, match=r"EfficientNet: conv_head.weight is \(3, 3\), not \("):
        TimmSpace(MODEL, 5, 32, str(path))
    with pytest.raises(FileNotFoundError, match="there are no weights nowhere"):
        TimmSpace(MODEL, 5, 32, "nowhere.pt")


def test_weights_that_cannot_be_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*address: Any) -> None:
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", unknown)
    monkeypatch.setattr("oneshot.spaces.timm_space._is_cached", lambda found: False)
    with pytest.raises(
        ValueError, match=r"test_resnet cannot be downloaded \(huggingface.co: Name or service not known\)"
    ):
        TimmSpace("test_resnet", 5, 32, "pretrained")
    with pytest.raises(ValueError, match="timm has no pretrained weights of levit_384_s8"):
        TimmSpace("levit_384_s8", 5, 224, "pretrained")


@pytest.mark.parametrize("name", ["tf_efficientnet_lite", "hf-hub:timm/resnet18.a1_in1k", "resnet18.a9_in1k"])
def test_an_unknown_model(name: str) -> None:
    with pytest.raises(ValueError, match=f"timm has no model {name!r}.*did you mean '"):
        TimmSpace(name, 5, 32)


def test_images_are_prepared_as_for_the_weights() -> None:
    arguments = {"model": "tf_efficientnet_lite0", "weights": "file.pt"}
    expected = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "usual_crop_pct": 0.875}
    assert TimmSpace.data_defaults(arguments) == expected
    assert TimmSpace.data_defaults(arguments | {"weights": None}) == {}
    for space in (SearchSpace, NetworkSpace):
        assert space.data_defaults(arguments) == {}


def test_values_that_are_not_finite_are_the_files(tmp_path: Path) -> None:
    state = timm.create_model(MODEL, num_classes=5).state_dict()
    name = next(iter(state))
    state[name].view(-1)[0] = float("nan")
    torch.save(state, tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=rf"weights\.pt holds values that are not finite, in {name}$"):
        TimmSpace(MODEL, 5, 32, str(tmp_path / "weights.pt"))

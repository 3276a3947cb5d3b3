"""The precision and the opset of exported files."""

import json
from pathlib import Path

import pytest
import torch
from exported_networks import (
    FORKED,
    HAS_ONNX,
    INPUT_SHAPE,
    NUM_CLASSES,
    ONNX,
    built,
    exported_file,
    load_exported,
    small_network,
)
from torch import nn

from oneshot import export

# Precision and opset ------------------------------------------------------------------------------------------------


def _wide() -> nn.Module:
    layers = [nn.Conv2d(3, 128, 3, 2, 1), nn.BatchNorm2d(128), nn.Hardswish(), nn.Conv2d(128, 128, 3, padding=1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, NUM_CLASSES)).eval()


@FORKED
@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning", "ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("format", ["torchscript", ONNX, "pt2"])
def test_float16_files_are_half_as_large_and_used_like_the_others(format: str, tmp_path: Path) -> None:
    module = built(_wide)
    half = exported_file(module, tmp_path, format, half=True, batch_sizes=(1,))
    weights = sum(tensor.numel() for tensor in module.state_dict().values())
    assert half.path.stat().st_size < 2 * weights + 60_000 < 4 * weights
    card = json.loads(half.card.read_text())
    assert card["precision"] == "float16 inside, float32 images and logits"
    assert card["verification"]["tolerance"] == export.HALF_TOLERANCE
    assert 0 < half.max_abs_difference < export.HALF_TOLERANCE
    images = torch.randn(3, *INPUT_SHAPE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits, expected = load_exported(half)(images), module(images)
    assert logits.dtype == torch.float32
    assert torch.allclose(logits, expected, atol=export.HALF_TOLERANCE)
    assert all(parameter.dtype == torch.float32 for parameter in module.parameters())


@FORKED
def test_what_overflows_in_float16_is_refused(tmp_path: Path) -> None:
    module = built(small_network)
    with torch.no_grad():
        module[1].weight.mul_(1e6)
    with pytest.raises(RuntimeError, match=r"not finite for a batch of 1: values overflow .* no file was kept"):
        exported_file(module, tmp_path, half=True)
    assert list(tmp_path.iterdir()) == []


@FORKED
@pytest.mark.skipif(not HAS_ONNX, reason="needs the onnx extra")
@pytest.mark.parametrize("opset", [13, 18])
def test_an_onnx_file_has_the_opset_that_was_asked_for(opset: int, tmp_path: Path) -> None:
    import onnx

    exported = exported_file(built(_wide), tmp_path, "onnx", opset=opset)
    found = {entry.domain: entry.version for entry in onnx.load(exported.path).opset_import}
    assert found[""] == opset == json.loads(exported.card.read_text())["opset"]
    assert exported.max_abs_difference < 1e-5


@pytest.mark.parametrize(
    ("format", "opset", "message"),
    [
        ("onnx", 12, "opset is a number from 13 to 23, not 12"),
        ("onnx", 99, "opset is a number from 13 to 23, not 99"),
        ("onnx", "13", "opset is a number from 13 to 23, not '13'"),
        ("onnx", True, "opset is a number from 13 to 23, not True"),
        ("pt2", 18, "format=pt2 has none"),
        ("torchscript", 18, "format=torchscript has none"),
    ],
)
def test_a_wrong_opset_says_which_there_are(format: str, opset: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        exported_file(small_network(), tmp_path / "folder", format, opset=opset)
    assert not (tmp_path / "folder").exists()

"""Networks that are exported in tests."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from oneshot.export import Exported, ExportSettings, export_module

INPUT_SHAPE = (3, 16, 16)
NUM_CLASSES = 7
HAS_ONNX = all(importlib.util.find_spec(package) for package in ("onnx", "onnxscript", "onnxruntime"))
FORKED = pytest.mark.usefixtures("forked_checks")  # the other tests start an interpreter for the check, as users do
ONNX = pytest.param("onnx", marks=pytest.mark.skipif(not HAS_ONNX, reason="needs the onnx extra"))


def small_network() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, NUM_CLASSES))


def built(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


def exported_file(module: nn.Module, folder: Path, format: str = "torchscript", **options: Any) -> Exported:
    card = options.pop("card", {"architecture": [1, 2]})
    shape = options.pop("input_shape", INPUT_SHAPE)
    return export_module(module, folder, ExportSettings(format, **options), input_shape=shape, card=card)


def load_exported(exported: Exported) -> Callable[[Tensor], Tensor]:
    if exported.format == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
        assert [node.name for node in session.get_outputs()] == ["logits"]
        return lambda images: torch.from_numpy(session.run(None, {"image": images.numpy()})[0])
    if exported.format == "torchscript":
        return torch.jit.load(exported.path)
    return torch.export.load(exported.path).module()

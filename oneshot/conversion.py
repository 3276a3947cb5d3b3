"""Conversion of networks to the formats of export: TorchScript, ONNX and torch.export."""

import copy
import io
import logging
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

FORMATS: Mapping[str, str] = {"torchscript": ".ts", "onnx": ".onnx", "pt2": ".pt2"}
"""Suffix of the file that each format writes."""

OPSETS = range(13, 24)
"""Versions of ONNX's operators that a file can be written in."""

DEFAULT_OPSET = 20
_FIRST_NATIVE_OPSET = 18  # below it, torch's exporter of today keeps 18, so its earlier one writes the file

INPUT_NAME = "image"
OUTPUT_NAME = "logits"


class Half(nn.Module):
    """``network`` in float16 between images and logits in float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).half()

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.network(image.half())
        return logits.float()


def convert(network: nn.Module, image: Tensor, format: str, opset: int | None) -> tuple[bytes, str]:
    """The bytes of the exported file and a word on how they were made.

    The bytes are made in memory because torch's writers report a full disk as a RuntimeError without an errno.
    """
    converters: dict[str, Callable[[nn.Module, Tensor], tuple[bytes, str]]] = {
        "torchscript": _to_torchscript,
        "onnx": partial(_to_onnx, opset=DEFAULT_OPSET if opset is None else opset),
        "pt2": _to_pt2,
    }
    # The one place where warnings are silenced: TorchScript announces its deprecation at every submodule, tracing warns
    # of what the check below decides, and the ONNX exporter warns and logs of its own internals. None is the user's to act on.
    exporter_logs = [logging.getLogger(name) for name in ("onnx_ir", "onnxscript")]
    levels = [exporter_log.level for exporter_log in exporter_logs]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        for exporter_log in exporter_logs:
            exporter_log.setLevel(logging.WARNING)
        try:
            return converters[format](network, image)
        except OSError:
            raise
        except Exception as error:
            raise RuntimeError(
                f"the module cannot be exported as {format}: {first_line(error.__cause__ or error)}"
            ) from error
        finally:
            for exporter_log, level in zip(exporter_logs, levels, strict=True):
                exporter_log.setLevel(level)


def _to_torchscript(network: nn.Module, image: Tensor) -> tuple[bytes, str]:
    try:
        frozen, conversion = torch.jit.freeze(torch.jit.script(network)), "script"
    except Exception:  # the compiler raises whatever the construct that it does not know leads to
        frozen, conversion = torch.jit.freeze(torch.jit.trace(network, image)), "trace"
    buffer = io.BytesIO()
    torch.jit.save(frozen, buffer)
    return buffer.getvalue(), conversion


def _to_onnx(network: nn.Module, image: Tensor, opset: int) -> tuple[bytes, str]:
    write = _onnx_of_today if opset >= _FIRST_NATIVE_OPSET else _onnx_by_tracing
    data, found = write(network, image, opset)
    if found != opset:
        raise RuntimeError(f"torch {torch.__version__} writes opset {found} where {opset} is wanted")
    return data, f"opset {opset}"


def _onnx_by_tracing(network: nn.Module, image: Tensor, opset: int) -> tuple[bytes, int]:
    import onnx

    buffer = io.BytesIO()
    torch.onnx.export(
        network,
        (image,),
        buffer,  # type: ignore[arg-type]  # taken all the same
        dynamo=False,
        opset_version=opset,
        dynamic_axes={INPUT_NAME: {0: "batch"}, OUTPUT_NAME: {0: "batch"}},
        input_names=[INPUT_NAME],
        output_names=[OUTPUT_NAME],
        verbose=False,
    )
    data = buffer.getvalue()
    return data, _opset_of(onnx.load_model_from_string(data))


def _onnx_of_today(network: nn.Module, image: Tensor, opset: int) -> tuple[bytes, int]:
    program = torch.onnx.export(
        network,
        (image,),
        dynamo=True,
        opset_version=opset,
        external_data=False,
        dynamic_shapes=({0: "batch"},),
        input_names=[INPUT_NAME],
        output_names=[OUTPUT_NAME],
        verbose=False,
    )
    assert program is not None
    return program.model_proto.SerializeToString(), _opset_of(program.model_proto)


def _opset_of(model: Any) -> int:
    return next(int(entry.version) for entry in model.opset_import if entry.domain == "")


def _to_pt2(network: nn.Module, image: Tensor) -> tuple[bytes, str]:
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(network, (image,), dynamic_shapes=({0: batch},))
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    return buffer.getvalue(), "torch.export"


def first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)

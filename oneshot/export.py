"""Exports of a trained network to TorchScript, ONNX or torch.export, checked in a process that lacks this package.

The file is built in memory, written beside its destination and renamed into place only after a fresh Python process, in
which ``oneshot`` cannot be imported, has reloaded it and reproduced the network's logits at several batch sizes.
"""

import copy
import importlib
import json
import logging
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy
import torch
from torch import Tensor, nn

from oneshot.arch import suggest
from oneshot.conversion import (
    DEFAULT_OPSET,
    FORMATS,
    INPUT_NAME,
    OPSETS,
    OUTPUT_NAME,
    Half,
    convert,
    first_line,
)
from oneshot.reading import read_json
from oneshot.runs import fingerprint, write_atomically, write_json

log = logging.getLogger(__name__)

__all__ = [
    "DEFAULT_OPSET",
    "FORMATS",
    "HALF_TOLERANCE",
    "JSON",
    "OPSETS",
    "TIMM",
    "TIMM_TOLERANCE",
    "TOLERANCE",
    "ExportSettings",
    "Exported",
    "TimmFiles",
    "export_module",
]

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"

TOLERANCE, HALF_TOLERANCE, TIMM_TOLERANCE = 1e-4, 2e-2, 1e-6
TIMM = "timm"
"""The format of networks that are to be modules again, beside those of ``FORMATS``."""

_WRITTEN_KEYS = (
    "format",
    "precision",
    "opset",
    "file",
    "bytes",
    "sha256",
    "torch",
    "inputs",
    "outputs",
    "verification",
    "conversion",
)
_VERIFY_TIMEOUT_SECONDS = 600

# Runs under ``python -I -c``: only what a user of the exported file would have, never the code that produced it. The site
# directories are handed over because -I also hides a per-user installation of torch.
_VERIFIER = """
import sys
sys.modules["oneshot"] = None
format, path, inputs, outputs, threads, *site_directories = sys.argv[1:]
sys.path += [directory for directory in site_directories if directory not in sys.path]
import numpy
if format == "onnx":
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    def run(image):
        return session.run(None, {"image": image})[0]
elif format == "timm":
    import runpy, torch
    torch.set_num_threads(int(threads))
    module = runpy.run_path(path)["model"]
    def run(image):
        with torch.no_grad():
            return module(torch.from_numpy(image)).numpy()
else:
    import torch
    torch.set_num_threads(1)
    module = torch.jit.load(path) if format == "torchscript" else torch.export.load(path).module()
    def run(image):
        with torch.no_grad():
            return module(torch.from_numpy(image)).numpy()
images = numpy.load(inputs)
numpy.savez(outputs, **{name: run(images[name]) for name in images.files})
"""


@dataclass(frozen=True)
class ExportSettings:
    """The file to write, and how closely it is checked.

    Args:
        format: one of ``FORMATS``, or ``TIMM``.
        opset: the version of ONNX's operators, ``DEFAULT_OPSET`` where None, and only for ONNX.
        half: the weights and everything inside are float16, at half the size; images and logits stay float32, so that the file is
            used like any other.
        batch_sizes: of the random images whose logits must be reproduced.
        tolerance: how far logits may be off, absolute where the largest is below 1 and relative to it above. None is
            ``TOLERANCE``, or with ``half``, whose logits are compared with the float32 network's, ``HALF_TOLERANCE``, and of
            format "timm" ``TIMM_TOLERANCE``.

    Raises:
        ValueError: an unknown format, an opset that cannot be written, a bad batch size or tolerance.
    """

    format: str
    opset: int | None = None
    half: bool = False
    batch_sizes: Sequence[int] = (1, 5)
    tolerance: float | None = None

    def __post_init__(self) -> None:
        formats = [*FORMATS, TIMM]
        if self.format not in formats:
            hint = suggest(self.format, formats)
            raise ValueError(f"unknown export format {self.format!r} (allowed: {', '.join(formats)}){hint}")
        if self.half and self.format == TIMM:
            raise ValueError("half=true is not for format=timm: what loads its file can be turned to float16 by half()")
        if not self.batch_sizes or any(size < 1 for size in self.batch_sizes):
            raise ValueError(f"batch_sizes must be one or more positive numbers, got {tuple(self.batch_sizes)}")
        if self.tolerance is not None and not 0 < self.tolerance < float("inf"):
            raise ValueError(f"tolerance must be a positive number, got {self.tolerance}")
        if self.opset is None:
            return
        if self.format != "onnx":
            raise ValueError(f"opset is a version of ONNX's operators: format={self.format} has none")
        if isinstance(self.opset, bool) or not isinstance(self.opset, int) or self.opset not in OPSETS:
            raise ValueError(f"opset is a number from {OPSETS[0]} to {OPSETS[-1]}, not {self.opset!r}")


@dataclass(frozen=True)
class Exported:
    """A verified export: the file, its card, and the largest absolute difference of its logits from the network's."""

    path: Path
    card: Path
    format: str
    max_abs_difference: float
    batch_sizes: tuple[int, ...]


@dataclass(frozen=True)
class TimmFiles:
    """What ``format="timm"`` writes.

    Args:
        files: by name, the weights first.
        loading: Python source that sets ``model`` to the network in the current folder.
    """

    files: Mapping[str, bytes]
    loading: str


def export_module(
    module: nn.Module,
    folder: Path,
    settings: ExportSettings,
    *,
    input_shape: tuple[int, int, int],
    card: Mapping[str, JSON],
    timm_files: TimmFiles | None = None,
) -> Exported:
    """Writes ``folder/model.<suffix>`` and its card ``folder/model.json``, and checks the file in a fresh process.

    The exported network is a float32 copy on the CPU in eval mode; ``module`` keeps its mode, device and memory format.
    It maps images ``(batch, channels, height, width)`` with any batch of at least 1 to logits ``(batch, ...)``.
    ``input_shape`` is ``(channels, height, width)``. The card holds ``card`` and the file's format, name, bytes, SHA-256,
    torch version, input and output names and shapes, and the result of the check.

    What lies in ``folder`` is replaced only by a file that reproduces the logits of random images. ``timm_files`` are what is
    written, and checked, with format "timm".

    Raises ValueError for missing optional packages, a bad shape or card, or a module that does not map images to one tensor of
    logits; RuntimeError where the conversion or the check fails; OSError where ``folder`` cannot be written. Nothing new is left
    in ``folder`` when it raises.
    """
    format, half, tolerance = settings.format, settings.half, settings.tolerance
    if tolerance is None:
        tolerance = HALF_TOLERANCE if half else TIMM_TOLERANCE if format == TIMM else TOLERANCE
    if (format == TIMM) != (timm_files is not None):
        raise ValueError(f"timm_files are for format {TIMM!r}, which needs them")
    opset = DEFAULT_OPSET if format == "onnx" and settings.opset is None else settings.opset
    if len(input_shape) != 3 or any(size < 1 for size in input_shape):
        raise ValueError(f"input_shape must be three positive sizes (channels, height, width), got {input_shape}")
    _check_card(card)
    _check_folder(folder, next(iter(timm_files.files)) if timm_files is not None else f"model{FORMATS[format]}")
    if format == "onnx":
        _require_onnx()
    network = _inference_copy(module)
    images = {size: _random_images(size, input_shape) for size in dict.fromkeys(settings.batch_sizes)}
    expected = {size: _logits(network, image) for size, image in images.items()}
    # A batch that is not among those checked, so that a file with the example's batch baked in cannot pass.
    example_batch = next(size for size in range(2, len(images) + 3) if size not in images)

    card_path = folder / "model.json"
    if timm_files is None:
        path = folder / f"model{FORMATS[format]}"
        log.info("converting to %s", format)
        converted = Half(network).eval() if half else network
        data, conversion = convert(converted, _random_images(example_batch, input_shape), format, opset)
        files: Mapping[str, bytes] = {path.name: data}
    else:
        files, conversion = timm_files.files, "safetensors"
        path, data = next((folder / name, content) for name, content in files.items())
    with tempfile.TemporaryDirectory(prefix="export-") as staging:
        for name, content in files.items():
            (Path(staging) / name).write_bytes(content)
        log.info("checking the logits of %s in a process without oneshot", path.name)
        difference = _verify(Path(staging) / path.name, format, images, expected, tolerance, timm_files)
    facts: dict[str, JSON] = {
        "format": format,
        "precision": "float16 inside, float32 images and logits" if half else "float32",
        **({} if opset is None else {"opset": opset}),
        "file": path.name,
        "bytes": len(data),
        "sha256": fingerprint([data]),
        "torch": str(torch.__version__),
        "conversion": conversion,
        "inputs": [_describe_tensor(INPUT_NAME, input_shape)],
        "outputs": [_describe_tensor(OUTPUT_NAME, next(iter(expected.values())).shape[1:])],
        "verification": {
            "batch_sizes": list(images),
            "max_abs_difference": difference,
            "tolerance": tolerance,
        },
    }
    written: list[Path] = []
    try:
        for name, content in files.items():
            write_atomically(folder / name, lambda file, content=content: file.write(content))  # type: ignore[misc]
            written.append(folder / name)
        write_json(card_path, {**card, **facts})
    except OSError:
        for file in written:
            file.unlink()  # a file beside another file's card would be worse than none
        raise
    return Exported(path, card_path, format, difference, tuple(images))


def _check_folder(folder: Path, name: str) -> None:
    """Raises ValueError where the card of ``name`` would take the place of another file's that is there."""
    try:
        other = read_json(folder / "model.json", "card").get("file")
    except (FileNotFoundError, ValueError):
        return
    if isinstance(other, str) and other != name and (folder / other).is_file():
        raise ValueError(
            f"{folder} holds {other}, whose card, model.json, {name} would overwrite: give another folder (run=FOLDER)"
        )


def _check_card(card: Mapping[str, JSON]) -> None:
    taken = sorted(set(card) & set(_WRITTEN_KEYS))
    if taken:
        raise ValueError(f"the card may not hold {', '.join(map(repr, taken))}: the export writes these itself")
    try:
        json.dumps(dict(card), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"the card cannot be written as JSON: {error}") from error


def _require_onnx() -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ValueError(
                f"format 'onnx' needs {package}, which cannot be imported: pip install 'oneshot-nas[onnx]'"
            ) from error


def _inference_copy(module: nn.Module) -> nn.Module:
    network = copy.deepcopy(module).cpu().float().eval().requires_grad_(False)
    # channels_last weights would be recorded with their strides, and some exporters write those as transposes.
    return network.to(memory_format=torch.contiguous_format)


def _random_images(batch: int, input_shape: tuple[int, int, int]) -> Tensor:
    return torch.randn((batch, *input_shape), generator=torch.Generator().manual_seed(batch))


def _logits(network: nn.Module, image: Tensor) -> Tensor:
    try:
        with torch.no_grad():
            logits = network(image)
    except RuntimeError as error:
        raise ValueError(
            f"the module does not accept images of shape {tuple(image.shape)}: {first_line(error)}"
        ) from error
    if not isinstance(logits, Tensor) or logits.ndim < 1 or logits.shape[0] != image.shape[0]:
        received = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"the module must return one tensor of logits (batch, ...), got {received}")
    if not bool(torch.isfinite(logits).all()):
        raise ValueError("the module returns logits that are not finite, so an export of it cannot be checked")
    return logits


def _verify(
    path: Path,
    format: str,
    images: Mapping[int, Tensor],
    expected: Mapping[int, Tensor],
    tolerance: float,
    timm_files: TimmFiles | None = None,
) -> float:
    """The largest absolute difference over all batches.

    Raises:
        RuntimeError: the file is not the network.
    """
    received = _run_in_fresh_process(path, format, images, timm_files)
    largest = 0.0
    for batch, logits in expected.items():
        shape = received[batch].shape
        if shape != tuple(logits.shape):
            raise RuntimeError(
                f"the exported {path.name} gives logits of shape {shape} for a batch of {batch}, "
                f"the module {tuple(logits.shape)}; no file was kept"
            )
        if not numpy.isfinite(received[batch]).all():
            raise RuntimeError(
                f"the exported {path.name} gives logits that are not finite for a batch of {batch}: values overflow (in "
                "float16, those above 65504); no file was kept"
            )
        difference = float(numpy.abs(received[batch] - logits.numpy()).max(initial=0.0))
        allowed = tolerance * max(1.0, float(logits.abs().max()))
        if not difference <= allowed:  # written so that a NaN fails
            raise RuntimeError(
                f"the logits of the exported {path.name} differ from the module's by {difference:.3g} for a batch of "
                f"{batch}, more than the {allowed:.3g} allowed; no file was kept"
            )
        largest = max(largest, difference)
    return largest


def _run_in_fresh_process(
    path: Path, format: str, images: Mapping[int, Tensor], timm_files: TimmFiles | None = None
) -> dict[int, numpy.ndarray]:
    site_directories = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    with tempfile.TemporaryDirectory(prefix="export-check-") as scratch:
        inputs, outputs = Path(scratch) / "images.npz", Path(scratch) / "logits.npz"
        arrays: dict[str, Any] = {str(batch): image.numpy() for batch, image in images.items()}
        numpy.savez(inputs, **arrays)
        run, directory = path.resolve(), Path(scratch)
        if timm_files is not None:
            run, directory = Path(scratch) / "load.py", path.resolve().parent
            run.write_text(timm_files.loading)
        arguments = [format, str(run), str(inputs), str(outputs), str(torch.get_num_threads()), *site_directories]
        try:
            finished = subprocess.run(
                [sys.executable, "-I", "-c", _VERIFIER, *arguments],
                cwd=directory,
                capture_output=True,
                text=True,
                timeout=_VERIFY_TIMEOUT_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise RuntimeError(
                f"the exported {path.name} did not finish in {_VERIFY_TIMEOUT_SECONDS} s in a fresh process; "
                "no file was kept"
            ) from error
        if finished.returncode != 0:
            reason = _last_line(finished.stderr) or f"exit status {finished.returncode}"
            raise RuntimeError(f"the exported {path.name} does not run in a fresh process: {reason}; no file was kept")
        with numpy.load(outputs) as logits:
            return {batch: logits[str(batch)] for batch in images}


def _describe_tensor(name: str, shape: Sequence[int]) -> JSON:
    return {"name": name, "shape": ["batch", *shape], "dtype": "float32"}


def _last_line(traceback: str) -> str:
    return next((line.strip() for line in reversed(traceback.splitlines()) if line.strip()), "")

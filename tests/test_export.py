"""Export: every format reproduces the network in a process without this package, or leaves nothing behind."""

import copy
import hashlib
import json
import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy
import pytest
import torch
from exported_networks import FORKED, INPUT_SHAPE, NUM_CLASSES, ONNX, built, exported_file, load_exported, small_network
from timm.layers import DropPath
from timm.models._efficientnet_blocks import InvertedResidual, SqueezeExcite
from torch import Tensor, nn
from torch.nn import functional

from oneshot import conversion, export
from oneshot.export import FORMATS


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


class ChannelShuffle(nn.Module):
    """ShuffleNet's permutation of channels `(batch, channels, height, width)`."""

    def __init__(self, num_groups: int) -> None:
        super().__init__()
        self.num_groups = num_groups

    def forward(self, images: Tensor) -> Tensor:
        batch, channels, height, width = images.shape
        grouped = images.view(batch, self.num_groups, channels // self.num_groups, height, width)
        return grouped.transpose(1, 2).reshape(batch, channels, height, width)


class VisionTransformer(nn.Module):
    """One pre-norm attention block over 4x4 patches and a class token."""

    def __init__(self, width: int = 16, num_heads: int = 4) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.norm = nn.LayerNorm(width)
        self.project_in, self.project_out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.head = nn.Linear(width, NUM_CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
        batch, length, width = tokens.shape
        packed = self.project_in(self.norm(tokens)).reshape(batch, length, 3, self.num_heads, width // self.num_heads)
        query, key, value = packed.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(batch, length, width)
        return self.head((tokens + self.project_out(mixed))[:, 0])


class Unscriptable(nn.Module):
    """A network that TorchScript's compiler rejects (try/except) and its tracer accepts."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, NUM_CLASSES, 3)

    def forward(self, images: Tensor) -> Tensor:
        try:
            return self.conv(images).mean((2, 3))
        except ValueError:
            return images


class BakedBatch(Unscriptable):
    """A network whose trace keeps the batch of the traced example as a constant."""

    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        return logits + torch.arange(int(images.shape[0]))[:, None]


def _convolutional() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False),
        nn.BatchNorm2d(8),
        nn.Hardswish(),
        InvertedResidual(
            8, 12, 5, stride=2, exp_ratio=3, act_layer=nn.Hardswish, se_layer=SqueezeExcite, drop_path_rate=0.1
        ),
        InvertedResidual(12, 12, 3, exp_ratio=3, drop_path_rate=0.1),
        ChannelShuffle(4),
        DropPath(0.2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(12, NUM_CLASSES),
    ).to(memory_format=torch.channels_last)


@pytest.mark.parametrize("format", ["torchscript", ONNX, "pt2"])
@pytest.mark.parametrize("make", [_convolutional, VisionTransformer])
@pytest.mark.filterwarnings("ignore:`torch.jit.load`:FutureWarning")  # this test's own call
def test_file_card_and_logits_agree_and_the_module_is_untouched(
    make: Callable[[], nn.Module], format: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if make is _convolutional:
        request.getfixturevalue("forked_checks")
    module = built(make).train()
    module[0].eval() if isinstance(module, nn.Sequential) else module.norm.eval()
    modes = [child.training for child in module.modules()]
    before = copy.deepcopy(module.state_dict())
    strides = [value.stride() for value in module.state_dict().values()]
    random_state = torch.get_rng_state()

    exported = exported_file(module, tmp_path / "new" / "folder", format)

    assert [child.training for child in module.modules()] == modes
    assert all(parameter.requires_grad for parameter in module.parameters())
    assert [value.stride() for value in module.state_dict().values()] == strides
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)

    assert exported.format == format
    assert exported.path == tmp_path / "new" / "folder" / f"model{FORMATS[format]}"
    assert sorted(path.name for path in exported.path.parent.iterdir()) == sorted(["model.json", exported.path.name])
    assert exported.batch_sizes == (1, 5)
    assert 0 <= exported.max_abs_difference < 1e-5

    data = exported.path.read_bytes()
    card = json.loads(exported.card.read_text())
    assert card["architecture"] == [1, 2]
    assert (card["format"], card["file"], card["bytes"]) == (format, exported.path.name, len(data))
    assert card["sha256"] == hashlib.sha256(data).hexdigest()
    assert card["torch"] == str(torch.__version__)
    assert card["inputs"] == [{"name": "image", "shape": ["batch", *INPUT_SHAPE], "dtype": "float32"}]
    assert card["outputs"] == [{"name": "logits", "shape": ["batch", NUM_CLASSES], "dtype": "float32"}]
    assert card["verification"]["max_abs_difference"] == exported.max_abs_difference
    assert card["verification"]["batch_sizes"] == [1, 5]

    images = torch.randn(3, *INPUT_SHAPE, generator=torch.Generator().manual_seed(7))
    with torch.no_grad():
        torch.testing.assert_close(load_exported(exported)(images), module.eval()(images), rtol=1e-4, atol=1e-5)


@FORKED
def test_torchscript_falls_back_to_tracing_with_a_dynamic_batch(tmp_path: Path) -> None:
    exported = exported_file(built(Unscriptable), tmp_path, "torchscript", batch_sizes=(1, 2, 4))
    assert json.loads(exported.card.read_text())["conversion"] == "trace"
    assert exported.batch_sizes == (1, 2, 4)


@FORKED
def test_a_batch_baked_in_by_tracing_is_caught_even_where_only_the_usual_example_size_is_checked(
    tmp_path: Path,
) -> None:
    with pytest.raises(RuntimeError, match=r"model\.ts .*no file was kept"):
        exported_file(built(BakedBatch), tmp_path, "torchscript", batch_sizes=(2,))
    assert list(tmp_path.iterdir()) == []


@FORKED
def test_a_file_of_another_network_is_refused_with_the_difference_and_the_old_file_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = built(small_network)
    first = exported_file(module, tmp_path)
    kept = {path: path.read_bytes() for path in (first.path, first.card)}
    convert = conversion._to_torchscript

    def shifted(network: nn.Module, images: Tensor) -> tuple[bytes, str]:
        other = copy.deepcopy(network)
        other[1].bias.add_(0.25)
        return convert(other, images)

    monkeypatch.setattr(conversion, "_to_torchscript", shifted)
    with pytest.raises(
        RuntimeError, match=r"model\.ts differ from the module's by 0\.25 .*batch of 1, .*0\.000\d* all"
    ):
        exported_file(module, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == kept


def test_the_check_runs_where_this_package_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "import numpy\n" in export._VERIFIER
    importing = export._VERIFIER.replace("import numpy\n", "import numpy, oneshot\n")
    monkeypatch.setattr(export, "_VERIFIER", importing)
    with pytest.raises(RuntimeError, match=r"import of oneshot halted"):
        exported_file(built(small_network), tmp_path)
    assert list(tmp_path.iterdir()) == []


@FORKED
def test_a_file_that_needs_code_of_this_process_is_refused(tmp_path: Path) -> None:
    @torch.library.custom_op("oneshot_test_export::double", mutates_args=())
    def double(images: Tensor) -> Tensor:
        return images * 2

    double.register_fake(torch.empty_like)

    class Double(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.ops.oneshot_test_export.double(images).mean((2, 3))

    with pytest.raises(RuntimeError, match=r"model\.pt2 does not run in a fresh process: .*deserializing"):
        exported_file(Double(), tmp_path, "pt2")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", ["pt2", ONNX])
def test_a_module_that_cannot_be_converted_is_one_clear_line(format: str, tmp_path: Path) -> None:
    class OneBatch(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.mean((2, 3)) if bool(images.sum() > 0) else images.amax((2, 3))

    with pytest.raises(RuntimeError, match=f"cannot be exported as {format}: Could not guard") as caught:
        exported_file(OneBatch(), tmp_path, format)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@FORKED
def test_half_precision_networks_are_exported_in_float32(tmp_path: Path) -> None:
    module = built(small_network).bfloat16()
    exported = exported_file(module, tmp_path, "pt2")
    assert exported.max_abs_difference < 1e-5
    assert all(parameter.dtype == torch.bfloat16 for parameter in module.parameters())
    assert all(value.dtype == torch.float32 for value in torch.export.load(exported.path).state_dict.values())


@pytest.mark.parametrize(
    ("format", "hint"),
    [("onx", "did you mean 'onnx'"), ("torch_script", "did you mean 'torchscript'"), ("h5", "allow")],
)
def test_an_unknown_format_names_the_nearest(format: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{format!r}.*{hint}"):
        exported_file(small_network(), tmp_path, format)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_shape": (3, 16)}, "three positive sizes"),
        ({"input_shape": (3, 0, 16)}, "three positive sizes"),
        ({"input_shape": (3, 8, 8)}, r"does not accept images of shape \(1, 3, 8, 8\)"),
        ({"batch_sizes": ()}, "batch_sizes"),
        ({"batch_sizes": (1, 0)}, "batch_sizes"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"tolerance": float("nan")}, "tolerance"),
        ({"card": {"sha256": "x"}}, "may not hold 'sha256'"),
        ({"card": {"accuracy": float("nan")}}, "cannot be written as JSON"),
        ({"card": {"path": Path()}}, "cannot be written as JSON"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(
    options: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        exported_file(small_network(), tmp_path / "folder", **options)
    assert not (tmp_path / "folder").exists()


class Constant(nn.Module):
    """Returns what it was made with."""

    def __init__(self, result: object) -> None:
        super().__init__()
        self.result = result

    def forward(self, images: Tensor) -> object:
        return self.result


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"logits": 1}, "one tensor of logits.*got dict"),
        (torch.zeros(3, 4), r"one tensor of logits.*got shape \(3, 4\)"),
        (torch.full((1, 4), torch.nan), "not finite"),
    ],
)
def test_modules_that_give_no_logits_are_refused(result: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        exported_file(Constant(result), tmp_path)


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_missing_onnx_packages_name_the_extra(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for present in ("onnx", "onnxscript", "onnxruntime"):
        monkeypatch.setitem(sys.modules, present, ModuleType(present))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=rf"{package}, .*pip install 'oneshot-nas\[onnx\]'"):
        exported_file(small_network(), tmp_path, "onnx")


@FORKED
def test_a_folder_that_cannot_be_made_is_an_os_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        exported_file(small_network(), tmp_path / "file" / "folder")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_an_os_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError):
        exported_file(small_network(), tmp_path)


@contextmanager
def _largest_file(num_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("format", ["torchscript", ONNX, "pt2"])
def test_a_file_that_does_not_fit_is_an_os_error_and_leaves_nothing(format: str, tmp_path: Path) -> None:
    module = built(small_network)
    with _largest_file(4096), pytest.raises(OSError, match="large"):
        exported_file(module, tmp_path, format)
    assert list(tmp_path.iterdir()) == []


@FORKED
def test_a_card_that_cannot_be_put_in_place_takes_its_file_along(tmp_path: Path) -> None:
    (tmp_path / "model.json").mkdir()
    with pytest.raises(IsADirectoryError):
        exported_file(built(small_network), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["model.json"]


def test_the_tolerance_grows_with_the_logits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, expected = {1: torch.zeros(1, 1)}, {1: torch.tensor([[1000.0]])}
    answers = iter([1000.05, 1000.5])
    monkeypatch.setattr(export, "_run_in_fresh_process", lambda *_: {1: numpy.array([[next(answers)]])})
    assert export._verify(tmp_path / "m", "pt2", images, expected, 1e-4) == pytest.approx(0.05)
    with pytest.raises(RuntimeError, match=r"0\.5 .*more than the 0\.1 allowed"):
        export._verify(tmp_path / "m", "pt2", images, expected, 1e-4)

"""Published checkpoints are read whole, in every spelling, and refused with one clear line where they do not fit."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from published_weights import reproducible_weights
from torch import Tensor

from oneshot.published import bank_state, from_published, load_published
from oneshot.published.families import family_of
from oneshot.spaces import NASBenchMacro, OFAMobileNetV3, OFAProxyless, SearchSpace
from oneshot.supernet import Supernet

SPACES: dict[str, Callable[..., SearchSpace]] = {
    "mobilenet_v3": lambda **kwargs: OFAMobileNetV3(
        **{"num_classes": 4, "resolutions": (32,), "depths": (1, 2), "width_multiplier": 0.5, **kwargs}
    ),
    "proxyless": lambda **kwargs: OFAProxyless(
        **{"num_classes": 4, "resolutions": (32,), "depths": (1, 2), "width_multiplier": 0.5, **kwargs}
    ),
}


def published(space: SearchSpace) -> dict[str, Tensor]:
    """A checkpoint of the space in the published names, no two tensors alike."""
    family = family_of(space)
    names = {family.published_name(space, key): value for key, value in Supernet(space).state_dict().items()}
    return {name: reproducible_weights(name, tuple(value.shape)).to(value.dtype) for name, value in names.items()}


@pytest.fixture(scope="module", params=SPACES)
def make_space(request: pytest.FixtureRequest) -> Callable[..., SearchSpace]:
    return SPACES[request.param]


@pytest.fixture(scope="module")
def checkpoint(make_space: Callable[..., SearchSpace]) -> dict[str, Tensor]:
    return published(make_space())


def test_a_published_supernet_gives_the_published_logits(shared_data: Path, tmp_path: Path) -> None:
    golden = torch.load(shared_data / "ofa" / "golden_mbv3.pt", weights_only=True)
    torch.save({"state_dict": golden["state_dict"], "epoch": 7}, tmp_path / "init")
    supernet = Supernet(OFAMobileNetV3(num_classes=10, resolutions=(64,))).eval()
    load_published(supernet, tmp_path / "init")
    assert len(golden["archs"]) == 6
    for row in golden["archs"]:
        arch = from_published(supernet.space, row)
        with torch.no_grad():
            for logits in (supernet(golden["x"], arch), supernet.extract(arch)(golden["x"])):
                torch.testing.assert_close(logits, row["logits"], rtol=0, atol=1e-7)
    # The signal of these weights nearly vanishes in the last stages, so the tensors are compared, too.
    state, family = supernet.state_dict(), family_of(supernet.space)
    sources = {key: family.published_name(supernet.space, key) for key in state}
    assert sorted(sources.values()) == sorted(golden["state_dict"])
    for key, source in sources.items():
        assert torch.equal(state[key], golden["state_dict"][source].to(state[key].dtype)), key


def older(name: str) -> str:
    """As releases of 2019 to 2021 spelled it."""
    return re.sub(r"^(blocks\.\d+)\.conv\.", r"\1.mobile_inverted_conv.", name)


def flat(name: str) -> str:
    """Without the wrappers of elastic layers, as static networks are spelled."""
    return name.replace(".bn.bn.", ".bn.").replace(".conv.conv.weight", ".conv.weight")


def nested(name: str) -> str:
    return name.replace(".linear.", ".linear.linear.")


def parallel(name: str) -> str:
    return f"module.{older(name)}"


@pytest.mark.parametrize("spell", [str, older, flat, nested, parallel])
@pytest.mark.parametrize("whole", [True, False], ids=["bare", "state_dict"])
def test_every_spelling_is_read(
    make_space: Callable[..., SearchSpace],
    checkpoint: dict[str, Tensor],
    spell: Callable[[str], str],
    whole: bool,
    tmp_path: Path,
) -> None:
    space = make_space()
    tensors = {spell(name): value.half() if value.is_floating_point() else value for name, value in checkpoint.items()}
    torch.save(tensors if whole else {"state_dict": tensors, "best_acc": 80.0}, tmp_path / "file")
    supernet = Supernet(space)
    load_published(supernet, str(tmp_path / "file"))
    family = family_of(space)
    for key, value in supernet.state_dict().items():
        expected = checkpoint[family.published_name(space, key)]
        assert value.dtype == expected.dtype
        torch.testing.assert_close(value, expected, rtol=1e-3, atol=1e-6)


def test_the_classifier_may_stay_fresh(make_space: Callable[..., SearchSpace], checkpoint: dict[str, Tensor]) -> None:
    supernet = Supernet(make_space(num_classes=7))
    with pytest.raises(ValueError, match=r"it has 4 classes, this space 7 \(reset_classifier=True"):
        bank_state(supernet.space, checkpoint, supernet.state_dict())
    for source in (checkpoint, {name: value for name, value in checkpoint.items() if "classifier" not in name}):
        state = bank_state(supernet.space, source, supernet.state_dict(), reset_classifier=True)
        assert torch.equal(state["bank.classifier.weight"], supernet.bank.classifier.weight)  # type: ignore[union-attr]
        assert torch.equal(state["bank.stem.conv.weight"], checkpoint["first_conv.conv.weight"])


def test_batch_counters_may_be_missing(make_space: Callable[..., SearchSpace], checkpoint: dict[str, Tensor]) -> None:
    supernet = Supernet(make_space())
    source = {name: value for name, value in checkpoint.items() if "num_batches" not in name}
    assert bank_state(supernet.space, source, supernet.state_dict()).keys() == supernet.state_dict().keys()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"width_multiplier": 1.2},
            r"seems to be of width 0\.5 \(feature_mix_layer.conv.weight has 640.*of width 1\.2$",
        ),
        ({"depths": (1, 2, 3)}, r"has \d+ blocks, this space \d+: one and the largest depths \[3, 3"),
        ({"kernel_sizes": (3, 5)}, r"blocks.1 has kernels \[3, 5, 7\] in the checkpoint, \[3, 5\] in this space$"),
        ({"kernel_sizes": (3, 5, 7, 9)}, r"blocks.1 has kernels \[3, 5, 7\] in the checkpoint, \[3, 5, 7, 9\]"),
        ({"kernel_transform": False}, "the checkpoint has matrices between them, the space has kernel_transform=False"),
        ({"expand_ratios": (3, 4)}, "blocks.1 expands 6 times in the checkpoint, 4 times in this space"),
    ],
)
def test_a_checkpoint_of_another_size_is_refused(
    make_space: Callable[..., SearchSpace], checkpoint: dict[str, Tensor], arguments: dict[str, Any], message: str
) -> None:
    supernet = Supernet(make_space(**arguments))
    with pytest.raises(ValueError, match=message):
        bank_state(supernet.space, checkpoint, supernet.state_dict())


def test_other_tensors_are_refused(make_space: Callable[..., SearchSpace], checkpoint: dict[str, Tensor]) -> None:
    supernet = Supernet(make_space())
    space, fresh = supernet.space, supernet.state_dict()
    extra = torch.zeros(1)
    cases: list[tuple[dict[str, Tensor], str]] = [
        (checkpoint | {"a": extra, "b": extra, "c": extra, "d": extra}, "has no place: a, b, c and 1 more$"),
        (checkpoint | {"module.first_conv.conv.weight": extra}, "has first_conv.conv.weight twice, in two spellings"),
        (
            {"layer1.0.weight": extra, "fc.bias": extra},
            "no Once-for-All supernet known here: it has layer1.0.weight, fc.bias",
        ),
        (
            {name: value for name, value in checkpoint.items() if name != "blocks.2.conv.point_linear.bn.bn.bias"},
            "the checkpoint has no blocks.2.conv.point_linear.bn.bias, which this space needs",
        ),
        (
            checkpoint | {"classifier.linear.bias": torch.zeros(3)},
            r"linear.bias is \(3,\) in the checkpoint, \(4,\) in",
        ),
        (
            {name: value for name, value in checkpoint.items() if not name.endswith("_matrix")},
            r"kernels \[7\] in the checkpoint, \[3, 5, 7\] in this space; the checkpoint has no matrices between them",
        ),
    ]
    for tensors, message in cases:
        with pytest.raises(ValueError, match=message) as refused:
            bank_state(space, tensors, fresh)
        assert "\n" not in str(refused.value)


def test_the_other_family_is_named() -> None:
    mobile, proxyless = (SPACES[name](depths=(1,)) for name in ("mobilenet_v3", "proxyless"))
    with pytest.raises(ValueError, match="the checkpoint is of OFAMobileNetV3, not of OFAProxyless"):
        bank_state(proxyless, published(mobile), Supernet(proxyless).state_dict())
    with pytest.raises(ValueError, match="the checkpoint is of OFAProxyless, not of OFAMobileNetV3"):
        bank_state(mobile, published(proxyless), Supernet(mobile).state_dict())
    with pytest.raises(ValueError, match="published forms of OFAMobileNetV3 and OFAProxyless, not of NASBenchMacro"):
        bank_state(NASBenchMacro(), {}, {})


def test_files_that_are_no_checkpoint_are_refused(tmp_path: Path) -> None:
    supernet = Supernet(SPACES["mobilenet_v3"]())
    path = tmp_path / "file"
    with pytest.raises(FileNotFoundError, match=r"there is no checkpoint .*file"):
        load_published(supernet, path)
    contents: list[tuple[Callable[[], object], str]] = [
        (lambda: path.write_text(json.dumps({"ks": 7})), "no PyTorch file"),
        (lambda: path.write_bytes(b""), "no PyTorch file"),
        (lambda: torch.save(torch.nn.Linear(2, 2), path), "it holds objects other than tensors and plain values"),
        (lambda: torch.save([torch.zeros(2)], path), "holds no state dict but a list"),
        (lambda: torch.save({"epoch": 3, "acc": 0.5}, path), "holds no state dict: epoch, acc are no tensor"),
        (
            lambda: torch.save({"format": "oneshot.checkpoint.1"}, path),
            r"is a file of oneshot \(oneshot.checkpoint.1\)",
        ),
        (lambda: torch.save({"weight": torch.zeros(2)}, path), "file: the checkpoint is of no Once-for-All supernet"),
    ]
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    for write, message in contents:
        write()
        with pytest.raises(ValueError, match=message) as refused:
            load_published(supernet, path)
        assert "\n" not in str(refused.value)
    assert all(torch.equal(value, before[name]) for name, value in supernet.state_dict().items())

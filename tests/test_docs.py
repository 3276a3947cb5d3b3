"""What README.md, docs/ and examples/ say is true: code runs, commands compose, settings, paths and links exist."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import random
import re
import shlex
import string
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from packaging.requirements import Requirement
from PIL import Image
from torch import nn

from oneshot.config import CONF, cost_settings, make_space, make_strategy, phase_settings, register_spaces, settings
from oneshot.config.keys import check_keys
from oneshot.costs import CostSettings, MeasureSettings
from oneshot.data import FileSource, prepare
from oneshot.data.decoding import CorruptImages, decode_all
from oneshot.data.preprocessing import Preprocessing
from oneshot.export import ExportSettings, export_module
from oneshot.pipeline.retrain import RetrainSettings
from oneshot.pipeline.search_settings import EvaluationSettings, PredictionSettings, RankingSettings
from oneshot.spaces import SearchSpace
from oneshot.supernet import Supernet
from oneshot.training import Distillation, TrainSettings

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
SCRIPTS = ("train_supernet", "search_subnet", "retrain_subnet", "export_subnet", "measure_latency")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
INSTALLED = {name: re.split("[.:]", target)[2] for name, target in PROJECT["scripts"].items()}
SETTINGS = {
    "trainer": TrainSettings,
    "cost": CostSettings,
    "distillation": Distillation,
    "prediction": PredictionSettings,
    "ranking": RankingSettings,
    "evaluation": EvaluationSettings,
    "latency": MeasureSettings,
    "retrain": RetrainSettings,
}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def spans(page: Path) -> list[str]:
    """The `code` in the text of a page."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", text)


# Code ----------------------------------------------------------------------------------------------------------------


READING = {"image_size": 20, "crop_pct": 0.875, "interpolation": "bicubic", "pixel_range": [0.0, 4095.0]}


def write_photo() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a photo that was taken upright
    Image.effect_noise((40, 30), 50).convert("RGB").save("photo.jpg", exif=exif)


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder like the one that docs/exporting.md reads: a tiny network in every format, and a photo."""
    monkeypatch.chdir(tmp_path)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    card = {"classes": ["cat", "dog"], "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}
    card |= READING
    # One checked export, for its card; the others are not checked again here.
    export_module(network, Path("exported"), ExportSettings("torchscript"), input_shape=(3, 16, 16), card=card)
    image, batch = torch.zeros(2, 3, 16, 16), torch.export.Dim("batch", min=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of torch's exporters
        program = torch.export.export(network, (image,), dynamic_shapes=({0: batch},))
        torch.export.save(program, "exported/model.pt2")
        torch.onnx.export(
            network, (image,), "exported/model.onnx", dynamo=True, dynamic_shapes=({0: "batch"},), external_data=False,
            input_names=["image"], output_names=["logits"], verbose=False,
        )  # fmt: skip
    write_photo()


@pytest.mark.parametrize("name", ["latency", "library", "spaces", "your-network"])
def test_code_runs(name: str) -> None:
    run_blocks(ROOT / "docs" / f"{name}.md")


@pytest.mark.filterwarnings("ignore:`torch.jit.load` is deprecated:FutureWarning")  # meets every reader of such a file
@pytest.mark.usefixtures("exported")
def test_code_that_uses_exported_files_runs(capsys: pytest.CaptureFixture[str]) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    run_blocks(ROOT / "docs" / "exporting.md")
    answers = capsys.readouterr().out.split()
    assert len(answers) == 3
    assert len(set(answers)) == 1, "the formats disagree"


@pytest.mark.parametrize("kind", ["upright", "transparent", "palette", "deep", "grey", "square"])
def test_code_that_reads_an_image_gives_what_networks_were_evaluated_on(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("exported").mkdir()
    card = {"inputs": [{"shape": ["batch", 3, 16, 16]}], "mean": [0.5] * 3, "std": [0.2] * 3, **READING}
    Path("exported/model.json").write_text(json.dumps(card))
    if kind == "upright":
        write_photo()
    noise = np.random.default_rng(0).integers(0, 256, (30, 41, 4), dtype=np.uint8)
    if kind == "deep":
        Image.fromarray(noise[..., 0].astype(np.uint16) * 16).save("photo.png")
    elif kind != "upright":
        image = Image.fromarray(noise if kind == "transparent" else noise[..., :3])
        image = image.convert({"palette": "P", "grey": "L"}.get(kind, image.mode))
        image = image.resize((20, 20)) if kind == "square" else image
        image.save("photo.png", **({"transparency": 3} if kind == "palette" else {}))
    path = "photo.jpg" if kind == "upright" else "photo.png"
    source, preprocessing = FileSource([(path, 0)]), Preprocessing(20, 0.875, pixel_range=(0.0, 4095.0))
    centre = decode_all(source, torch.tensor([0]), preprocessing, CorruptImages(0)).images
    expected = prepare(centre, 16, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    read = blocks(ROOT / "docs" / "exporting.md", "python")[0].replace("photo.jpg", path)
    namespace: dict[str, Any] = {"__name__": "docs.exporting"}
    exec(compile(read, "exporting.md, block 1", "exec"), namespace)
    assert (
        np.abs(namespace["batch"] - expected.numpy()).max() <= 2.1 / 255 / 0.2
    )  # two levels: Pillow's bilinear and torch's


def run_blocks(page: Path) -> None:
    code = blocks(page, "python")
    assert code
    module = ModuleType(f"docs.{page.stem}")
    sys.modules[module.__name__] = module  # where dataclasses look for their types
    try:
        for number, block in enumerate(code, start=1):
            exec(compile(block, f"{page.name}, block {number}", "exec"), module.__dict__)
    finally:
        del sys.modules[module.__name__]


# Commands ------------------------------------------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, str, list[str]]]:
    """Page, script and overrides of every command, with those of ./run demo."""
    for page in PAGES:
        lines = "".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
        variables = dict(re.findall(r'^([A-Z]+)="(.*)"$', "\n".join(lines), re.MULTILINE))
        lines = [string.Template(line).safe_substitute(variables) for line in lines]
        for line in lines + [span for span in spans(page) if span.startswith("python ")]:
            words = shlex.split(line, comments=True)
            if words[:1] == ["python"] and words[1:] and Path(words[1]).stem in SCRIPTS:
                yield page.name, Path(words[1]).stem, words[2:]
            elif words and words[0] in INSTALLED:
                yield page.name, INSTALLED[words[0]], words[1:]
    show = "set -- help; . ./run >/dev/null; echo $TRAIN; echo $SEARCH; echo $RETRAIN"  # echo joins the lines of each
    shown = subprocess.run(["sh", "-c", show], cwd=ROOT, capture_output=True, text=True, check=True)
    for script, line in zip(SCRIPTS, shown.stdout.splitlines(), strict=False):
        yield "run", script, line.split()


COMMANDS = list(commands())


@pytest.fixture
def _own_space(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "examples"))
    for name in ("my_space", "my_cell"):
        register_spaces([f"+space={name}"])
    yield
    for name in ("my_space", "my_cell"):
        sys.modules.pop(name)
    GlobalHydra.instance().clear()


@pytest.mark.usefixtures("_own_space")
@pytest.mark.parametrize(
    ("script", "words"), [pytest.param(*rest, id=f"{page}-{index}") for index, (page, *rest) in enumerate(COMMANDS)]
)
def test_command_is_valid(script: str, words: list[str]) -> None:
    """Its settings exist, have the right types, and make the objects that they describe."""
    overrides = [word for word in words if not word.startswith(("-", "hydra")) and word != "job"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(script, overrides=[first_of_sweep(override) for override in overrides])
    for group, kind in SETTINGS.items():
        if group == "cost" and group in config:
            cost_settings(config)
        elif group in config:
            listed = (
                {"epochs": 1} if group == "trainer" and config.get("phases") else {}
            )  # null: the sum over the phases
            if group == "trainer" and config.trainer.lr is None:  # by the network
                listed["lr"] = 0.1
            settings(kind, config, group, **listed)
    if script == "train_supernet":
        phase_settings(config)
    if "weights" in config.get("space", {}):
        config.space.weights = None  # a file of the user's
    if "space" in config and script != "retrain_subnet":  # there it is changes to the subnet's
        make_space(
            config.space,
            SimpleNamespace(num_classes=10, image_size=(config if "image_size" in config else config.data).image_size),
        )
    elif script == "train_supernet":
        pytest.fail("the command has no +space=")
    if "search" in config:
        assert make_strategy(config).budget > 0
    check_keys(config, script)


def first_of_sweep(text: str) -> str:
    override = OverridesParser.create().parse_override(text)
    if not override.is_sweep_override():
        return text
    return f"{override.input_line.split('=')[0]}={next(override.sweep_string_iterator())}"


def test_there_are_commands() -> None:
    assert {script for _, script, _ in COMMANDS} == set(SCRIPTS)
    assert [script for page, script, _ in COMMANDS if page == "run"] == list(SCRIPTS[:3])
    assert len(COMMANDS) > 30


# Names ---------------------------------------------------------------------------------------------------------------


def keys(config: Any, prefix: str) -> Iterator[str]:
    yield prefix
    if isinstance(config, DictConfig):
        for name in config:
            yield from keys(config._get_node(str(name)), f"{prefix}.{name}")


def all_settings() -> set[str]:
    """Every setting of every file of every group, such as ``data.root``."""
    found = set()
    for path in CONF.glob("*/*.yaml"):
        place = re.match(r"# @package (\w+\..*)", path.read_text(encoding="utf-8"))  # in another group
        found |= set(keys(OmegaConf.load(path), place[1] if place else path.parent.name))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_in_the_text_exist(page: Path) -> None:
    known = all_settings()
    groups = {path.parent.name for path in CONF.glob("*/*.yaml")}
    for span in spans(page):
        match = re.match(r"\+?((\w+)\.([a-z]\w*)[\w.]*)(=.*)?$", span)
        if match is None or match.group(2) not in groups or match.group(3) in ("json", "html"):
            continue
        name = match.group(1)
        of_the_class = match.group(2) == "space" and hasattr(SearchSpace, match.group(3))
        assert name in known or of_the_class or name == "space.width", span  # which the example has


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_in_the_text_exist(page: Path) -> None:
    """Of ``search=evolution`` and the like."""
    for span in spans(page):
        match = re.fullmatch(r"\+?(space|data|sampler|search|regulariser)=([a-z]\w+)", span)
        if match and match.group(2) != "my_space":
            assert (CONF / match.group(1) / f"{match.group(2)}.yaml").is_file(), span


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_and_links_exist(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target
    for span in spans(page):
        if re.match(r"(conf|docs|examples|oneshot|tests)/[\w/.]*$", span) and "NAME" not in span:
            assert (ROOT / span).exists(), span


def test_every_page_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f"(docs/{page.name})" not in readme] == []


def test_every_option_is_in_the_documentation() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    for group in ("space", "data", "sampler", "search", "regulariser"):
        for path in (CONF / group).glob("*.yaml"):
            assert f"`{path.stem}`" in text, f"{group}={path.stem}"


# The example, the set-up ---------------------------------------------------------------------------------------------


def test_example_space_extracts_what_the_supernet_computes() -> None:
    path = ROOT / "examples" / "my_space.py"
    spec = importlib.util.spec_from_file_location("my_space_under_test", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    assert len(path.read_text(encoding="utf-8").splitlines()) < 40
    space = module.MySpace(num_classes=4, resolution=16, width=8)
    torch.manual_seed(0)
    supernet = Supernet(space)
    images = torch.randn(4, 3, 16, 16)
    rng = random.Random(0)
    for arch in (space.largest, space.smallest, *(space.sample(rng) for _ in range(6))):
        assert space.arch(json.loads(arch.to_json())) == arch
        for training in (False, True):
            plain = supernet.train(training).extract(arch)
            assert torch.equal(plain(images), supernet(images, arch))
            # Training has moved the statistics of both alike.
            for name, buffer in supernet.extract(arch).named_buffers():
                assert torch.equal(buffer, plain.get_buffer(name))


def test_constraints_fit_the_package() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = {name: version for name, _, version in (line.partition("==") for line in lines if not line.startswith("#"))}
    extras = itertools.chain.from_iterable(PROJECT["optional-dependencies"].values())
    for text in [*PROJECT["dependencies"], *extras]:
        requirement = Requirement(text)
        assert requirement.name in pins, f"{requirement.name} has no line in constraints.txt"
        assert requirement.specifier.contains(pins[requirement.name]), text


def test_run_explains_itself() -> None:
    answered = subprocess.run([ROOT / "run"], capture_output=True, text=True, check=True, cwd="/")
    assert "demo [NAME]" in answered.stdout
    refused = subprocess.run([ROOT / "run", "dmeo"], capture_output=True, text=True, cwd="/")
    assert refused.returncode == 2
    assert "no command 'dmeo'" in refused.stderr
    nothing = {**os.environ, "PYTHON": "/bin/false", "VENV": "/nonexistent/venv"}
    refused = subprocess.run([ROOT / "run", "setup"], capture_output=True, text=True, env=nothing)
    assert refused.returncode == 1
    assert "needs Python 3.11, 3.12 or 3.13" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1

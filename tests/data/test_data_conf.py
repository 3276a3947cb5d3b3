"""The configuration files of this part: each says what it is, and gives every option of its source."""

import importlib
import inspect
from pathlib import Path
from typing import get_type_hints

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from oneshot.data import Augmentation
from oneshot.data.options import CommonOptions, DataOptions, make_options

FOLDER = Path(__file__).parents[2] / "conf" / "data"
FILES = sorted(FOLDER.glob("*.yaml"))


def test_there_is_one_for_each_source() -> None:
    names = ["cifar10", "cifar100", "digits", "fashion_mnist", "image_folder", "timm"]
    assert [path.stem for path in FILES] == names


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_says_what_it_is_and_gives_every_option(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    assert first.startswith("# ")
    assert len(first) > 40
    conf = OmegaConf.load(path)
    module, name = conf._target_.rsplit(".", 1)
    parameters = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    own = {parameter for parameter in parameters if parameter != "common"}
    assert {str(key) for key in conf} == {"_target_"} | own | get_type_hints(CommonOptions).keys() - {"recorded"}
    for key, parameter in parameters.items():
        if key not in ("common", "augmentation", "root", "name", "reader_options"):
            assert conf[key] == parameter.default


class _Made(Exception):
    """The options are known, and the images need not be read."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_its_augmentation_is_the_sources_default(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the source is given where its file is left out: the augmentation of the data that it makes."""
    conf = OmegaConf.load(path)
    module, name = conf._target_.rsplit(".", 1)
    made: list[DataOptions] = []

    def remember(*given: object, **named: object) -> DataOptions:
        made.append(make_options(*given, **named))  # type: ignore[arg-type]
        raise _Made

    source = getattr(importlib.import_module(module), name)
    monkeypatch.setattr(f"{source.__module__}.make_options", remember)
    given = {"name": str(conf.get("name") or "torch/x"), "root": str(path.parent)}
    known = inspect.signature(source).parameters
    arguments = {key: value for key, value in given.items() if key in known}
    with pytest.raises(_Made):
        source(**arguments)
    assert made[0].augmentation == instantiate(conf.augmentation)


def test_digits_from_its_file() -> None:
    data = instantiate(
        OmegaConf.merge(OmegaConf.load(FOLDER / "digits.yaml"), {"image_size": 8, "mean": [0.1, 0.2, 0.3]})
    )
    assert data.augmentation == Augmentation(crop_padding=2)
    assert data.mean == (0.1, 0.2, 0.3)
    assert len(data.train) == 1079

"""The configuration files of this part: each says what it is, and gives every option of its source."""

import importlib
import inspect
from pathlib import Path
from typing import get_type_hints

import pytest
from hydra.utils import instantiate
from omegaconf import OmegaConf

from oneshot.data import Augmentation
from oneshot.data.options import CommonOptions

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


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_its_augmentation_is_the_sources_default(path: Path) -> None:
    from oneshot.data import source_timm, source_torchvision

    conf = OmegaConf.load(path)
    augmentation = instantiate(conf.augmentation)
    assert isinstance(augmentation, Augmentation)
    if "torchvision" in conf._target_:
        assert augmentation == source_torchvision._AUGMENTATIONS[conf.name]
    elif path.stem in ("timm", "image_folder"):
        default = inspect.getsource(source_timm.timm_dataset)
        assert f"crop_scale=({augmentation.crop_scale[0]}, 1.0)" in default


def test_digits_from_its_file() -> None:
    data = instantiate(
        OmegaConf.merge(OmegaConf.load(FOLDER / "digits.yaml"), {"image_size": 8, "mean": [0.1, 0.2, 0.3]})
    )
    assert data.augmentation == Augmentation(crop_padding=2)
    assert data.mean == (0.1, 0.2, 0.3)
    assert len(data.train) == 1079

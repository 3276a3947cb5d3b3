"""The configuration files of this part: each says what it is, and gives every field at its default."""

import dataclasses
from pathlib import Path

import pytest
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf

FILES = sorted((Path(__file__).parents[2] / "conf" / "search").glob("*.yaml"))


def test_there_is_one_for_each_strategy() -> None:
    assert [path.stem for path in FILES] == ["evolution", "nsga2", "random"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_says_what_it_is_and_gives_every_field(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    assert first.startswith("# ")
    assert "https://" in first
    conf = OmegaConf.load(path)
    strategy = instantiate(conf)
    assert dataclasses.asdict(strategy) == {name: value for name, value in conf.items() if name != "_target_"}
    assert strategy == get_class(conf._target_)()
    assert strategy.budget == 1000

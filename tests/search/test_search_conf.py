"""The configuration files of this part: each says what it is, and gives every field at its default."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import get_class
from omegaconf import OmegaConf

from oneshot.config.building import STRATEGIES, build

FILES = sorted((Path(__file__).parents[2] / "conf" / "search").glob("*.yaml"))


def test_there_is_one_for_each_strategy() -> None:
    assert [path.stem for path in FILES] == [
        "controller",
        "derivation",
        "evolution",
        "exhaustive",
        "knapsack",
        "local",
        "nsga2",
        "perturbation",
        "random",
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_says_what_it_is_and_gives_every_field(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    assert first.startswith("# ")
    assert re.search(r"https://|\w+ 20\d\d\)", first)
    conf = OmegaConf.load(path)
    strategy = build(OmegaConf.to_container(conf), STRATEGIES, "search")
    fields = {
        name: value for name, value in dataclasses.asdict(strategy).items() if name not in ("draw", "errors", "choose")
    }  # comes from the supernet
    assert fields == without_targets(OmegaConf.to_container(conf))
    assert strategy == get_class(conf._target_)()
    budgets = {"derivation": 10, "exhaustive": 100_000, "knapsack": 20, "perturbation": 1}
    assert strategy.budget == budgets.get(path.stem, 1000)


def without_targets(conf: Any) -> Any:
    if not isinstance(conf, dict):
        return conf
    return {name: without_targets(value) for name, value in conf.items() if name != "_target_"}

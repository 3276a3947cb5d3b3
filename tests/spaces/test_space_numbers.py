"""Numbers of spaces that no network can have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from omegaconf import OmegaConf

from oneshot.config.paths import CONF
from oneshot.config.spaces import DataSize, make_space

DATA = DataSize(10, 32)
_OF_NETWORKS = ("timm", "network")  # whose numbers are those of a network that is given


def settings() -> Iterator[tuple[str, str, Any]]:
    """Every space with every setting that is a number, or a list of them."""
    for file in sorted((CONF / "space").glob("*.yaml")):
        if file.stem in _OF_NETWORKS:
            continue
        for name, value in OmegaConf.load(file).items():
            if name.startswith("_") or isinstance(value, (str, bool)):
                continue
            is_list = name == "resolutions" or OmegaConf.is_list(value)
            yield file.stem, name, [-16] if is_list else -16


@pytest.mark.parametrize(("space", "name", "value"), list(settings()))
def test_negative_numbers_are_refused_where_a_space_is_made(space: str, name: str, value: Any) -> None:
    config = OmegaConf.load(CONF / "space" / f"{space}.yaml")
    make_space(config, DATA)  # type: ignore[arg-type]
    config[name] = value
    with pytest.raises(ValueError, match=name if name != "depths" else "depth"):
        make_space(config, DATA)  # type: ignore[arg-type]


@pytest.mark.parametrize("space", ["darts", "nasbench201", "nasbench_macro"])
def test_spaces_have_a_channel(space: str) -> None:
    config = OmegaConf.load(CONF / "space" / f"{space}.yaml")
    config["channels"] = 0
    with pytest.raises(ValueError, match="channels must be a whole number of at least 1, got 0"):
        make_space(config, DATA)  # type: ignore[arg-type]

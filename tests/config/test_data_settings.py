"""The settings of data that a file recorded or a user typed."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from oneshot.config import moved_data
from oneshot.data import digits


@pytest.mark.parametrize("recorded", [3, None, ["oneshot.data.digits"], "oneshot.data.digits"])
def test_a_file_whose_data_settings_are_none_is_refused(recorded: object) -> None:
    with pytest.raises(ValueError, match=r"^data holds settings by name, not "):
        moved_data(recorded, OmegaConf.create({"root": None}))


def test_only_what_can_be_typed_is_offered() -> None:
    with pytest.raises(ValueError, match=r"unknown data option 'x' \(common options: image_size, .*\)") as raised:
        digits(x=1)
    assert "recorded" not in str(raised.value)

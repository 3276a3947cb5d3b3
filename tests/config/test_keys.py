"""What of a command line nothing reads, or decides otherwise than it seems to."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from oneshot.config import check_apart
from oneshot.config.keys import check_emptied, check_one_smoothing, has_typed_lengths, unread_by_sampler
from oneshot.spaces import DARTS, NASBench201


def test_lengths_of_phases_that_were_typed_are_kept() -> None:
    assert has_typed_lengths(["sampler=darts", "+phases.one.epochs=3"])
    assert not has_typed_lengths(["+phases.one.epochs=3", "trainer.epochs=9"])
    assert not has_typed_lengths(["+phases.one.strongest=3"])


def test_settings_of_a_sampler_that_nothing_reads() -> None:
    cell, cells = NASBench201(num_classes=4, channels=4, num_cells=1), DARTS(num_classes=4, channels=4, num_cells=4)
    assert set(unread_by_sampler({}, cell)) == {"sampler.threshold"}
    assert unread_by_sampler({}, cells) == {}
    sampler = {
        "relaxation": {"temperature_of": {"end": 0.1, "decay": 0.045}},
        "regularisers": {"macs": {"formula": "add", "power": 3}, "none": None},
    }
    assert set(unread_by_sampler(sampler, cells)) == {
        "sampler.relaxation.temperature_of.end",
        "sampler.regularisers.macs.power",
    }
    linear = {
        "relaxation": {"temperature_of": {"end": 0.1, "decay": None}},
        "regularisers": {"macs": {"formula": "multiply"}},
    }
    assert unread_by_sampler(linear, cells) == {}


def test_an_empty_mapping_that_takes_nothing_away_is_refused() -> None:
    config = OmegaConf.create({"sampler": {"regularisers": {"zero_one": {"weight": 10}}, "max_skips": {}}})
    check_emptied(config, ["sampler.max_skips={}", "sampler.regularisers=null", "sampler=fair_darts"])
    with pytest.raises(ValueError, match=r"takes none of zero_one away: ~sampler\.regularisers\.zero_one does$"):
        check_emptied(config, ["sampler.regularisers={}"])
    config.sampler.max_skips["normal.*"] = 2
    with pytest.raises(ValueError, match=r"takes none of normal\.\* away: sampler\.max_skips=null does$"):
        check_emptied(config, ["+sampler.max_skips={}"])


def test_one_choice_is_not_narrowed_in_two_ways() -> None:
    check_apart(["normal.node3.*"], ["normal.node2.from0", "normal.node2.from1"])
    with pytest.raises(
        ValueError, match=r"options\.normal\.node2\.\* and strongest\.run both say what normal\.node2\.from0 may"
    ):
        check_apart(["normal.node2.*"], ["normal.node2.from0", "normal.node2.from1"])


def test_two_kinds_of_one_regulariser_are_refused() -> None:
    check_one_smoothing(["+regulariser=[smooth_random,beta_decay]", "sampler.regularisers.smooth.kind=adversarial"])
    with pytest.raises(
        ValueError, match=r"^smooth_random and smooth_adversarial are two kinds of one regulariser: name one"
    ):
        check_one_smoothing(["seed=1", "+regulariser=[smooth_random,beta_decay,smooth_adversarial]"])

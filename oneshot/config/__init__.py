"""What the entry points share; nothing else in the package knows Hydra."""

from oneshot.config.commands import command
from oneshot.config.keys import has_typed, has_typed_lengths, unread_by_sampler, unread_by_trainer, warn_unread
from oneshot.config.making import (
    check_apart,
    cost_settings,
    later_data,
    make_data,
    make_predictor,
    make_sampler,
    make_strategy,
    moved_data,
    patterns_of,
    phase_settings,
    plain,
    settings,
    trained_sampler,
    training_of,
)
from oneshot.config.own_code import code_setting
from oneshot.config.paths import CONF
from oneshot.config.presets import PRESET, for_repaired, rate_left_open, score_left_open, search_for_repaired
from oneshot.config.program import entry, newest_run
from oneshot.config.spaces import DataKind, DataSize, data_settings, log_notes, make_space, register_spaces

__all__ = [
    "CONF",
    "PRESET",
    "DataKind",
    "DataSize",
    "check_apart",
    "code_setting",
    "command",
    "cost_settings",
    "data_settings",
    "entry",
    "for_repaired",
    "has_typed",
    "has_typed_lengths",
    "later_data",
    "log_notes",
    "make_data",
    "make_predictor",
    "make_sampler",
    "make_space",
    "make_strategy",
    "moved_data",
    "newest_run",
    "patterns_of",
    "phase_settings",
    "plain",
    "rate_left_open",
    "register_spaces",
    "score_left_open",
    "search_for_repaired",
    "settings",
    "trained_sampler",
    "training_of",
    "unread_by_sampler",
    "unread_by_trainer",
    "warn_unread",
]

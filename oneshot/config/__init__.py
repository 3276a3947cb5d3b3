"""What the entry points share; nothing else in the package knows Hydra."""

from oneshot.config.making import (
    cost_settings,
    make_data,
    make_predictor,
    moved_data,
    phase_settings,
    plain,
    settings,
    trained_sampler,
)
from oneshot.config.paths import CONF
from oneshot.config.program import entry, newest_run
from oneshot.config.spaces import DataKind, DataSize, data_settings, make_space, register_spaces

__all__ = [
    "CONF",
    "DataKind",
    "DataSize",
    "cost_settings",
    "data_settings",
    "entry",
    "make_data",
    "make_predictor",
    "make_space",
    "moved_data",
    "newest_run",
    "phase_settings",
    "plain",
    "register_spaces",
    "settings",
    "trained_sampler",
]

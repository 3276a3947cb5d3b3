"""Settings out of range are refused with their name, their value and what is allowed."""

import math
from dataclasses import replace
from typing import Any

import pytest

from oneshot.training import PhaseSettings, TrainSettings
from oneshot.training.settings import check_optimizer


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("epochs", -1, "at least 0"),
        ("batch_size", 0, "at least 1"),
        ("log_every", 0, "at least 1"),
        ("eval_every", -1, "at least 0"),
        ("keep_checkpoints", 0, "at least 1"),
        ("lr", -0.1, "at least 0"),
        ("lr", math.nan, "finite"),
        ("weight_decay", math.inf, "finite"),
        ("warmup_epochs", -1.0, "at least 0"),
        ("min_lr", -1.0, "at least 0"),
        ("min_lr", 0.2, "at most trainer.lr=0.1"),
        ("checkpoint_seconds", -1.0, "at least 0"),
        ("momentum", 1.0, "between 0 and 1"),
        ("label_smoothing", 1.5, "between 0 and 1"),
        ("label_smoothing", math.nan, "between 0 and 1"),
        ("ema_decay", 1.0, "between 0 and 1"),
        ("ema_decay", -0.1, "between 0 and 1"),
        ("clip_grad", 0.0, "above 0, or null"),
        ("clip_grad", math.nan, "above 0, or null"),
        ("clip_mode", "length", "'norm', 'value' or 'agc'"),
        ("threads", 0, "at least 1, or null"),
    ],
)
def test_out_of_range(name: str, value: Any, allowed: str) -> None:
    with pytest.raises(ValueError, match=f"trainer.{name} .*{allowed}") as raised:
        TrainSettings(**{name: value})
    assert str(raised.value).endswith(f"not {value!r}")


@pytest.mark.parametrize(
    "settings",
    [
        {"eval_every": 0, "lr": 0.0, "momentum": 0.0, "label_smoothing": 0.0, "checkpoint_seconds": 0.0},
        {"clip_grad": None, "ema_decay": None, "threads": None, "warmup_epochs": 0.0},
        {"ema_decay": 0.0, "clip_mode": "agc"},
    ],
)
def test_the_ends_of_the_ranges(settings: dict[str, Any]) -> None:
    made = TrainSettings(**settings)
    assert all(getattr(made, name) == value for name, value in settings.items())


def test_optimizers_are_timms() -> None:
    check_optimizer("sgd")
    check_optimizer("AdamW")
    with pytest.raises(ValueError, match=r"trainer.optimizer 'adamm' is not one of timm's; did you mean 'adam"):
        check_optimizer("adamm")
    with pytest.raises(ValueError, match=r"'qqqqqq' is not one of timm's: \w+, \w+"):
        check_optimizer("qqqqqq")


def test_a_phase_of_few_images_is_longer() -> None:
    phase = PhaseSettings(epochs=4, min_steps=75, warmup_epochs=1.0)
    assert phase.lengthened(19) == phase  # 76 steps
    assert phase.lengthened(4) == replace(phase, epochs=19, warmup_epochs=4.75)
    assert phase.lengthened(1).epochs == 75
    assert PhaseSettings(epochs=4).lengthened(1).epochs == 4
    with pytest.raises(ValueError, match="a phase's min_steps is at least 0"):
        PhaseSettings(min_steps=-1)

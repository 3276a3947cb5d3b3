"""How far long work has come, where there is no terminal."""

from __future__ import annotations

import io
import logging
import sys
from itertools import pairwise

import pytest
import torch

from oneshot.progress import progress

LOG = logging.getLogger("oneshot.tests.progress")


class Clock:
    """Stands still until it is moved."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("tqdm.std.time", clock)
    return clock


def test_a_line_at_least_every_thirty_seconds_with_the_time_left(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], clock: Clock
) -> None:
    spoken = []
    with caplog.at_level(logging.INFO), progress(LOG, "train", "step", total=100) as bar:
        for step in range(1, 101):
            clock.now += 4
            bar.set_postfix_str(f"loss {step / 10:.1f}", refresh=False)
            bar.update()
            spoken += [(clock.now, record.getMessage()) for record in caplog.records]
            caplog.clear()
    times = [1000.0, *(time for time, _ in spoken), clock.now]
    assert max(later - earlier for earlier, later in pairwise(times)) <= 30
    assert len(spoken) == 20
    assert spoken[4] == (1100.0, "train: 25 of 100 steps, loss 2.5, 05:00 left")
    assert capsys.readouterr().err == ""


def test_slow_first_steps_do_not_stand_for_all(caplog: pytest.LogCaptureFixture, clock: Clock) -> None:
    """On a CUDA device the first steps can take a hundred times as long as the others."""
    with caplog.at_level(logging.INFO), progress(LOG, "train", "step", total=1000) as bar:
        for seconds in (10.0, 10.0, 10.0, *[0.1] * 97):
            clock.now += seconds
            bar.update()
        bar.refresh()
    assert caplog.messages == ["train: 2 of 1000 steps, 2:46:20 left", "train: 100 of 1000 steps, 05:57 left"]


def test_slow_and_uneven_work_speaks_at_every_step(caplog: pytest.LogCaptureFixture, clock: Clock) -> None:
    """After a thousand fast ones: tqdm would by itself look at the clock only every so many."""
    with caplog.at_level(logging.INFO), progress(LOG, "search", "network", total=1010) as bar:
        for _ in range(1000):
            clock.now += 0.1
            bar.update()
        caplog.clear()
        for _ in range(10):
            clock.now += 60
            bar.update()
    assert len(caplog.records) == 10
    assert caplog.records[-1].levelno == logging.INFO


def test_short_work_says_nothing_and_a_line_comes_when_asked_for(
    caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    with caplog.at_level(logging.INFO):
        for _ in progress(LOG, "score", "network", iterable=range(50)):
            clock.now += 0.1
        assert not caplog.records
        with progress(LOG, "train", "step", total=12, initial=6) as bar:
            clock.now += 1
            bar.update()
            bar.refresh()
    assert caplog.messages == ["train: 7 of 12 steps, 00:05 left"]


def test_a_walk_of_unknown_length(caplog: pytest.LogCaptureFixture, clock: Clock) -> None:
    with caplog.at_level(logging.INFO):
        for _ in progress(LOG, "layers", "network", iterable=iter(range(3))):
            clock.now += 30
    assert caplog.messages == ["layers: 1 networks", "layers: 2 networks", "layers: 3 networks"]


def test_only_the_first_of_several_processes_speaks(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    with caplog.at_level(logging.INFO):
        for rank in (0, 1):
            monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
            for _ in progress(LOG, f"rank {rank}", "step", iterable=range(1)):
                clock.now += 30
    assert [message.partition(":")[0] for message in caplog.messages] == ["rank 0"]


def test_a_bar_on_a_terminal(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", terminal)
    with caplog.at_level(logging.INFO):
        for _ in progress(LOG, "train", "step", iterable=range(4)):
            clock.now += 2
    assert "train: 100%|" in terminal.getvalue()
    assert not caplog.records


def test_a_library_that_nobody_listens_to_is_silent(capsys: pytest.CaptureFixture[str], clock: Clock) -> None:
    assert progress(LOG, "train", "step", total=3).disable
    for _ in progress(LOG, "train", "step", iterable=range(3)):
        clock.now += 60
    assert capsys.readouterr() == ("", "")


def test_work_within_work_writes_lines_and_no_moves_of_a_cursor(caplog: pytest.LogCaptureFixture, clock: Clock) -> None:
    """As where networks are retrained one by one."""
    with caplog.at_level(logging.INFO), progress(LOG, "retrain", "network", total=2) as outer:
        for _ in range(2):
            with progress(LOG, "train", "step", total=3) as inner:
                for _ in range(3):
                    clock.now += 30
                    inner.update()
            outer.update()
    inner_lines = [
        f"train: {step} of 3 steps, {left} left" for step, left in ((1, "01:00"), (2, "00:30"), (3, "00:00"))
    ]
    spoken = [record.getMessage() for record in caplog.records]
    assert [line for line in spoken if line.startswith("train")] == inner_lines * 2
    assert [line.split(",")[0] for line in spoken if not line.startswith("train")] == [
        "retrain: 1 of 2 networks",
        "retrain: 2 of 2 networks",
    ]

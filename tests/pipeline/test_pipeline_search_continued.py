"""Searches that were stopped go on, and their settings."""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from child_processes import start, wait
from pipeline_runs import DATA, killed_search, open_once, opened, read_rows, search, train
from toy_searches import STRATEGIES, key_of
from toy_spaces import make_images
from training_runs import differences

from oneshot.arch import Arch
from oneshot.evaluation import Evaluator, Score
from oneshot.pipeline.folders import load_subnet
from oneshot.pipeline.search_settings import EvaluationSettings
from oneshot.search import Evaluated, Problem, RandomSearch
from oneshot.spaces import NASBenchMacro


class Late(RandomSearch):
    """Takes its time before the first network is scored."""

    def search(self, problem: Problem, rng: np.random.Generator) -> Evaluated:
        time.sleep(1.0)
        return super().search(problem, rng)


FILES = ("candidates.csv", "pareto.json", "subnet.json", "search.json", "architecture.svg")


# Going on ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("stop", [1, 6, 11])
def test_a_search_that_was_stopped_ends_like_one_that_was_not(
    supernet_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    finished: Callable[[str], Path],
    name: str,
    stop: int,
) -> None:
    expected = finished(name)
    evaluated: list[Arch] = []
    original = Evaluator.scores

    def interrupt(evaluator: Evaluator, archs: Sequence[Arch]) -> Iterator[tuple[Arch, Score]]:
        for arch, score in original(evaluator, archs):
            if len(evaluated) == stop:
                raise KeyboardInterrupt
            evaluated.append(arch)
            yield arch, score

    monkeypatch.setattr(Evaluator, "scores", interrupt)
    with pytest.raises(KeyboardInterrupt):
        search(supernet_folder, tmp_path, STRATEGIES[name])
    assert len(read_rows(tmp_path)) == stop
    stop = -1
    search(supernet_folder, tmp_path, STRATEGIES[name])
    assert len(set(evaluated)) == len(evaluated) == len(read_rows(expected))
    for file in FILES:
        assert (tmp_path / file).read_bytes() == (expected / file).read_bytes(), file
    assert not differences(load_subnet(tmp_path).weights, load_subnet(expected).weights)


@pytest.mark.parametrize("name", ["evolution", "random"])
def test_a_search_that_was_killed_ends_like_one_that_was_not(
    supernet_folder: Path, tmp_path: Path, finished: Callable[[str], Path], name: str
) -> None:
    for number in (3, 1, 5):
        assert wait(start(killed_search, str(supernet_folder), str(tmp_path), STRATEGIES[name], number)) == -9
        assert not (tmp_path / "subnet.pt").exists()
    search(supernet_folder, tmp_path, STRATEGIES[name])
    for file in FILES:
        assert (tmp_path / file).read_bytes() == (finished(name) / file).read_bytes(), file


def test_a_search_of_another_version_is_refused_in_one_line(supernet_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "candidates.csv").write_text("index,source,accuracy,loss,num_images,macs,params,latency_ms,arch\n")
    with pytest.raises(ValueError, match=r"holds candidates\.csv without run\.sqlite: .*use another folder") as raised:
        open_once(supernet_folder, tmp_path)
    assert "\n" not in str(raised.value)


def test_a_finished_search_evaluates_nothing_again(
    supernet_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = search(supernet_folder, tmp_path).outcomes[0].best
    monkeypatch.setattr(Evaluator, "scores", lambda self, archs: pytest.fail("scored again") if archs else iter(()))
    assert search(supernet_folder, tmp_path).outcomes[0].best == first


def test_another_strategy_may_use_the_scores_of_a_folder(supernet_folder: Path, tmp_path: Path) -> None:
    search(supernet_folder, tmp_path)
    before = {row["arch"]: key_of(row) for row in read_rows(tmp_path)}
    search(supernet_folder, tmp_path, STRATEGIES["evolution"])
    rows = read_rows(tmp_path)
    assert len({row["arch"] for row in rows}) == len(rows)
    assert before.items() <= {row["arch"]: key_of(row) for row in rows}.items()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed was 0 and is 1"),
        ({"calibration_images": 32}, "calibration_images was 64 and is 32"),
        ({"max_images": 20}, "held_out_images was 64 and is 20"),
        ({"data": replace(DATA, name="others")}, "data was toys and is others"),
    ],
)
def test_scores_made_otherwise_are_not_mixed(
    supernet_folder: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    open_once(supernet_folder, tmp_path)
    with pytest.raises(ValueError, match=f"holds another search .*{message}.*use another folder"):
        open_once(supernet_folder, tmp_path, **change)


def test_the_folder_of_another_supernet_is_refused(supernet_folder: Path, tmp_path: Path) -> None:
    search(supernet_folder, tmp_path / "search")
    before = (tmp_path / "search" / "candidates.csv").read_bytes()
    train(tmp_path / "supernet", epochs=6, seed=1)
    with pytest.raises(ValueError, match=r"holds another search .*supernet was .*use another folder"):
        open_once(tmp_path / "supernet", tmp_path / "search")
    assert (tmp_path / "search" / "candidates.csv").read_bytes() == before


def test_a_supernet_trained_anew_in_the_same_folder_is_another(tmp_path: Path) -> None:
    train(tmp_path / "supernet", epochs=1)
    open_once(tmp_path / "supernet", tmp_path / "search")
    (tmp_path / "supernet").rename(tmp_path / "old")
    train(tmp_path / "supernet", replace(DATA, train=make_images(96, seed=7)), epochs=1)
    with pytest.raises(ValueError, match="holds another search"):
        open_once(tmp_path / "supernet", tmp_path / "search")
    open_once(tmp_path / "old", tmp_path / "search")


def test_candidates_of_another_space_are_refused(supernet_folder: Path, tmp_path: Path) -> None:
    with opened(supernet_folder, tmp_path) as (scores, _):
        scores.store.record("search", NASBenchMacro().largest, Score(0.5, 0.5, 64), 1, 1, None)
    with pytest.raises(ValueError, match=r"run\.sqlite: 'layer1' is not a choice of this space"):
        open_once(supernet_folder, tmp_path)


# Settings ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("metric", "f1", "'accuracy' or 'loss'"),
        ("calibration_images", 1, "at least 2"),
        ("batch_size", 0, "at least 1"),
        ("max_images", 0, "at least 1"),
        ("threads", 0, "at least 1"),
    ],
)
def test_settings_out_of_range(name: str, value: Any, allowed: str) -> None:
    with pytest.raises(ValueError, match=f"evaluation.{name} is {allowed}, not {value!r}"):
        EvaluationSettings(**{name: value})


def test_scores_are_finite(finished: Callable[[str], Path]) -> None:
    for row in read_rows(finished("random")):
        assert 0 <= float(row["accuracy"]) <= 1
        assert math.isfinite(float(row["loss"]))


def test_the_log_tells_how_far_a_search_is(
    supernet_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oneshot.progress.SECONDS", 0.0)
    with caplog.at_level(logging.INFO):
        search(supernet_folder, tmp_path, Late(num_samples=8, batch_size=3))
    lines = [message for message in caplog.messages if message.startswith("search: ")]
    assert len(lines) == 16
    # Fifteen networks are left at the first line: with the second before it counted that were more than fifteen seconds.
    assert all(re.search(r", 00:(0\d|1[0-4]) left$", line) for line in lines)
    best = max(float(row["accuracy"]) for row in read_rows(tmp_path) if row["source"] == "search")
    assert f"search: 8 of 16 networks, best accuracy {best:.4f}, " in lines[7]
    assert lines[-1].endswith("left")

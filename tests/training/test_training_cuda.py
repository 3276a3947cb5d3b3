"""What training does for the sake of a CUDA device, tested without one."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from test_training_loss import IMAGES, PlainEngine, make_supernet
from toy_spaces import ToySpace
from training_runs import Scripted, make_trainer

from oneshot.devices import deterministic
from oneshot.samplers import UniformSampler
from oneshot.training import SupernetTask
from oneshot.training.batches import ahead
from oneshot.training.randomness import seeded


def test_a_step_of_many_paths_waits_for_its_numbers_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at a number of a device waits until it has done all that it was given."""
    supernet = make_supernet()
    archs = list(supernet.space.enumerate())[:5]
    looks: list[str] = []
    for name in ("item", "tolist", "__bool__", "__float__", "__int__"):
        original = getattr(torch.Tensor, name)
        monkeypatch.setattr(torch.Tensor, name, lambda self, own=name, of=original: looks.append(own) or of(self))
    task = SupernetTask(supernet, Scripted(supernet.space, lambda step: archs))
    task.step(IMAGES.images, IMAGES.labels, 0, PlainEngine())
    assert len(looks) == 1


def test_batches_are_made_while_the_one_before_is_at_work() -> None:
    made: list[int] = []
    threads = set()

    def items() -> Iterator[int]:
        for number in range(4):
            threads.add(threading.current_thread())
            made.append(number)
            yield number

    for place, number in enumerate(ahead(items())):
        assert number == place
        for _ in range(1000):
            if len(made) >= min(4, number + 2):
                break
            threading.Event().wait(0.005)
        assert len(made) == min(4, number + 2)
    assert threading.current_thread() not in threads


def test_an_error_in_a_batch_comes_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("broken")

    batches = ahead(items())
    assert next(batches) == 1
    with pytest.raises(ValueError, match="broken"):
        next(batches)


def test_the_generator_of_the_runs_own_device_is_seeded_and_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not that of whichever device is the current one."""
    states = {"cuda:0": torch.tensor([7], dtype=torch.uint8), "cuda:1": torch.tensor([8], dtype=torch.uint8)}
    current = ["cuda:0"]

    @contextlib.contextmanager
    def device(wanted: Any) -> Iterator[None]:
        current.append(str(wanted))
        yield
        current.pop()

    monkeypatch.setattr("torch.cuda.device", device)
    monkeypatch.setattr("torch.cuda.get_rng_state", lambda wanted: states[str(wanted)].clone())
    monkeypatch.setattr("torch.cuda.set_rng_state", lambda state, wanted: states.update({str(wanted): state}))
    monkeypatch.setattr(
        "torch.cuda.manual_seed", lambda seed: states.update({current[-1]: torch.tensor([seed % 256]).byte()})
    )
    with seeded("step", 3, device=torch.device("cuda:1")):
        inside = {name: int(state) for name, state in states.items()}
    assert inside["cuda:0"] == 7
    assert inside["cuda:1"] != 8
    assert {name: int(state) for name, state in states.items()} == {"cuda:0": 7, "cuda:1": 8}


@pytest.mark.parametrize("wanted", [True, False])
def test_deterministic_algorithms_where_they_are_asked_for(
    tmp_path: Path, wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    seen = set()
    watched = Scripted(
        ToySpace(),
        UniformSampler(ToySpace()).sample,
        lambda step: seen.add(torch.are_deterministic_algorithms_enabled()),
    )
    make_trainer(tmp_path, sampler=lambda space: watched, epochs=1, deterministic=wanted).run()
    assert seen == {wanted}
    assert not torch.are_deterministic_algorithms_enabled()
    assert ("CUBLAS_WORKSPACE_CONFIG" in os.environ) == wanted
    with deterministic(True):
        assert not torch.backends.cudnn.benchmark

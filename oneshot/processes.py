"""Several processes that work on one run, as ``torchrun`` or a cluster's launcher starts them: who they are, which part of a
batch is whose, and what they tell one another. All of it is ``torch.distributed``; a process that is alone notices nothing of it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import FrameType
from typing import TypeVar

import torch
import torch.distributed as distributed
from torch import Tensor

T = TypeVar("T")
R = TypeVar("R")


class LostProcess(KeyboardInterrupt):
    """Another process of this run has ended, or this one was told to end. As with Ctrl-C the run can be continued, and nothing
    between the run and the program takes it for a failure.
    """


@dataclass(frozen=True)
class Share:
    """The rows ``start`` to ``stop`` of ``total``, which are this process's."""

    start: int
    stop: int
    total: int

    @property
    def rows(self) -> slice:
        return slice(self.start, self.stop)

    @property
    def weight(self) -> float:
        """The part of all rows that it is."""
        return (self.stop - self.start) / self.total


def rank() -> int:
    """This process's number, from 0."""
    return distributed.get_rank() if _together() else 0


def count() -> int:
    """How many processes the run has."""
    return distributed.get_world_size() if _together() else 1


def is_first() -> bool:
    """Whether this process is the one that writes and speaks."""
    return rank() == 0


def count_here() -> int:
    """How many of them are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", count())) if _together() else 1


def share_of(total: int) -> Share:
    """This process's share of ``total`` rows; shares differ by at most one row.

    Raises:
        ValueError: there are fewer rows than processes.
    """
    if total < count():
        raise ValueError(
            f"a batch of {total} cannot be shared out among {count()} processes: start fewer, or raise trainer.batch_size"
        )
    own = part_of(total)
    return Share(own.start, own.stop, total)


def part_of(total: int) -> range:
    """Which of ``total`` pieces of work are this process's; parts differ by at most one, and may be empty."""
    return range(total * rank() // count(), total * (rank() + 1) // count())


# What they tell one another ------------------------------------------------------------------------------------------


def add_up(tensors: Sequence[Tensor]) -> None:
    """Replaces each tensor by its sum over all processes, which give tensors of the same shapes; of each type in one piece."""
    if count() > 1:
        _in_one_piece(tensors, distributed.all_reduce)


def as_first(tensors: Sequence[Tensor]) -> None:
    """Replaces each tensor by the first process's."""
    if count() > 1:
        _in_one_piece(tensors, lambda flat: distributed.broadcast(flat, 0))


def from_first(value: T) -> T:
    """The first process's value."""
    if count() == 1:
        return value
    values = [value]
    with losing():
        distributed.broadcast_object_list(values)
    return values[0]


def gathered(value: T) -> list[T]:
    """The values of all processes, by rank."""
    if count() == 1:
        return [value]
    values: list[T | None] = [None] * count()
    with losing():
        distributed.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def shared_out(items: Sequence[T], function: Callable[[Sequence[T]], Sequence[R]]) -> list[R]:
    """What ``function`` makes of items, one value for each; every process asks it for some of them, and all get all."""
    found = gathered(list(function(items[rank() :: count()])))
    return [found[place % count()][place // count()] for place in range(len(items))]


def next_turn(name: str) -> int:
    """How often any process has asked for a turn of this name before."""
    with losing():
        return int(distributed.distributed_c10d._get_default_store().add(f"oneshot: turn {name}", 1)) - 1


def wait() -> None:
    """Until all processes have come here."""
    add_up([torch.zeros(1)])


def _together() -> bool:
    return distributed.is_available() and distributed.is_initialized()


@torch.no_grad()
def _in_one_piece(tensors: Sequence[Tensor], exchange: Callable[[Tensor], object]) -> None:
    kinds = dict.fromkeys((tensor.dtype, tensor.device) for tensor in tensors)
    for kind in kinds:
        own = [tensor for tensor in tensors if (tensor.dtype, tensor.device) == kind]
        flat = torch.cat([tensor.reshape(-1) for tensor in own])
        with losing():
            exchange(flat)
        parts = flat.split([tensor.numel() for tensor in own])
        torch._foreach_copy_(own, [part.view(tensor.shape) for part, tensor in zip(parts, own, strict=True)])


@contextlib.contextmanager
def losing() -> Iterator[None]:
    """Inside, an exchange that fails because another process has ended raises LostProcess."""
    try:
        yield
    except RuntimeError as error:  # as which gloo reports a connection that ended
        known = isinstance(error, distributed.DistError)
        if not known and not any(word in str(error).lower() for word in ("connect", "peer", "time", "pipe", "socket")):
            raise
        raise LostProcess("stopped: another process of this run has ended") from error


# The beginning and the end -------------------------------------------------------------------------------------------


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Inside, this process is one of those that its environment tells of: in the variables that ``torchrun`` sets, or as a task
    of a job that Hydra's submitit launcher started. Without any, and where it has joined already, nothing changes.

    Processes other than the first log errors alone. One that is told to end (SIGTERM), which is how the others are stopped where
    one has failed, raises LostProcess.
    """
    if _together() or not _is_one_of_several():
        yield
        return
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend)
    before = logging.root.manager.disable
    if not is_first():
        logging.disable(logging.WARNING)
    with _told_to_end():
        try:
            yield
            wait()  # who leaves early would be missed
        finally:
            logging.disable(before)
        distributed.destroy_process_group()


def is_first_to_tell(line: str, *, unless_told: bool = False) -> bool:
    """Whether no other process of this run has told its user this line yet; with ``unless_told`` any line at all."""
    if not _together():
        return True
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the end has come; let it be told
    try:
        store = distributed.distributed_c10d._get_default_store()
        lines = store.add("oneshot: lines", 0)
        if unless_told and lines:
            return False
        store.add("oneshot: lines", 1)
        return bool(store.add(f"oneshot: line {line}", 1) == 1)
    except RuntimeError:  # the process that knew has ended
        return True


def _is_one_of_several() -> bool:
    if "SUBMITIT_EXECUTOR" in os.environ and "RANK" not in os.environ:
        from submitit.helpers import TorchDistributedEnvironment

        TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", 1)) > 1


def _told_to_end() -> AbstractContextManager[None]:
    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise LostProcess("stopped: this run was told to end, or another process of it has ended")

    return handling(end, signal.SIGTERM)


@contextlib.contextmanager
def handling(handle: Callable[[int, FrameType | None], None], *numbers: signal.Signals) -> Iterator[None]:
    """Inside, ``handle`` gets these signals; elsewhere than in the main thread, which alone may ask for that, nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)

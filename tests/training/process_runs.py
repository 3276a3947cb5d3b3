"""Training runs that several child processes share, in double precision; most are without batch normalisation."""

from __future__ import annotations

import functools
import os
import signal
import socket
from collections import OrderedDict
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import norm_kernels
import torch
from child_processes import start
from killed_runs import ARCHITECTURE, CONTROLLER, PHASES
from torch import Tensor, nn
from toy_spaces import ToyCell, ToySpace

import oneshot.evaluation.batches as evaluation_batches
import oneshot.training.trainer as trainer_module
from oneshot.arch import Arch
from oneshot.data import Augmentation, digits, prepare
from oneshot.pipeline.train import SupernetTraining, train_supernet
from oneshot.processes import LostProcess, joined, rank
from oneshot.samplers import AttentiveSampler, UniformSampler
from oneshot.spaces.base import Make
from oneshot.training import TrainSettings

LOST = 77


class ConvGroups(nn.Sequential):
    """Convolution, GroupNorm, ReLU: normalised without other images."""

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int = 1) -> None:
        conv = nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, bias=False)
        super().__init__(OrderedDict(conv=conv, norm=nn.GroupNorm(1, channels), relu=nn.ReLU()))


class _Making:
    """A ``make`` with another block in the place of ``ConvNorm``."""

    def __init__(self, make: Make) -> None:
        self._make = make
        self.choose, self.unless = make.choose, make.unless

    def __call__(self, name: str, block: Callable[..., nn.Module], *args: Any, **kwargs: Any) -> nn.Module:
        return self._make(name, ConvGroups if block.__name__ == "ConvNorm" else block, *args, **kwargs)


class SeparateSpace(ToySpace):
    def build(self, arch: Arch, make: Make) -> nn.Module:
        return super().build(arch, _Making(make))


class SeparateCell(ToyCell):
    def build(self, arch: Arch, make: Make) -> nn.Module:
        return super().build(arch, _Making(make))


def run_together(number: int, function: Callable[..., None], *args: Any) -> list[BaseProcess]:
    """Starts ``number`` processes of one run, as torchrun does."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    return [start(_join, own, number, port, function, *args) for own in range(number)]


def _join(own: int, number: int, port: int, function: Callable[..., None], *args: Any) -> None:
    here = {"RANK": own, "LOCAL_RANK": own, "WORLD_SIZE": number, "LOCAL_WORLD_SIZE": number, "MASTER_PORT": port}
    os.environ |= {"MASTER_ADDR": "127.0.0.1"} | {name: str(value) for name, value in here.items()}
    try:
        with joined():
            function(*args)
    except LostProcess:
        os._exit(LOST)


def train_kinds(folder: str, kinds: list[str], die_at: int | None = None) -> None:
    """Trains a supernet of each kind; the second process kills itself in its step ``die_at``."""
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    if die_at is not None and rank() == 1:
        trainer_module.augment = functools.partial(_die, iter(range(die_at, -1, -1)), trainer_module.augment)  # type: ignore[attr-defined]
    kernels = norm_kernels.register()  # noqa: F841 - for as long as it is held
    trainer_module.check_synchronised = lambda wanted, device: None  # type: ignore[attr-defined]
    for module in (trainer_module, evaluation_batches):
        module.prepare = _prepare_double  # type: ignore[attr-defined]
    data = digits(image_size=8, max_train_images=90, augmentation=AUGMENTATION)
    for kind in kinds:
        train_supernet(*_training(kind, data), Path(folder) / kind)  # type: ignore[call-arg]


AUGMENTATION = Augmentation(1, (0.5, 1.0), (0.8, 1.25), True, 0.5)


def _training(kind: str, data: Any) -> tuple[Any, ...]:
    settings = {
        "epochs": 2,
        "batch_size": 30,
        "device": "cpu",
        "checkpoint_seconds": 0,
        "log_every": 1,
        "ema_decay": 0.9,
        "amp": False,
    }
    trainer = TrainSettings(**settings)  # type: ignore[arg-type]
    if kind == "phases":
        phases, space, sampler = PHASES, SeparateSpace(10, resolutions=(6, 8)), UniformSampler
        trainer = TrainSettings(**settings | {"epochs": 3})  # type: ignore[arg-type]
    elif kind == "synchronised":
        phases, space, sampler = {}, ToySpace(10), UniformSampler
        trainer = TrainSettings(**settings, sync_batch_norm=True)  # type: ignore[arg-type]
    else:
        phases = {}
        space = SeparateCell(10) if kind == "architecture" else SeparateSpace(10)
        samplers = {"architecture": ARCHITECTURE, "controller": CONTROLLER, "attentive": ATTENTIVE}
        sampler = samplers[kind]
    return space, data, SupernetTraining(trainer, sampler, 64, phases, config={"kind": kind})


ATTENTIVE = functools.partial(AttentiveSampler, num_candidates=2, num_observations=50)


def _prepare_double(*args: Any, **kwargs: Any) -> Tensor:
    return prepare(*args, **kwargs).double()


def _die(steps: Iterator[int], augment: Callable[..., Tensor], *args: Any) -> Tensor:
    if next(steps) == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return augment(*args)

"""True accuracies where there is no table of them: some of the ranked networks are retrained, each alone."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from statistics import fmean
from typing import Protocol

from oneshot.arch import Arch
from oneshot.data import ImageData
from oneshot.evaluation import Score
from oneshot.pipeline.folders import Subnet
from oneshot.pipeline.retrain import SubnetTraining, retrain_subnet
from oneshot.pipeline.search_settings import RetrainedTruth
from oneshot.pipeline.truth import Truth
from oneshot.processes import is_first
from oneshot.progress import progress
from oneshot.reading import read_json
from oneshot.runs import Store, fingerprint, write_json

log = logging.getLogger(__name__)

# What does not change what a network reaches.
_FREE = ("device", "deterministic", "threads", "log_every", "eval_every", "checkpoint_seconds", "keep_checkpoints")


class Ranked(Protocol):
    """Scored candidates."""

    @property
    def store(self) -> Store[Arch, Score]: ...

    def ranked(self, archs: Iterable[Arch]) -> list[Arch]: ...

    def describe(self, arch: Arch) -> str: ...


def retrain_truth(
    scores: Ranked,
    archs: Sequence[Arch],
    subnet_of: Callable[[Arch], Subnet],
    data: ImageData,
    settings: RetrainedTruth,
) -> Truth:
    """Retrains some of the scored ``archs``, spread evenly over their ranking from the first to the last, or all where there are
    fewer; what each reaches on the test images, the mean over ``settings.num_seeds`` trainings, is its truth.

    Each training lies in a folder of its own below ``retrained`` beside the scores, with ``retrained.pt`` and
    ``retrain.json``. Run again, finished ones are read and one that was stopped goes on. ``retrained/truth.json`` can be given as
    a table of true accuracies later.

    Args:
        subnet_of: a scored network with inherited weights.

    Raises:
        ValueError: the folder holds networks that were retrained otherwise.
    """
    folder, trainer, num_seeds = scores.store.folder / "retrained", settings.trainer, settings.num_seeds
    _claim(scores, settings)
    chosen = spread(scores.ranked(archs), settings.number)
    values: dict[Arch, float] = {}
    held_out: dict[Arch, float] = {}
    with progress(log, "retrain", "network", total=len(chosen) * num_seeds) as bar:
        for arch in chosen:
            reached, kept = [], []
            for seed in range(trainer.seed, trainer.seed + num_seeds):
                own = folder / _name(arch) / f"seed{seed}"
                if not (own / "retrain.json").is_file():
                    training = SubnetTraining(replace(trainer, seed=seed), settings.retrain)
                    retrain_subnet(subnet_of(arch), data, training, own)
                    if is_first():
                        shutil.rmtree(own / "checkpoints")  # of no use any more, and many
                card = read_json(own / "retrain.json", "result")
                reached.append(card["test_accuracy"])
                kept.append(card["held_out_accuracy"])
                bar.update()
            values[arch], held_out[arch] = fmean(reached), fmean(kept)
            log.info("retrained %d of %d: %.4f on the test images", len(values), len(chosen), values[arch])
            write_json(folder / "truth.json", {arch.to_json(): value for arch, value in values.items()})
    trainings = "" if num_seeds == 1 else f", {num_seeds} times each"
    return Truth(
        f"retraining for {trainer.epochs} epoch{'' if trainer.epochs == 1 else 's'}{trainings}", values, held_out
    )


def spread(ranked: Sequence[Arch], number: int) -> Sequence[Arch]:
    """``number`` of the ``ranked``, evenly from the first to the last; all where there are fewer."""
    if number >= len(ranked):
        return ranked
    return [ranked[round(place * (len(ranked) - 1) / (number - 1))] for place in range(number)]


def _claim(scores: Ranked, settings: RetrainedTruth) -> None:
    """Networks that were trained otherwise must not be compared with these."""
    trainer, retrain = asdict(settings.trainer), asdict(settings.retrain)
    identity = {f"trainer.{name}": value for name, value in trainer.items() if name not in (*_FREE, "seed")}
    identity |= {f"retrain.{name}": value for name, value in retrain.items() if name != "calibration_images"}
    scores.store.claim("retrained", identity, "holds networks that were retrained otherwise")


def _name(arch: Arch) -> str:
    return fingerprint([arch.to_json().encode()])[:12]

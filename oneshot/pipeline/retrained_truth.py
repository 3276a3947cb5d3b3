"""True accuracies where there is no table of them: some of the ranked networks are retrained, each alone."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from oneshot.arch import Arch
from oneshot.pipeline.candidate_scores import Scorer
from oneshot.pipeline.folders import Subnet
from oneshot.pipeline.retrain import RetrainSettings, retrain_subnet
from oneshot.pipeline.truth import Truth
from oneshot.progress import progress
from oneshot.reading import read_json
from oneshot.runs import fingerprint, write_json
from oneshot.training import TrainSettings

log = logging.getLogger(__name__)

# What does not change what a network reaches.
_FREE = ("device", "threads", "log_every", "eval_every", "checkpoint_seconds", "keep_checkpoints")


def retrain_truth(
    scorer: Scorer,
    archs: Sequence[Arch],
    number: int,
    settings: TrainSettings,
    retrain: RetrainSettings,
    num_seeds: int = 1,
) -> Truth:
    """Retrains ``number`` of the scored ``archs``, spread evenly over their ranking from the first to the last, or all where
    there are fewer; what each reaches on the test images, the mean over ``num_seeds`` trainings, is its truth.

    Each training lies in a folder of its own below ``retrained`` in the scorer's folder, with ``retrained.pt`` and
    ``retrain.json``. Run again, finished ones are read and one that was stopped goes on. ``retrained/truth.json`` can be given as
    a table of true accuracies later.

    Raises:
        ValueError: the folder holds networks that were retrained otherwise.
    """
    folder = scorer.folder / "retrained"
    _claim(scorer, settings, retrain)
    chosen = spread(scorer, archs, number)
    values: dict[Arch, float] = {}
    with progress(log, "retrain", "network", total=len(chosen) * num_seeds) as bar:
        for arch in chosen:
            reached = []
            for seed in range(settings.seed, settings.seed + num_seeds):
                own = folder / _name(arch) / f"seed{seed}"
                reached.append(_retrained(scorer, arch, replace(settings, seed=seed), retrain, own)["test_accuracy"])
                bar.update()
            values[arch] = fmean(reached)
            log.info("retrained %d of %d: %.4f on the test images", len(values), len(chosen), values[arch])
            write_json(folder / "truth.json", {arch.to_json(): value for arch, value in values.items()})
    trainings = "" if num_seeds == 1 else f", {num_seeds} times each"
    return Truth(f"retraining for {settings.epochs} epoch{'' if settings.epochs == 1 else 's'}{trainings}", values)


def spread(scorer: Scorer, archs: Sequence[Arch], number: int) -> list[Arch]:
    """``number`` of the scored ``archs``, evenly from the first to the last of their ranking; all where there are fewer."""
    ranked = scorer.ranked(archs)
    if number >= len(ranked):
        return ranked
    return [ranked[round(place * (len(ranked) - 1) / (number - 1))] for place in range(number)]


def _retrained(
    scorer: Scorer, arch: Arch, settings: TrainSettings, retrain: RetrainSettings, folder: Path
) -> dict[str, Any]:
    """The content of ``folder/retrain.json``, after training unless it is there."""
    finished = folder / "retrain.json"
    if not finished.is_file():
        weights = scorer.evaluator.subnet(arch).state_dict()
        subnet = Subnet(scorer.space, arch, weights, dict(scorer.config), scorer.card(arch), scorer.data.record)
        retrain_subnet(subnet, None, scorer.data, settings, retrain, folder, scorer.config)
        shutil.rmtree(folder / "checkpoints")  # of no use any more, and many
    result: dict[str, Any] = read_json(finished, "result")
    return result


def _claim(scorer: Scorer, settings: TrainSettings, retrain: RetrainSettings) -> None:
    """Networks that were trained otherwise must not be compared with these."""
    identity = {f"trainer.{name}": value for name, value in asdict(settings).items() if name not in (*_FREE, "seed")}
    identity |= {f"retrain.{name}": value for name, value in asdict(retrain).items() if name != "calibration_images"}
    scorer.store.claim("retrained", identity, "holds networks that were retrained otherwise")


def _name(arch: Arch) -> str:
    return fingerprint([arch.to_json().encode()])[:12]

"""Whether the best candidates of a search can be told apart at the size of its held-out set."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from oneshot.arch import Arch, Option
from oneshot.evaluation import image_scores, lead_of_first
from oneshot.pipeline.candidate_scores import CandidateScores
from oneshot.progress import progress
from oneshot.reading import read_json
from oneshot.runs import write_json

log = logging.getLogger(__name__)

_NUM_BEST = 10


def distinction_note(scores: CandidateScores, best: Arch, archs: Sequence[Arch], folder: Path) -> str | None:
    """How many of the ten best of ``archs`` are better than ``best`` and how many cannot be told from it, in a sentence; None
    where there is nothing to compare.

    They are evaluated once more, for what they make of each image. ``top.json`` in ``folder`` keeps the comparison: it is read
    when the search is run again and its best candidates are the same.
    """
    top = [best, *(arch for arch in scores.ranked(archs) if arch != best)][:_NUM_BEST]
    if len(top) < 2:
        return None
    metric, path = scores.settings.metric, folder / "top.json"
    listed = [arch.to_dict() for arch in top]
    kept = _read(path)
    if not _is_of(kept, metric, listed):
        found = [_of_images(scores, arch) for arch in progress(log, "compare", "network", iterable=top)]
        leads = lead_of_first(np.stack(found), seed=scores.seed)
        kept = {
            "metric": metric,
            "held_out_images": len(found[0]),
            "networks": [
                {"arch": arch, "lead_of_first": asdict(lead)} for arch, lead in zip(listed, leads, strict=True)
            ],
        }
        write_json(path, kept)
    intervals = [entry["lead_of_first"] for entry in kept["networks"][1:]]
    better = sum(lead["high"] < 0 for lead in intervals)
    close = sum(lead["low"] <= 0 <= lead["high"] for lead in intervals)
    is_first = best == scores.ranked(archs)[0]
    others = "candidates ranked next" if is_first else "others with the best scores"
    subject = f"Of the {len(intervals)} {others}, {close} cannot"
    if len(intervals) == 1:
        subject = f"The {'candidate ranked next' if is_first else 'other candidate'} {'cannot' if close else 'can'}"
    first = "the first" if is_first else "the chosen one"
    does = "does" if better == 1 else "do"
    better_too = f", and {better if len(intervals) > 1 else 'it'} {does} better" if better else ""
    return (
        f"{subject} be told from {first} at 95 % by their {metric} on "
        f"{kept['held_out_images']:,} held-out images (a paired bootstrap over images){better_too}."
    )


def _is_of(kept: dict[str, Any], metric: str, listed: list[dict[str, Option]]) -> bool:
    try:
        archs = [entry["arch"] for entry in kept["networks"]]
        leads = [entry["lead_of_first"] for entry in kept["networks"][1:]]
        known = all(math.isfinite(lead["low"]) and math.isfinite(lead["high"]) for lead in leads)
        return kept["metric"] == metric and archs == listed and known and int(kept["held_out_images"]) > 0
    except (KeyError, TypeError, ValueError):
        return False


def _of_images(scores: CandidateScores, arch: Arch) -> np.ndarray[Any, np.dtype[np.float64]]:
    """``(num_images,)``, higher is better."""
    evaluator = scores.evaluator
    batches = evaluator.held_out.at(scores.space.input_shape(arch)[-1])
    correct, losses = image_scores(evaluator.subnet(arch), batches)
    return correct if scores.settings.metric == "accuracy" else -losses


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    content = read_json(path, "comparison")
    return content if isinstance(content, dict) else {}

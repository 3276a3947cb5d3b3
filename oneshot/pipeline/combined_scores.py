"""Candidates ranked by all witnesses together."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from oneshot.arch import Arch
from oneshot.evaluation import Evaluator, LearnedWeights, Panel, Score, spearman_brown
from oneshot.pipeline.candidate_costs import CandidateCosts
from oneshot.pipeline.candidate_scores import CandidateScores
from oneshot.pipeline.drawing import draw_random
from oneshot.pipeline.evidence import WITNESSES, Evidence, keep_witnesses, learn_from
from oneshot.pipeline.folders import Trained, load_before
from oneshot.pipeline.search_settings import CombinationSettings, EvaluationSettings
from oneshot.pipeline.witnesses import Measured, Untrained, Witnesses, draw_agreement, plain, rank_agreement
from oneshot.processes import from_first, is_first
from oneshot.progress import progress
from oneshot.reading import read_json
from oneshot.runs import Store, fingerprint, write_json
from oneshot.search import Problem

log = logging.getLogger(__name__)
NAME = "combined"  # of the value in the record


class CombinedScores(CandidateScores):
    """Scores of a supernet's subnets that rank them together with what other witnesses say, once ``settle`` was called.

    Args:
        trained: the supernet.
        untrained: scores of untrained networks for a seed.
        combination: how witnesses are combined.

    Raises:
        ValueError: with successive halving, where losses are not of the same images.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        costs: CandidateCosts,
        store: Store[Arch, Score],
        settings: EvaluationSettings,
        seed: int,
        trained: Trained,
        untrained: Callable[[int], Untrained],
        combination: CombinationSettings,
    ) -> None:
        if settings.halving_images is not None:
            raise ValueError("score=combined compares losses on the same images: without evaluation.halving_images")
        super().__init__(evaluator, costs, store, settings, seed)
        self._trained, self._untrained, self._combination = trained, untrained, combination
        asked = untrained(seed)
        self.witnesses = Witnesses(costs.coding, costs.table, asked, store, self.inherited)
        self.measured = Measured(None, None, {})
        self.reference: list[Arch] = []
        self._panel: Panel | None = None
        self._of = ""  # what was measured, in digits
        self._combined: dict[Arch, float] = {}

    @property
    def panel(self) -> Panel:
        """The witnesses, once they are settled."""
        assert self._panel is not None, "settle comes first"
        return self._panel

    def settle(self, problems: Sequence[Problem]) -> None:
        """Asks every witness about random networks within the limits of ``problems``, and finds out what each is worth.

        Raises:
            ValueError: no architecture meets some of the limits, or a score says nothing about networks of this space.
        """
        if self._panel is not None:
            return
        drawn = draw_random(problems, self._combination.num_reference, self.generator("reference"))
        self.reference = [arch for part in drawn for arch in part]
        new, started = sum(arch not in self.known for arch in self.reference), time.monotonic()
        with progress(log, "reference", "network", total=len(self.reference)) as bar:
            super().score_all(self.reference, "reference", scored=lambda key: bar.update())
        scored = time.monotonic()
        if (asked := self.witnesses.ask(self.reference)) and new:
            log.info(
                "a network takes %.2g s for its loss and %.2g s for %s without training; counting takes none",
                (scored - started) / new,
                (time.monotonic() - scored) / asked,
                ", ".join(self.witnesses.untrained),
            )
        self.witnesses.learn(self.reference)
        self.measured = self._measured(self.reference[: self._combination.num_checked])
        self._panel = self.witnesses.panel(self.reference, self.measured)
        self._write()

    def evidence(self, learned: LearnedWeights | None = None) -> Evidence:
        """What the witnesses say together."""
        return Evidence(self.witnesses, self.panel, len(self.reference), self.measured, True, learned)

    def learn(self, truth: Mapping[Arch, float]) -> LearnedWeights | None:
        """Ranks by weights that are learned from ``truth`` from now on; None where it holds too few networks to learn from."""
        learned = learn_from(self.witnesses, self.panel, truth)
        if learned is not None:
            self.weigh(learned.weights)
        return learned

    def weigh(self, weights: np.ndarray[Any, np.dtype[np.float64]]) -> None:
        """Ranks by other weights from now on, such as learned ones."""
        self.panel.weights = weights
        self._combined.clear()
        self._write()

    def score_all(
        self,
        archs: Sequence[Arch],
        source: str,
        with_latency: bool = False,
        scored: Callable[[tuple[float, ...]], object] = lambda key: None,
    ) -> list[tuple[float, ...]]:
        """As ``CandidateScores.score_all``; the keys have the combined value first. ``scored`` gets those without it."""
        return super().score_all(archs, source, with_latency, scored)

    def keys(self, archs: Sequence[Arch]) -> list[tuple[float, ...]]:
        """The combined value, then inherited scores; a network whose loss is no finite number is last."""
        if self._panel is None:
            return super().keys(archs)
        self._combine(archs)
        return [(self._combined[arch], *self.key(self.known[arch])) for arch in archs]

    def combined(self, arch: Arch) -> float | None:
        """What all witnesses together give a scored candidate."""
        return None if self._panel is None else self.keys([arch])[0][0]

    def keep_ranking(self) -> None:
        """Records beside the scores of all candidates what they are compared by."""
        archs = list(self.known)
        with self.store.exported():
            for arch, (value, *_) in zip(archs, self.keys(archs), strict=True):
                self.store.add_value(arch, NAME, value)

    def _combine(self, archs: Sequence[Arch]) -> None:
        unknown = [arch for arch in dict.fromkeys(archs) if arch not in self._combined]
        if not unknown:
            return
        values = self.panel.combined(self.witnesses.values(unknown))
        for arch, value in zip(unknown, values.tolist(), strict=True):
            self._combined[arch] = value if math.isfinite(self.known[arch].loss) else -math.inf

    def _measured(self, archs: Sequence[Arch]) -> Measured:
        """How far witnesses agree with themselves on ``archs``; read where it is on record."""
        texts = [*(arch.to_json() for arch in archs), *self.witnesses.names, self.settings.metric]
        self._of, path = fingerprint(text.encode() for text in texts)[:16], self.store.folder / WITNESSES
        kept = from_first(read_json(path, "record of witnesses") if is_first() and path.is_file() else None)
        if isinstance(kept, dict) and kept.get("of") == self._of:
            return Measured(**kept["measured"])
        images = self.evaluator.held_out.images
        half = len(images) // 2
        first = self._values(self.evaluator.part(0, half), archs)
        halves = rank_agreement(first, self._values(self.evaluator.part(half, len(images)), archs))
        earlier = load_before(self._trained)
        checkpoints = None
        if earlier is not None:
            evaluator = copy.copy(self.evaluator)
            evaluator.supernet = earlier.supernet.to(evaluator.device).eval()
            checkpoints = rank_agreement(self._values(evaluator, archs), self.inherited(archs))
        draws = (
            draw_agreement(self.witnesses, self._untrained(self.seed + 1), archs) if self.witnesses.untrained else {}
        )
        found = Measured(spearman_brown(halves), checkpoints, draws)
        write_json(path, {"of": self._of, "measured": plain(found)})
        return found

    def _values(self, evaluator: Evaluator, archs: Sequence[Arch]) -> np.ndarray[Any, np.dtype[np.float64]]:
        found = dict(progress(log, "reliability", "network", iterable=evaluator.scores(archs), total=len(archs)))
        return np.array([self.key(found[arch])[0] for arch in archs], dtype=np.float64)

    def _write(self) -> None:
        """What was found goes beside what it was found from."""
        keep_witnesses(self.store.folder / WITNESSES, self.evidence(), self._of)

"""DARTS-PT (Wang et al., ICLR 2021, Algorithm 1): a relaxed network is made discrete choice by choice, and tuned in between."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from oneshot.arch import Arch, Choice, Join
from oneshot.data import ImageData
from oneshot.devices import resolve_device
from oneshot.evaluation.batches import Batches
from oneshot.evaluation.score import Score, score_of
from oneshot.pipeline.folders import Trained
from oneshot.pipeline.relaxed import other_form, part_of_architecture
from oneshot.progress import progress
from oneshot.reading import read_json
from oneshot.runs import require_same, write_json
from oneshot.samplers import Decided, DifferentiableSampler
from oneshot.samplers.differentiable.relaxation import open_choices
from oneshot.search import Perturbation
from oneshot.supernet import Supernet
from oneshot.training import ArchitectureTask, RunPart, Trainer, TrainSettings, batches_of, freeze_norms
from oneshot.training.randomness import make_generator

log = logging.getLogger(__name__)


class Discretisation:
    """Decides the choices in random order. Of each, every option is left out in turn, and the one without which the relaxed
    network is least accurate stays; of cells that keep a number of edges into a node, then those edges stay without which it is
    least accurate. After each decision weights and architecture are tuned (the published code tunes on with one schedule; here
    each time has a cosine of its own).

    Accuracies, and losses where these are equal, are those on the images of the architecture, without augmentation, each batch
    normalised by itself as published; on the held-out images where weights and architecture learned from one batch. A decision
    whose network was tuned is kept in ``folder/tuning``, so that a search that was stopped goes on;
    ``folder/perturbation.json`` holds all accuracies and losses.

    Args:
        trainer: of the training of the supernet.

    Raises:
        ValueError: the sampler has closed edges; in ``run``: the folder holds another search by perturbation.
    """

    def __init__(
        self,
        trained: Trained,
        sampler: DifferentiableSampler,
        data: ImageData,
        trainer: TrainSettings,
        strategy: Perturbation,
        folder: Path,
        seed: int = 0,
    ) -> None:
        assert isinstance(trained.supernet, Supernet)
        strengths, learned = sampler.strengths(), sampler.option_strengths()
        if any(not torch.equal(values, learned[name]) for name, values in strengths.items()):
            raise ValueError(
                "search=perturbation compares what the relaxed network loses without an option, and of a supernet trained with "
                "sampler=mask_connect it loses nothing on the connections that are closed: take search=derivation"
            )
        self.supernet = copy.deepcopy(trained.supernet)
        if not trained.config.get("norm_affine", True):
            freeze_norms(self.supernet)
        self.device = resolve_device(trainer.device)
        self.supernet.to(self.device)
        state = sampler.state_dict()
        sampler.to(self.device)
        sampler.load_state_dict(state)
        self.method, self.sampler = sampler.relaxation, sampler
        self.learning_epochs = trainer.epochs
        sampler.learning = replace(sampler.learning, first_epoch=0, stopping=None)
        self.data, self.images = part_of_architecture(data, sampler.architecture_images, trainer)
        shown = data.held_out if self.images is None else self.images.images
        layout = torch.channels_last if trainer.channels_last else torch.contiguous_format
        self.batches = Batches(shown, data, trainer.batch_size, self.device, layout)
        lr = trainer.lr / 10 if strategy.lr is None else strategy.lr
        self.tuning = replace(
            trainer,
            epochs=strategy.tune_epochs,
            lr=lr,
            min_lr=min(trainer.min_lr, lr),
            warmup_epochs=0.0,
            average_epochs=None,
            ema_decay=None,
            keep_checkpoints=1,
        )
        self.identity = {"supernet": trained.fingerprint, "seed": seed, "trainer": asdict(self.tuning)}
        self.asked = {"search.tune_epochs": strategy.tune_epochs, "search.lr": lr, "seed": seed}
        self.folder, self.taken, self.record = folder, dict[str, int](), list[dict[str, object]]()
        self.generator = make_generator("perturbation", seed)

    def run(self) -> Arch:
        """Decides everything, and returns the architecture."""
        space, path = self.sampler.space, self.folder / "perturbation.json"
        self._check_asked(path)
        log.info("options are left out of the relaxed network in turn, on %d images", len(self.batches.images))
        choices = {choice.name: choice for choice in open_choices(space)}
        joins = [join for join in space.joins if join.kept is not None and set(join.choices) & set(choices)]
        nothing = {name: join.none for join in joins for name in join.choices}
        self._decide({})
        decisions = [*self._shuffled([*choices.values()]), *self._shuffled(joins)]
        total = sum(len(choice.options) for choice in choices.values()) + sum(map(_num_scored, joins))
        with progress(log, "perturbation", "relaxed network", total=total) as bar:
            for number, decision in enumerate(decisions):
                if isinstance(decision, Choice):
                    self._decide_option(decision, nothing.get(decision.name), bar.update)
                else:
                    self._decide_edges(decision, choices, bar.update)
                if self.tuning.epochs and number + 1 < len(decisions):
                    self._tune(number)
                write_json(path, {"settings": self.asked, "decisions": self.record})
        decided = {choice.name: choice.options[self.taken.get(choice.name, 0)] for choice in space.choices}
        arch = space.arch(decided)
        write_json(path, {"settings": self.asked, "decisions": self.record, "architecture": arch.to_dict()})
        if other := other_form(decided, arch):
            log.warning(
                "what was decided on has another canonical form (%s): the same network, which may inherit the weights of other "
                "edges than those that it was chosen with",
                other,
            )
        return arch

    def _check_asked(self, path: Path) -> None:
        """Raises ValueError where the folder holds decisions that were made with other settings."""
        before = read_json(path, "record of a search by perturbation").get("settings") if path.is_file() else None
        if before is not None:  # earlier versions kept none
            require_same(self.folder, "was started with other settings", before, self.asked)

    def _decide_option(self, choice: Choice, nothing: object, count: Callable[[int], object]) -> None:
        without = {}
        for position, option in enumerate(choice.options):
            if option != nothing:
                without[position] = self._score({choice.name: position})
            count(1)
        worst = min(without, key=lambda position: _rank(without[position]))
        self._record(choice.name, str(choice.options[worst]), {str(choice.options[p]): s for p, s in without.items()})
        self._decide({choice.name: worst})

    def _decide_edges(self, join: Join, choices: Mapping[str, Choice], count: Callable[[int], object]) -> None:
        edges = [name for name in join.choices if name in choices and join.none in choices[name].options]
        fixed = len([name for name in join.choices if name not in edges])
        while edges and len(edges) + fixed > (join.kept or 0):
            without = {}
            for name in edges:
                without[name] = self._score({name: self.taken[name]})
                count(1)
            least = max(without, key=lambda name: _rank(without[name]))
            self._record(f"edges {', '.join(join.choices)}", f"without {least}", without)
            self._decide({least: choices[least].options.index(join.none)})
            edges.remove(least)

    def _decide(self, taken: Mapping[str, int]) -> None:
        self.taken |= taken
        self.sampler.relaxation = Decided(self.method, dict(self.taken), self.learning_epochs)

    @torch.no_grad()
    def _score(self, left_out: Mapping[str, int]) -> Score:
        """The score of the relaxed network without an option of a choice; the others weigh what they did."""
        relaxed = self.sampler.relaxed()
        weights = {name: relaxed[name].to(self.device) for name in relaxed}
        for name, position in left_out.items():
            weights[name] = weights[name].index_fill(0, torch.tensor([position], device=self.device), 0.0)
        mix = relaxed.weighing(weights)
        size = self.supernet.input_shape(mix)[-1]
        self.supernet.train()
        return score_of(
            (self.supernet(images, mix, dropout=False, statistics="batch"), labels)
            for images, labels in self.batches.at(size)
        )

    def _tune(self, number: int) -> None:
        task = ArchitectureTask(
            self.supernet, self.sampler, self.images, batches_of(self.data, self.tuning)[1], self.tuning.epochs,
            label_smoothing=self.tuning.label_smoothing, ended_after=self.learning_epochs,
        )  # fmt: skip
        meta = {"config": {**self.identity, "taken": dict(self.taken)}, "space": self.sampler.space.definition}
        part = RunPart(self.folder / "tuning" / f"{number + 1:03d}", {**meta, "classes": list(self.data.classes)})
        Trainer(task, self.data, self.tuning, part, lambda module: {}).run()

    def _record(self, choice: str, decided: str, scores: Mapping[str, Score]) -> None:
        accuracies = {name: score.accuracy for name, score in scores.items()}
        losses = {name: score.loss for name, score in scores.items()}
        self.record.append(
            {"choice": choice, "decided": decided, "accuracy_without": accuracies, "loss_without": losses}
        )
        shown = [("accuracy", accuracies)]
        if len({*accuracies.values()}) < len(accuracies):
            shown.append(("loss", losses))
        words = [f"{name} without: {', '.join(f'{n} {v:.4f}' for n, v in values.items())}" for name, values in shown]
        log.info("%s: %s; %s", choice, decided, "; ".join(words))

    def _shuffled(self, items: Sequence[Choice] | Sequence[Join]) -> list[Choice | Join]:
        order = torch.randperm(len(items), generator=self.generator).tolist()
        return [items[index] for index in order]


def _rank(score: Score) -> tuple[float, float]:
    """By accuracy, and of equal ones by the loss: lower is worse."""
    return score.accuracy, -score.loss


def _num_scored(join: Join) -> int:
    """How many networks it takes to leave out edges one after the other."""
    return sum(range((join.kept or 0) + 1, len(join.choices) + 1))

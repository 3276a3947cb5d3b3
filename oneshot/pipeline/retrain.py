"""Retrain one extracted subnet and report what it reaches on the test set."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from oneshot.arch import Arch
from oneshot.checking import check_least
from oneshot.costs import CostTable
from oneshot.data import ImageData
from oneshot.devices import resolve_device
from oneshot.evaluation import Batches, Evaluator, ScoreSettings, evaluate, random_indices, recalibrate
from oneshot.garbage import settled
from oneshot.pipeline.chosen_subnet import repair_as_found
from oneshot.pipeline.folders import RANDOM, TEACHER, Subnet, Trained, load_subnet, save_subnet
from oneshot.pipeline.retrain_augmentation import make_mixup, make_rand_augment
from oneshot.runs import require_same, write_json, writing
from oneshot.spaces.base import SearchSpace
from oneshot.training import Distillation, RunPart, SubnetTask, Trainer, TrainSettings
from oneshot.training.checkpoint import load_newest
from oneshot.training.randomness import seeded

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RetrainSettings:
    """What retraining does beside the trainer's settings.

    Args:
        weights: "inherited" from the supernet or from "scratch".
        mixup_alpha, cutmix_alpha: of timm's Mixup; 0 is off.
        randaugment: timm's policy string such as "rand-m9-mstd0.5"; None is off.
        distill: whether it learns from the network that taught its supernet, too, at that one's resolution and with the
            supernet's loss; None is where it is one of those that the supernet's training left to repair.
        calibration_images: training images for the statistics of averages of the weights, and of the subnets compared with.
    """

    weights: str = "inherited"
    mixup_alpha: float = 0.0
    cutmix_alpha: float = 0.0
    randaugment: str | None = None
    distill: bool | None = None
    calibration_images: int = 512

    def __post_init__(self) -> None:
        if self.weights not in ("inherited", "scratch"):
            raise ValueError(f"retrain.weights is 'inherited' or 'scratch', not {self.weights!r}")
        check_least(0, "retrain.", mixup_alpha=self.mixup_alpha, cutmix_alpha=self.cutmix_alpha)
        check_least(2, "retrain.", calibration_images=self.calibration_images)
        if self.randaugment is not None and not self.randaugment.startswith("rand-"):
            raise ValueError(
                f"retrain.randaugment is a policy of timm such as 'rand-m9-mstd0.5', not {self.randaugment!r}"
            )

    def evaluation(self, settings: TrainSettings) -> ScoreSettings:
        """How subnets of the supernet are scored beside a network that is trained with ``settings``."""
        return ScoreSettings(self.calibration_images, channels_last=settings.channels_last)


@dataclass(frozen=True)
class SubnetTraining:
    """How one subnet is retrained.

    Args:
        supernet: that the subnet comes from, for the comparison with its largest subnet; None leaves that out.
        space: whose network of the subnet's architecture is trained in place of it, from scratch: a wider or deeper one.
        config: plain values kept with the result; None keeps the subnet's.
    """

    trainer: TrainSettings
    retrain: RetrainSettings = RetrainSettings()
    supernet: Trained | None = None
    space: SearchSpace | None = None
    config: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Retrained:
    """A retrained subnet and what it reaches; accuracies are fractions.

    Attributes:
        subnet: the network, whose card is the content of ``retrain.json``.
        inherited_test_accuracy: of the same network before it was retrained; None where its weights were random, or it is one of
            another size.
        largest_test_accuracy: of the supernet's largest subnet with inherited weights; None without a supernet.
    """

    subnet: Subnet
    held_out_accuracy: float
    test_images: int
    test_accuracy: float
    inherited_test_accuracy: float | None
    largest_test_accuracy: float | None


@settled()
def retrain_subnet(
    subnet: Subnet,
    data: ImageData,
    training: SubnetTraining,
    folder: Path,
    newest: Mapping[str, Any] | None = None,
) -> Retrained:
    """Trains the subnet alone in ``folder``, or continues the run that the folder holds. Then, and only then, the test set is
    used: for the retrained network, the same one with inherited weights, and the largest subnet with inherited weights.

    Writes ``retrained.pt`` and ``retrain.json`` to ``folder``.

    Args:
        newest: the folder's newest checkpoint, where it has been read already.

    Raises:
        ValueError: the subnet does not fit the data, or the folder holds the training of another one.
        FolderInUseError: another process writes to the folder.
    """
    settings, retrain = training.trainer, training.retrain
    space = _space_of(subnet, data, training)
    config = dict(subnet.config if training.config is None else training.config)
    device = resolve_device(settings.device)
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    inherits = retrain.weights == "inherited"
    with seeded("weights", settings.seed):
        module = subnet.module().train() if inherits else space.network(subnet.arch)
    resolution = space.input_shape(subnet.arch)[-1]
    layout = torch.channels_last if settings.channels_last else torch.contiguous_format
    module.to(memory_format=layout)
    held_out = Batches(data.held_out, data, settings.batch_size, device, layout)
    chosen = data.train.subset(random_indices(len(data.train), retrain.calibration_images, settings.seed))
    calibration = Batches(chosen, data, settings.batch_size, device, layout)
    is_as_stored = inherits and bool(subnet.card.get("stored_statistics"))

    def measured(network: nn.Module) -> nn.Module:
        """An average of weights with statistics of its own: those that it has are of the weights that went into it."""
        if network is module or is_as_stored:
            return network
        return recalibrate(copy.deepcopy(network), (images for images, _ in calibration.at(resolution)))

    def score(network: nn.Module) -> dict[str, float]:
        found = evaluate(measured(network), held_out.at(resolution))
        return {"held_out_accuracy/subnet": found.accuracy, "held_out_loss/subnet": found.loss}

    task = SubnetTask(
        module,
        subnet.arch,
        resolution,
        settings.label_smoothing,
        mixup=make_mixup(retrain.mixup_alpha, retrain.cutmix_alpha, settings.label_smoothing, data.num_classes),
        transform=None
        if retrain.randaugment is None
        else make_rand_augment(retrain.randaugment, data.mean, settings.seed),
        statistics="stored" if is_as_stored else "tracked",
        **_teacher(retrain.distill, training.supernet, data, device, layout),
    )
    meta = {
        "config": config,
        "space": space.definition,
        "arch": subnet.arch.to_dict(),
        "taught": task.teacher is not None,
        "images": None if data.record is None else data.record.state(),
    }
    with writing(folder):
        newest = newest or load_newest(folder / "checkpoints")
        if newest is not None and newest["kind"] == task.kind:
            _check_same(newest, meta, folder)
        best = measured(Trainer(task, data, settings, RunPart(folder, meta), score).run(newest)).eval()
        result = _reached(best, subnet, data, training, held_out, config)
        save_subnet(folder / "retrained.pt", result.subnet)
        write_json(folder / "retrain.json", {"arch": subnet.arch.to_dict(), **result.subnet.card})
    return result


def _space_of(subnet: Subnet, data: ImageData, training: SubnetTraining) -> SearchSpace:
    """The space whose network is trained, once it is known that it can be.

    Raises:
        ValueError: see ``retrain_subnet``.
    """
    if training.trainer.epochs < 1:
        raise ValueError(f"retraining takes trainer.epochs of at least 1, not {training.trainer.epochs}")
    if subnet.space.num_classes != data.num_classes:
        raise ValueError(f"the subnet has {subnet.space.num_classes} classes, the data {data.num_classes}")
    if training.retrain.weights == "inherited":
        if training.space is not None:
            raise ValueError("another size of the network has no weights to inherit: add retrain.weights=scratch")
        if subnet.card.get("weights") == RANDOM:
            raise ValueError(
                "the subnet was found without a supernet and has random weights, of which none are to be inherited: add "
                "retrain.weights=scratch"
            )
    return training.space or subnet.space


def _reached(
    network: nn.Module,
    subnet: Subnet,
    data: ImageData,
    training: SubnetTraining,
    held_out: Batches,
    config: dict[str, Any],
) -> Retrained:
    """What ``network`` reaches now that it is trained, beside what ``subnet`` reached before, and its card."""
    arch, cost, is_same = subnet.arch, subnet.card, training.space is None and subnet.card.get("weights") != RANDOM
    space = training.space or subnet.space
    if training.space is not None:
        counted = CostTable(space).cost(space.arch(arch))
        cost = {"macs": counted.macs, "params": counted.params, "latency_ms": None, "latency_origin": None}
    test = Batches(data.test, data, held_out.batch_size, held_out.device, held_out.memory_format)

    def tested(module: nn.Module, size: int, name: str) -> float:
        return evaluate(module, test.shown(size, log, f"test images, {name}")).accuracy

    resolution, searched_at = (of.input_shape(arch)[-1] for of in (space, subnet.space))
    before = subnet.module().to(held_out.device) if is_same else None
    inherited, seen = (subnet.card.get(f"held_out_{name}") if is_same else None for name in ("accuracy", "images"))
    if before is not None and inherited is not None and seen != len(data.held_out):
        inherited = evaluate(before, held_out.at(searched_at)).accuracy
    final = evaluate(network, held_out.at(resolution))
    reached: dict[str, Any] = {
        "test_images": len(data.test),
        "test_accuracy": tested(network, resolution, "retrained"),
        "inherited_test_accuracy": None if before is None else tested(before, searched_at, "inherited"),
        "largest_test_accuracy": None,
    }
    if training.supernet is not None:
        largest, size = _largest(training.supernet, subnet, data, held_out.device, training)
        reached["largest_test_accuracy"] = tested(largest, size, "largest")
    card: dict[str, Any] = {
        **_lasting(subnet.card, training.retrain),
        "weights": training.retrain.weights,
        "epochs": training.trainer.epochs,
        "seed": training.trainer.seed,
        **{name: cost[name] for name in ("macs", "params", "latency_ms", "latency_origin") if name in cost},
        "input_shape": list(space.input_shape(arch)),
        **data.card(),
        "held_out_accuracy": final.accuracy,
        "held_out_loss": final.loss,
        "held_out_images": len(data.held_out),
        "inherited_held_out_accuracy": inherited,
        **{name: value for name, value in reached.items() if value is not None},
    }
    retrained = Subnet(space, arch, network.state_dict(), config, card, data.record)
    return Retrained(retrained, final.accuracy, **reached)


def _check_same(newest: Mapping[str, Any], meta: Mapping[str, Any], folder: Path) -> None:
    """Raises ValueError unless the training that ``folder`` holds is of this network, with a teacher as now."""
    network = ("arch", "space")
    before, now = ({name: state[name] for name in network if name in newest} for state in (newest, meta))
    require_same(folder, "holds the training of another network", before, now)
    if newest.get("taught", meta["taught"]) != meta["taught"]:
        learned, learns = ("with", "without") if newest["taught"] else ("without", "with")
        back = "put the supernet's folder back where it was, or " if newest["taught"] else ""
        raise ValueError(
            f"{folder} was trained {learned} the network that taught its supernet, and would go on {learns}: {back}use another "
            "folder"
        )


def _lasting(card: Mapping[str, Any], retrain: RetrainSettings) -> dict[str, Any]:
    """What a card tells that still holds of the same network with other weights: where these begin anew, nothing of how the
    earlier ones were made.
    """
    of_weights = ("repair_images", "stored_statistics") if retrain.weights == "scratch" else ()
    return {name: value for name, value in card.items() if name not in (*of_weights, *_REACHED)}


_REACHED = ("test_images", "test_accuracy", "inherited_test_accuracy", "largest_test_accuracy")


def _largest(
    trained: Trained, subnet: Subnet, data: ImageData, device: torch.device, training: SubnetTraining
) -> tuple[nn.Module, int]:
    """The supernet's largest subnet with inherited weights, and its input size."""
    largest: Arch = trained.supernet.space.largest
    evaluator = Evaluator(
        trained.supernet.to(device).eval(),
        data,
        training.retrain.evaluation(training.trainer),
        device=device,
        seed=training.trainer.seed,
        repair=repair_as_found(trained, subnet),
        stored_statistics=trained.stored_statistics,
    )
    return evaluator.subnet(largest), trained.supernet.space.input_shape(largest)[-1]


def _teacher(
    wanted: bool | None, trained: Trained | None, data: ImageData, device: torch.device, layout: torch.memory_format
) -> dict[str, Any]:
    """What a task is told of the network that taught the supernet, if it is to learn from that.

    Raises:
        FileNotFoundError: it is wanted, but there is none.
    """
    has_teacher = trained is not None and trained.untrained and (trained.folder / TEACHER).is_file()
    if wanted is False or (wanted is None and not has_teacher):
        return {}
    if trained is None or trained.members:
        raise FileNotFoundError("retrain.distill=true takes the teacher of the subnet's supernet, whose folder is gone")
    if not (trained.folder / TEACHER).is_file():
        raise FileNotFoundError(
            f"retrain.distill=true takes what taught the supernet, but nothing did: {trained.folder} has no {TEACHER}"
        )
    teacher = load_subnet(trained.folder, names=(TEACHER,))
    if teacher.record is not None and data.record is not None:
        data.record.check_clean(teacher.record, f"the teacher in {trained.folder}")
    module = teacher.module().to(device, memory_format=layout).requires_grad_(False)  # type: ignore[call-overload]
    log.info("learning from the network that taught the supernet, %s", trained.folder / TEACHER)
    size = teacher.space.input_shape(teacher.arch)[-1]
    return {"teacher": (module, size), "distillation": Distillation(**trained.config.get("distillation", {}))}

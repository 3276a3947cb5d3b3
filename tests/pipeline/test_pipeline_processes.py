"""Searches and retraining on several processes."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
from child_processes import wait
from pipeline_runs import DATA, make_settings, search
from process_runs import LOST, run_together
from toy_spaces import make_data

from oneshot.arch import Arch
from oneshot.costs import CostTable
from oneshot.data import Augmentation
from oneshot.evaluation import evaluator, exchange
from oneshot.evaluation.repaired import Original
from oneshot.pipeline.folders import load_subnet
from oneshot.pipeline.retrain import RetrainSettings, SubnetTraining, retrain_subnet
from oneshot.pipeline.search_settings import CombinationSettings
from oneshot.pipeline.train import SupernetTraining, train_supernet
from oneshot.processes import rank
from oneshot.search import Exhaustive, Knapsack, RandomSearch
from oneshot.spaces import TimmSpace
from oneshot.training_free import TrainingFreeScores


def search_here(supernet: str, folder: str, die_after: int | None = None) -> None:
    """The second process kills itself after ``die_after`` scores."""
    torch.set_num_threads(1)
    send, sent = exchange._send, []

    def send_or_die(row: list[float]) -> None:
        send(row)
        sent.append(row)
        if len(sent) == die_after:
            os.kill(os.getpid(), signal.SIGKILL)

    exchange._send = send_or_die
    found = search(Path(supernet), Path(folder), Exhaustive(), halving_images=24)
    scores = {arch.to_json(): (score.accuracy, score.loss, score.num_images) for arch, score in found.scores.items()}
    Path(f"{folder}-{rank()}.json").write_text(
        json.dumps([scores, [archs.to_json() for archs in found.outcomes[0].archs]])
    )
    if rank() == 1:
        assert sent, "the first process did all"


def search_by_witnesses_here(supernet: str, folder: str) -> None:
    """Leaves what was found, and how many untrained networks this process has scored."""
    torch.set_num_threads(1)
    plain, asked = TrainingFreeScores.__call__, []

    def call(scores: TrainingFreeScores, arch: Arch) -> dict[str, float]:
        asked.append(arch)
        return plain(scores, arch)

    TrainingFreeScores.__call__ = call  # type: ignore[method-assign]
    combination = CombinationSettings(num_reference=50, untrained=("synflow",), num_checked=50)
    more = {"score": "combined", "combination": combination}
    found = search(Path(supernet), Path(folder), RandomSearch(num_samples=4), metric="loss", more=more)
    ranked = found.evidence.ways(found.outcomes[0].archs)["all witnesses"] if found.evidence is not None else None
    assert ranked is not None
    Path(f"{folder}-{rank()}.json").write_text(json.dumps([found.outcomes[0].best.to_json(), ranked.tolist()]))
    Path(f"{folder}-{rank()}.asked").write_text(str(len(asked)))


def search_by_errors_here(supernet: str, folder: str, limit: str) -> None:
    """Leaves what was found, and how many input sizes this process has measured."""
    torch.set_num_threads(1)
    sizes: list[int] = []
    measure = evaluator.block_errors

    def block_errors(original: Original, archs: Sequence[Arch]) -> Iterator[tuple[Arch, float]]:
        sizes.append(original.supernet.space.input_shape(archs[0])[-1])
        time.sleep(0.3)  # the other process gets its turn
        return measure(original, archs)

    evaluator.block_errors = block_errors  # type: ignore[attr-defined]
    data = make_data(augmentation=Augmentation(), num_held_out=32)
    given: dict[str, Any] = {"data": data, "repair_images": 64, "cost": {"max_macs": float(limit)}}
    found = search(Path(supernet), Path(folder), Knapsack(num_samples=4), **given)
    scores = {arch.to_json(): score.loss for arch, score in found.scores.items()}
    Path(f"{folder}-{rank()}.json").write_text(json.dumps([found.outcomes[0].best.to_json(), scores]))
    Path(f"{folder}-{rank()}.sizes").write_text(json.dumps(sizes))


def retrain_here(subnet: str, folder: str) -> None:
    torch.set_num_threads(1)
    training = SubnetTraining(make_settings(epochs=1, batch_size=15), RetrainSettings(randaugment="rand-m5"))
    found = retrain_subnet(load_subnet(Path(subnet)), DATA, training, Path(folder))
    total = sum(float(weights.double().sum()) for weights in found.subnet.weights.values())
    Path(f"{folder}-{rank()}.json").write_text(json.dumps([found.test_accuracy, total]))


def test_processes_score_what_one_does_bit_for_bit_and_continue_after_a_kill(
    supernet_folder: Path, tmp_path: Path
) -> None:
    alone, both = tmp_path / "alone", tmp_path / "both"
    first, second = run_together(2, search_here, str(supernet_folder), str(both), 3)
    assert (wait(second), wait(first)) == (-9, LOST)
    assert not (tmp_path / "both-0.json").exists()
    runs = [*run_together(1, search_here, str(supernet_folder), str(alone))]
    runs += run_together(2, search_here, str(supernet_folder), str(both))
    assert [wait(process) for process in runs] == [0] * 3
    texts = {(tmp_path / name).read_text() for name in ("alone-0.json", "both-0.json", "both-1.json")}
    assert len(texts) == 1
    assert (both / "candidates.csv").read_text() == (alone / "candidates.csv").read_text()
    retrained = tmp_path / "retrained"
    runs = run_together(2, retrain_here, str(both), str(retrained))
    assert [wait(process) for process in runs] == [0, 0]
    assert len({(tmp_path / f"retrained-{own}.json").read_text() for own in (0, 1)}) == 1
    assert (retrained / "retrained.pt").is_file()


def test_processes_share_out_what_witnesses_are_asked(supernet_folder: Path, tmp_path: Path) -> None:
    runs = [*run_together(1, search_by_witnesses_here, str(supernet_folder), str(tmp_path / "alone"))]
    runs += run_together(2, search_by_witnesses_here, str(supernet_folder), str(tmp_path / "both"))
    assert [wait(process) for process in runs] == [0] * 3
    assert len({(tmp_path / name).read_text() for name in ("alone-0.json", "both-0.json", "both-1.json")}) == 1
    alone, first, second = (int((tmp_path / f"{name}.asked").read_text()) for name in ("alone-0", "both-0", "both-1"))
    assert first + second == alone
    assert min(first, second) > alone / 3


def test_processes_share_out_the_errors_of_blocks(tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = timm.create_model("test_resnet", num_classes=4, zero_init_last=False).state_dict()
    torch.save(weights, tmp_path / "weights.pt")
    ratios = {"input_ratios": (0.5, 0.75, 1.0), "width_ratios": (0.5, 1.0)}
    space = TimmSpace("test_resnet", 4, 32, str(tmp_path / "weights.pt"), **ratios)
    training = SupernetTraining(make_settings(epochs=0), config={"seed": 0})
    train_supernet(space, make_data(augmentation=Augmentation(), num_held_out=32), training, tmp_path / "run")
    limit = str(0.6 * CostTable(space).original().macs)
    runs = [*run_together(1, search_by_errors_here, str(tmp_path / "run"), str(tmp_path / "alone"), limit)]
    runs += run_together(2, search_by_errors_here, str(tmp_path / "run"), str(tmp_path / "both"), limit)
    assert [wait(process) for process in runs] == [0] * 3
    assert len({(tmp_path / name).read_text() for name in ("alone-0.json", "both-0.json", "both-1.json")}) == 1
    assert (tmp_path / "both" / "candidates.csv").read_text() == (tmp_path / "alone" / "candidates.csv").read_text()
    alone, first, second = (
        json.loads((tmp_path / f"{name}.sizes").read_text()) for name in ("alone-0", "both-0", "both-1")
    )
    assert alone == sorted(space.input_sizes, reverse=True) == sorted(first + second, reverse=True)
    assert first
    assert second

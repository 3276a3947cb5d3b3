"""Choosing by perturbation (DARTS-PT): what stays is that without which the relaxed network is worst."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_spaces import ToyCell, make_data
from training_runs import differences

from oneshot.arch import Join
from oneshot.mix import Mix
from oneshot.pipeline.discretising import Discretisation
from oneshot.pipeline.folders import Trained
from oneshot.pipeline.relaxed import part_of_architecture
from oneshot.pipeline.train import SupernetTraining, train_supernet
from oneshot.samplers import ArchitectureLearning, Connections, DifferentiableSampler, Softmax
from oneshot.search import Perturbation, Problem
from oneshot.spaces.coding import Coding
from oneshot.supernet import Supernet
from oneshot.training import TrainSettings

TRAINER = TrainSettings(epochs=2, batch_size=16, device="cpu", eval_every=0, warmup_epochs=0)


class KeptCell(ToyCell):
    """Keeps one edge into each node."""

    def __init__(self, num_classes: int = 4) -> None:
        super().__init__(num_classes)
        self.joins = [Join(("node1.from0",), kept=1), Join(("node2.from0", "node2.from1"), kept=1)]


def trained_on(space: ToyCell, folder: Path) -> tuple[Trained, DifferentiableSampler]:
    learning = ArchitectureLearning(lr=0.05)
    training = SupernetTraining(TRAINER, lambda part, **changes: DifferentiableSampler(part, 0, learning=learning), 32)
    trained = train_supernet(space, make_data(), training, folder)
    sampler = DifferentiableSampler(space, 0, learning=learning)
    sampler.load_state_dict(dict(trained.sampler_state))
    return trained, sampler


def accuracy(supernet: Supernet, weights: dict[str, torch.Tensor]) -> float:
    """On the architecture's images, in batches that are normalised by themselves."""
    data = make_data()
    images = part_of_architecture(data, 0.5, TRAINER)[1]
    assert images is not None
    correct = 0
    with torch.no_grad():
        for pixels, labels in images.images.batches(torch.arange(len(images.images)).split(16)):
            x = (pixels.float() / 255 - torch.tensor(data.mean).view(3, 1, 1)) / torch.tensor(data.std).view(3, 1, 1)
            logits = supernet.train()(x, Mix(weights), statistics="batch")
            correct += int((logits.argmax(1) == labels).sum())
    return correct / len(images.images)


@pytest.mark.parametrize("space", [ToyCell(), KeptCell()], ids=lambda space: type(space).__name__)
def test_each_decision_is_the_one_that_hurts_most(space: ToyCell, tmp_path: Path) -> None:
    trained, sampler = trained_on(space, tmp_path / "run")
    supernet = trained.supernet
    assert isinstance(supernet, Supernet)
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    weights = sampler.strengths()
    (tmp_path / "search").mkdir()
    arch = Discretisation(
        trained, sampler, make_data(), TRAINER, Perturbation(tune_epochs=0), tmp_path / "search", seed=3
    ).run()
    assert differences(dict(supernet.state_dict()), before) == []
    decisions = json.loads((tmp_path / "search" / "perturbation.json").read_text())["decisions"]
    choices = {choice.name: choice for choice in space.choices}
    for decision in decisions[:3]:
        choice = choices[decision["choice"]]
        options = [option for option in choice.options if type(space) is ToyCell or option != "none"]
        found = {}
        for option in options:
            own = dict(weights)
            own[choice.name] = weights[choice.name] * torch.tensor([float(other != option) for other in choice.options])
            found[option] = accuracy(supernet, own)
        assert decision["accuracy_without"] == pytest.approx(found)
        assert decision["loss_without"].keys() == found.keys()
        assert found[decision["decided"]] == min(found.values())
        one_hot = [float(option == decision["decided"]) for option in choice.options]
        weights[choice.name] = torch.tensor(one_hot)
    if type(space) is ToyCell:
        assert len(decisions) == 3
        assert space.arch({d["choice"]: d["decided"] for d in decisions}) == arch
        return
    (edges,) = decisions[3:]
    found = {}
    for name in ("node2.from0", "node2.from1"):
        found[name] = accuracy(supernet, weights | {name: torch.zeros(3)})
    assert edges["accuracy_without"] == pytest.approx(found)
    dropped = edges["decided"].removeprefix("without ")
    assert found[dropped] == max(found.values())
    assert arch[dropped] == "none"
    assert [value for value in arch.values()].count("none") == 1


def test_the_network_is_tuned_in_between_and_what_was_tuned_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "search"
    trained, sampler = trained_on(ToyCell(), tmp_path / "run")
    folder.mkdir()
    given = (make_data(), TRAINER, Perturbation(tune_epochs=1), folder)
    arch = Discretisation(trained, sampler, *given).run()
    record = (folder / "perturbation.json").read_text()
    assert sorted(path.name for path in (folder / "tuning").iterdir()) == ["001", "002"]
    rates = [
        json.loads(line).get("lr/lr") for line in (folder / "tuning" / "001" / "metrics.jsonl").read_text().splitlines()
    ]
    assert max(rate for rate in rates if rate is not None) <= TRAINER.lr / 10
    again = DifferentiableSampler(ToyCell(), 0, learning=ArchitectureLearning(lr=0.05))
    again.load_state_dict(dict(trained.sampler_state))
    with caplog.at_level(logging.INFO):
        assert Discretisation(trained, again, *given).run() == arch
    assert (folder / "perturbation.json").read_text() == record
    assert "images/s" not in caplog.text
    third = DifferentiableSampler(ToyCell(), 0, learning=ArchitectureLearning(lr=0.05))
    third.load_state_dict(dict(trained.sampler_state))
    with pytest.raises(
        ValueError, match=r"search was started with other settings \(seed was 0 and is 8\); use another folder"
    ):
        Discretisation(trained, third, *given, seed=8).run()
    longer = Discretisation(trained, third, make_data(), TRAINER, Perturbation(tune_epochs=0), folder)
    with pytest.raises(ValueError, match=r"was started with other settings \(search\.tune_epochs was 1 and is 0\)"):
        longer.run()
    assert (folder / "perturbation.json").read_text() == record


def test_closed_connections_cannot_be_compared(tmp_path: Path) -> None:
    trained, _ = trained_on(ToyCell(), tmp_path / "run")
    sampler = DifferentiableSampler(KeptCell(), 0, Connections(Softmax(), kept=1))
    with pytest.raises(ValueError, match=r"sampler=mask_connect it loses nothing on .* take search=derivation$"):
        Discretisation(trained, sampler, make_data(), TRAINER, Perturbation(tune_epochs=0), tmp_path)


def test_a_cell_with_another_canonical_form_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, sampler = trained_on(ToyCell(), tmp_path / "run")
    (tmp_path / "search").mkdir()
    canonical = sampler.space.smallest
    monkeypatch.setattr(type(sampler.space), "arch", lambda space, options: canonical)
    found = Discretisation(
        trained, sampler, make_data(), TRAINER, Perturbation(tune_epochs=0), tmp_path / "search"
    ).run()
    assert found == canonical
    record = json.loads((tmp_path / "search" / "perturbation.json").read_text())
    assert record["architecture"] == canonical.to_dict()
    decided = {decision["choice"]: decision["decided"] for decision in record["decisions"]}
    differ = sum(canonical[name] != option for name, option in decided.items())
    assert f"has another canonical form ({differ} choice" in caplog.text


def test_one_network_is_proposed_and_limits_are_kept() -> None:
    space = ToyCell()
    coding, arch = Coding(space), space.largest
    costs = {"macs": lambda codes: np.full(len(codes), 5.0)}
    strategy = Perturbation(choose=lambda: arch)
    found = strategy.search(
        Problem(coding, lambda codes: np.ones(len(codes)), costs, {"macs": 6.0}), np.random.default_rng(0)
    )
    assert coding.decode(found.codes) == [arch]
    with pytest.raises(ValueError, match="what was chosen by perturbation exceeds max_macs=4,"):
        strategy.search(
            Problem(coding, lambda codes: np.ones(len(codes)), costs, {"macs": 4.0}), np.random.default_rng(0)
        )
    with pytest.raises(ValueError, match="give it a supernet trained by gradient"):
        Perturbation().search(Problem(coding, lambda codes: np.ones(len(codes)), costs, {}), np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"search\.tune_epochs must be a whole number of at least 0, got -1"):
        Perturbation(tune_epochs=-1)

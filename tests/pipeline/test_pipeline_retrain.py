"""Retraining one subnet: where it starts, what it sees, what it reports."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pipeline_runs import DATA, make_settings, retrain, search
from torch import Tensor
from toy_spaces import ToySpace, Unreadable
from training_runs import RecordedImages, differences, values_of

from oneshot.data import TensorImages
from oneshot.evaluation import Batches, Evaluator, ScoreSettings, evaluate
from oneshot.export import ExportSettings
from oneshot.pipeline.chosen_subnet import choose
from oneshot.pipeline.export import export_subnet
from oneshot.pipeline.folders import load_subnet, load_supernet
from oneshot.pipeline.retrain import RetrainSettings, SubnetTraining, retrain_subnet
from oneshot.training import Interrupted, Trainer, list_checkpoints, load_checkpoint

CPU = torch.device("cpu")
NO_TRAINING: dict[str, Any] = {"lr": 0.0, "weight_decay": 0.0, "epochs": 1}


@pytest.fixture(scope="module")
def searched(supernet_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched")
    search(supernet_folder, folder)
    return folder


def accuracy_on_test(module: torch.nn.Module, resolution: int) -> float:
    return evaluate(module, Batches(DATA.test, DATA, 16, CPU).at(resolution)).accuracy


# Weights -------------------------------------------------------------------------------------------------------------


def weights_of(folder: Path) -> dict[str, Tensor]:
    return dict(load_subnet(folder).module().named_parameters())


def test_inherited_weights_are_the_start(searched: Path, tmp_path: Path) -> None:
    retrain(searched, tmp_path, **NO_TRAINING)
    inherited = weights_of(searched)
    assert not differences(weights_of(tmp_path), inherited)
    retrain(searched, tmp_path / "trained", epochs=1)
    assert len(differences(weights_of(tmp_path / "trained"), inherited)) == len(inherited)


def test_from_scratch_the_start_is_a_function_of_the_seed(searched: Path, tmp_path: Path) -> None:
    for name, seed in (("first", 0), ("second", 0), ("other", 1)):
        retrain(searched, tmp_path / name, options={"weights": "scratch"}, seed=seed, **NO_TRAINING)
    first, second, other = (weights_of(tmp_path / name) for name in ("first", "second", "other"))
    assert not differences(first, second)
    kernels = [name for name in first if first[name].dim() > 1]
    for elsewhere in (other, weights_of(searched)):
        assert set(kernels) <= {path.removeprefix(".") for path in differences(first, elsewhere)}


def test_training_from_scratch_learns(searched: Path, tmp_path: Path) -> None:
    result = retrain(searched, tmp_path, options={"weights": "scratch"}, epochs=12, lr=0.2, log_every=6)
    losses = values_of(tmp_path, "loss/train")
    assert losses[-1] < 0.8 * losses[0]
    assert result["test_accuracy"] > 0.5
    assert result["weights"] == "scratch"


def test_weights_from_scratch_are_not_repaired_ones(searched: Path, tmp_path: Path) -> None:
    subnet = load_subnet(searched)
    repaired = replace(subnet, card=subnet.card | {"repair_images": 32, "stored_statistics": True})
    settings = make_settings(epochs=1)
    for weights, kept in (("inherited", {"repair_images", "stored_statistics"}), ("scratch", set())):
        training = SubnetTraining(settings, RetrainSettings(weights=weights))
        card = retrain_subnet(repaired, DATA, training, tmp_path / weights).subnet.card
        assert {"repair_images", "stored_statistics"} & set(card) == kept


# What it reports -----------------------------------------------------------------------------------------------------


def test_the_report_against_the_networks_themselves(supernet_folder: Path, searched: Path, tmp_path: Path) -> None:
    result = retrain(searched, tmp_path, ema_decay=0.5)
    subnet, retrained = load_subnet(searched), load_subnet(tmp_path)
    resolution = subnet.space.input_shape(subnet.arch)[-1]
    assert result["test_images"] == 48
    assert result["test_accuracy"] == accuracy_on_test(retrained.module(), resolution)
    assert result["inherited_test_accuracy"] == accuracy_on_test(subnet.module(), resolution)
    largest = subnet.space.largest
    evaluator = Evaluator(load_supernet(supernet_folder).supernet, DATA, ScoreSettings(64), device=CPU)
    assert result["largest_test_accuracy"] == accuracy_on_test(evaluator.subnet(largest), 8)
    held_out = evaluate(retrained.module(), Batches(DATA.held_out, DATA, 16, CPU).at(resolution))
    assert (result["held_out_accuracy"], result["held_out_loss"]) == (held_out.accuracy, pytest.approx(held_out.loss))
    assert result["inherited_held_out_accuracy"] == subnet.card["held_out_accuracy"]
    assert (result["macs"], result["params"]) == (subnet.card["macs"], subnet.card["params"])
    assert result["epochs"] == 2


def test_accuracies_beside_each_other_are_of_the_same_images(supernet_folder: Path, tmp_path: Path) -> None:
    search(supernet_folder, tmp_path / "search", max_images=20)
    subnet = load_subnet(tmp_path / "search")
    assert subnet.card["held_out_images"] == 20
    result = retrain(tmp_path / "search", tmp_path / "retrained", **NO_TRAINING)
    batches = Batches(DATA.held_out, DATA, 16, CPU).at(subnet.space.input_shape(subnet.arch)[-1])
    assert result["held_out_images"] == len(DATA.held_out) == 64
    assert result["inherited_held_out_accuracy"] == evaluate(subnet.module(), batches).accuracy


def test_what_it_leaves(searched: Path, tmp_path: Path) -> None:
    result = retrain(searched, tmp_path)
    names = {".lock", "checkpoints", "metrics.jsonl", "tensorboard", "training.html"}
    assert {path.name for path in tmp_path.iterdir()} == names | {"retrained.pt", "retrained.json", "retrain.json"}
    arch = load_subnet(searched).arch
    assert json.loads((tmp_path / "retrain.json").read_text()) == {"arch": arch.to_dict(), **result}
    retrained = load_subnet(tmp_path)
    assert retrained.arch == arch
    assert retrained.card == result
    assert retrained.config == {"data": {"name": "toys"}}


def test_without_the_supernet_there_is_nothing_to_say_about_its_largest(searched: Path, tmp_path: Path) -> None:
    subnet = load_subnet(searched)
    settings = make_settings(epochs=1)
    result = retrain_subnet(subnet, DATA, SubnetTraining(settings), tmp_path)
    assert result.largest_test_accuracy is None
    assert "largest_test_accuracy" not in result.subnet.card
    assert result.test_accuracy == result.subnet.card["test_accuracy"] > 0
    assert load_subnet(tmp_path).config == subnet.config


class Watched(TensorImages):
    """Notes how far training was when it was read."""

    def __init__(self, images: TensorImages, folder: Path) -> None:
        super().__init__(images.images, images.labels)
        self.folder = folder
        self.reads: list[bool] = []

    def batches(self, index_batches: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        self.reads.append((self.folder / "training.html").is_file())
        return super().batches(index_batches)


def test_the_test_set_is_read_at_the_end_only(searched: Path, tmp_path: Path) -> None:
    assert isinstance(DATA.test, TensorImages)
    test = Watched(DATA.test, tmp_path)
    retrain(searched, tmp_path, replace(DATA, test=test), eval_every=1)
    assert test.reads
    assert all(test.reads)


def test_a_run_that_is_stopped_never_reads_the_test_set(
    searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "_request_stop", lambda trainer: None)
    original = Trainer._update

    def stop(trainer: Trainer, parameters: list[torch.nn.Parameter]) -> None:
        original(trainer, parameters)
        trainer._stop = trainer.step == 5

    monkeypatch.setattr(Trainer, "_update", stop)
    with pytest.raises(Interrupted):
        retrain(searched, tmp_path / "run", replace(DATA, test=Unreadable(48, 8)))
    monkeypatch.undo()
    assert retrain(searched, tmp_path / "run") == retrain(searched, tmp_path / "undisturbed")
    assert not differences(load_subnet(tmp_path / "run").weights, load_subnet(tmp_path / "undisturbed").weights)


def test_a_finished_run_reports_the_same_again(searched: Path, tmp_path: Path) -> None:
    first = retrain(searched, tmp_path)
    train = RecordedImages(DATA.train)  # type: ignore[arg-type]
    assert retrain(searched, tmp_path, replace(DATA, train=train)) == first
    assert not train.asked


def test_a_network_of_another_size_inherits_no_accuracy(searched: Path, tmp_path: Path) -> None:
    subnet = load_subnet(searched)
    larger, both = (ToySpace(num_classes=4, resolutions=sizes) for sizes in ((12,), (8, 12)))
    arch = larger.arch({**subnet.arch, "resolution": 12})
    given = replace(subnet, arch=arch, space=both, weights=larger.network(arch).state_dict())
    training = SubnetTraining(make_settings(epochs=1), RetrainSettings(weights="scratch"), space=larger)
    result = retrain_subnet(given, DATA, training, tmp_path)
    assert result.inherited_test_accuracy is None
    assert result.subnet.card["inherited_held_out_accuracy"] is None
    assert "inherited_test_accuracy" not in result.subnet.card


def test_the_training_of_another_network_is_not_gone_on_with(
    supernet_folder: Path, searched: Path, tmp_path: Path
) -> None:
    first = retrain(searched, tmp_path)
    subnet = load_subnet(searched)
    other = next(
        arch
        for arch in subnet.space.enumerate()
        if arch != subnet.arch and {**arch, "resolution": 0} == {**subnet.arch, "resolution": 0}
    )
    (tmp_path / "arch.json").write_text(other.to_json())
    chosen, _ = choose_from(searched, tmp_path / "arch.json")
    settings = SubnetTraining(make_settings(), config=load_subnet(tmp_path).config)
    pattern = rf"holds the training of another network \(arch\.resolution was {subnet.arch['resolution']} and is"
    with pytest.raises(ValueError, match=pattern):
        retrain_subnet(chosen, DATA, settings, tmp_path)
    assert load_subnet(tmp_path).card == first


def test_a_teacher_that_there_never_was(searched: Path, tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"^retrain\.distill=true takes .*, but nothing did: .* has no teacher\.pt"
    ):
        retrain(searched, tmp_path, options={"distill": True})


def test_a_training_does_not_lose_its_teacher_on_the_way(searched: Path, tmp_path: Path) -> None:
    retrain(searched, tmp_path)
    (newest,) = list_checkpoints(tmp_path / "checkpoints")[:1]
    state = load_checkpoint(newest)
    assert state["taught"] is False
    with pytest.raises(
        ValueError, match="was trained with the network that taught its supernet, and would go on without"
    ):
        retrain_subnet(
            load_subnet(searched), DATA, SubnetTraining(make_settings()), tmp_path, {**state, "taught": True}
        )


# Augmentation --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"mixup_alpha": 0.4},
        {"cutmix_alpha": 1.0},
        {"mixup_alpha": 0.2, "cutmix_alpha": 1.0},
        {"randaugment": "rand-m9-mstd0.5"},
        {"mixup_alpha": 0.2, "randaugment": "rand-m5-n1"},
    ],
    ids=["mixup", "cutmix", "both", "randaugment", "all"],
)
def test_augmentations_change_what_is_learned_and_repeat(
    searched: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    retrain(searched, tmp_path / "plain", epochs=1)
    for name in ("first", "second"):
        retrain(searched, tmp_path / name, options=options, epochs=1)
    plain, first, second = (load_subnet(tmp_path / name).weights for name in ("plain", "first", "second"))
    assert not differences(first, second)
    assert differences(first, plain)


def test_odd_batches_are_mixed_too(searched: Path, tmp_path: Path) -> None:
    result = retrain(searched, tmp_path, options={"mixup_alpha": 0.2}, epochs=1, batch_size=15)
    assert result["test_accuracy"] > 0


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("weights", "random", "'inherited' or 'scratch', not 'random'"),
        ("mixup_alpha", -0.1, "at least 0, not -0.1"),
        ("cutmix_alpha", -1.0, "at least 0, not -1.0"),
        ("calibration_images", 1, "at least 2, not 1"),
        ("randaugment", "m9", "a policy of timm such as 'rand-m9-mstd0.5', not 'm9'"),
    ],
)
def test_settings_out_of_range(name: str, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"retrain.{name} is {message}"):
        RetrainSettings(**{name: value})


@pytest.mark.parametrize("policy", ["rand-q9", "rand-mx1", "rand-m1.5"])
def test_policies_that_timm_does_not_know(searched: Path, tmp_path: Path, policy: str) -> None:
    with pytest.raises(ValueError, match=f"retrain.randaugment '{policy}' is not a policy of timm"):
        retrain(searched, tmp_path, options={"randaugment": policy})
    assert list(tmp_path.iterdir()) == []


def test_other_data(searched: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the subnet has 4 classes, the data 2"):
        retrain(searched, tmp_path, replace(DATA, classes=("a", "b")))


# Another architecture ------------------------------------------------------------------------------------------------


def choose_from(searched: Path, arch_file: Path | None) -> Any:
    return choose(load_subnet(searched), arch_file, DATA, ScoreSettings(64), make_settings().seed)


def test_without_a_file_the_searchs_best_is_taken(supernet_folder: Path, searched: Path) -> None:
    subnet, trained = choose_from(searched, None)
    assert subnet.arch == load_subnet(searched).arch
    assert trained.folder == supernet_folder


def test_an_architecture_file(supernet_folder: Path, searched: Path, tmp_path: Path) -> None:
    trained = load_supernet(supernet_folder)
    other = next(arch for arch in trained.supernet.space.enumerate() if arch != load_subnet(searched).arch)
    (tmp_path / "arch.json").write_text(other.to_json())
    subnet, _ = choose_from(searched, tmp_path / "arch.json")
    assert subnet.arch == other
    evaluator = Evaluator(trained.supernet, DATA, ScoreSettings(64), device=CPU)
    score = evaluator(other)
    assert (subnet.card["held_out_accuracy"], subnet.card["held_out_loss"]) == (score.accuracy, score.loss)
    assert not differences(subnet.weights, dict(evaluator.subnet(other).state_dict()))
    reference = sum(parameter.numel() for parameter in subnet.module().parameters())
    assert subnet.card["params"] == reference
    assert subnet.card["classes"] == ["a", "b", "c", "d"]
    assert subnet.config == {"data": {"name": "toys"}}


def test_an_architecture_of_another_search(searched: Path) -> None:
    """The JSON beside a subnet is an architecture file too."""
    subnet, _ = choose_from(searched, searched / "subnet.json")
    assert subnet.arch == load_subnet(searched).arch
    assert not differences(subnet.weights, load_subnet(searched).weights)


def test_files_that_will_not_do(searched: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no architecture file .*arch\.json"):
        choose_from(searched, tmp_path / "arch.json")
    (tmp_path / "arch.json").write_text(json.dumps(ToySpace(resolutions=(32,)).largest.to_dict()))
    with pytest.raises(ValueError, match=r"arch\.json: choice 'resolution' cannot be 32"):
        choose_from(searched, tmp_path / "arch.json")


@pytest.mark.parametrize("gone", ["folder", "checkpoints"])
def test_the_supernet_is_gone(
    supernet_folder: Path, tmp_path: Path, gone: str, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(supernet_folder, tmp_path / "supernet")
    search(tmp_path / "supernet", tmp_path / "search")
    shutil.rmtree(tmp_path / "supernet" if gone == "folder" else tmp_path / "supernet" / "checkpoints")
    subnet, trained = choose_from(tmp_path / "search", None)
    assert trained is None
    assert "its largest subnet is not compared with" in caplog.text
    (tmp_path / "arch.json").write_text(subnet.arch.to_json())
    with pytest.raises(FileNotFoundError, match=r"the supernet .*supernet is gone, so .*arch\.json"):
        choose_from(tmp_path / "search", tmp_path / "arch.json")


# Export --------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*torch.jit.load.*deprecated:FutureWarning")
def test_a_card_does_not_take_the_place_of_another_files(searched: Path, tmp_path: Path) -> None:
    subnet = load_subnet(searched)
    for _ in range(2):
        export_subnet(subnet, tmp_path, ExportSettings("torchscript"))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=r"holds model\.ts, whose card, model\.json, model\.pt2 would overwrite"):
        export_subnet(subnet, tmp_path, ExportSettings("pt2"))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.filterwarnings("ignore:.*torch.jit.load.*deprecated:FutureWarning")  # what users of the file call
def test_the_result_is_exported_with_its_card(searched: Path, tmp_path: Path) -> None:
    retrain(searched, tmp_path / "retrained", epochs=1)
    subnet = load_subnet(tmp_path / "retrained")
    exported = export_subnet(subnet, tmp_path / "exported", ExportSettings("torchscript"))
    card = json.loads(exported.card.read_text())
    names = (
        "macs params mean std image_size crop_pct interpolation classes test_accuracy inherited_test_accuracy weights"
    )
    for name in names.split():
        assert card[name] == subnet.card[name], name
    assert (card["image_size"], card["crop_pct"], card["interpolation"]) == (8, 1.0, "bicubic")
    assert card["resize"] == "shorter side to 8 pixels (bicubic, antialiased), centre crop of 8 pixels"
    assert card["architecture"] == subnet.arch.to_dict()
    assert card["space"] == subnet.space.definition
    assert "latency_ms" not in card
    images = torch.rand(3, *subnet.space.input_shape(subnet.arch))
    with torch.no_grad():
        expected = subnet.module()(images)
        torch.testing.assert_close(torch.jit.load(exported.path)(images), expected, rtol=1e-4, atol=1e-5)


# Averages of the weights ---------------------------------------------------------------------------------------------

AVERAGES = [{"ema_decay": 0.9}, {"average_epochs": 2}]


def state_of(folder: Path) -> dict[str, Tensor]:
    return load_subnet(folder).module().state_dict()


@pytest.mark.parametrize("average", AVERAGES, ids=["moving", "epochs"])
def test_an_average_has_statistics_of_its_own(searched: Path, tmp_path: Path, average: dict[str, Any]) -> None:
    """Those of its stem, written out: its weights' outputs for all training images, prepared as for training."""
    result = retrain(
        searched, tmp_path, epochs=4, lr=0.5, options={"calibration_images": 1000}, eval_every=1, **average
    )
    network = load_subnet(tmp_path).module().eval()
    resolution = load_subnet(searched).space.input_shape(load_subnet(searched).arch)[-1]
    images = torch.cat([part for part, _ in Batches(DATA.train, DATA, 96, CPU).at(resolution)])
    with torch.no_grad():
        found = network.stem.conv(images)
    torch.testing.assert_close(network.stem.norm.running_mean, found.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network.stem.norm.running_var, found.var((0, 2, 3)), rtol=1e-4, atol=1e-5)
    score = evaluate(network, Batches(DATA.held_out, DATA, 16, CPU).at(resolution))
    assert result["held_out_accuracy"] == score.accuracy
    assert values_of(tmp_path, "held_out_loss/subnet")[-1] == pytest.approx(score.loss)


@pytest.mark.parametrize("average", AVERAGES, ids=["moving", "epochs"])
def test_a_stopped_run_with_an_average_ends_as_if_it_had_not_been(
    searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, average: dict[str, Any]
) -> None:
    options: dict[str, Any] = {"epochs": 3, "eval_every": 1, "checkpoint_seconds": 0, **average}
    whole = retrain(searched, tmp_path / "whole", **options)
    save = Trainer._save

    def stop(self: Trainer) -> None:
        save(self)
        if self.step == 14:
            raise Interrupted("stopped")

    monkeypatch.setattr(Trainer, "_save", stop)
    with pytest.raises(Interrupted):
        retrain(searched, tmp_path / "parts", **options)
    monkeypatch.undo()
    assert retrain(searched, tmp_path / "parts", **options) == whole
    assert not differences(state_of(tmp_path / "parts"), state_of(tmp_path / "whole"))


# Small sets ----------------------------------------------------------------------------------------------------------


def test_batches_of_one_image_work_where_the_network_takes_them(searched: Path, tmp_path: Path) -> None:
    few = replace(DATA, train=DATA.train.subset(torch.arange(5)))
    result = retrain(searched, tmp_path, few, epochs=1, batch_size=1, lr=0.001)
    assert 0 <= result["test_accuracy"] <= 1
    assert len(values_of(tmp_path, "lr/lr")) == 1

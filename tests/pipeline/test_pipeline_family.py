"""Several supernets that share out one space."""

from pathlib import Path

import pytest
import torch
from pipeline_runs import DATA, SPACE, make_settings
from toy_spaces import OtherSpace, ToySpace

from oneshot.evaluation import Evaluator, ScoreSettings
from oneshot.evaluation.family import SupernetFamily
from oneshot.pipeline.folders import load_supernets
from oneshot.pipeline.train import SupernetTraining, train_supernet
from oneshot.supernet import Supernet

CPU = torch.device("cpu")


def member(seed: int, space: type[ToySpace] = ToySpace, **options: list[int | str]) -> Supernet:
    torch.manual_seed(seed)
    supernet = Supernet(space(**SPACE)).eval()
    supernet.space = supernet.space.restrict(options)
    return supernet


def test_each_architecture_has_the_weights_and_scores_of_its_supernet() -> None:
    members = [member(0, op=["conv1"]), member(1, op=["conv3"])]
    family = SupernetFamily(members)
    assert family.space.choices == ToySpace(**SPACE).choices
    archs = list(family.space.enumerate())
    evaluator = Evaluator(family, DATA, ScoreSettings(64), device=CPU)
    alone = [Evaluator(one, DATA, ScoreSettings(64), device=CPU) for one in members]
    together = dict(evaluator.scores(archs))
    for arch in archs:
        index = ("conv1", "conv3").index(str(arch["op"]))
        assert family.member(arch) == index
        expected = members[index].extract(arch).state_dict()
        assert all(torch.equal(tensor, expected[name]) for name, tensor in family.extract(arch).state_dict().items())
        assert together[arch] == evaluator(arch) == alone[index](arch)
    assert alone[0](archs[0]).loss != Evaluator(member(1), DATA, ScoreSettings(64), device=CPU)(archs[0]).loss


def test_a_part_of_the_space_may_be_left_out() -> None:
    family = SupernetFamily([member(0, width=[4], op=["conv1"]), member(1, width=[8], op=["conv1"])])
    assert family.space.size == ToySpace(**SPACE).size // 2
    arch = ToySpace(**SPACE).largest
    with pytest.raises(ValueError, match="'op' cannot be 'conv3'"):
        family.extract(arch)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            [{"op": ["conv1"]}, {"op": ["conv1", "conv3"]}],
            "each option of the choice that they share out belongs to one of them",
        ),
        (
            [{"op": ["conv1"], "width": [4]}, {"op": ["conv3"], "width": [8]}],
            r"have 6 \+ 6 networks, but what they cover",
        ),
    ],
)
def test_supernets_that_overlap_or_leave_gaps_are_refused(
    parts: list[dict[str, list[int | str]]], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        SupernetFamily([member(index, **part) for index, part in enumerate(parts)])


def test_supernets_of_other_spaces_are_refused() -> None:
    with pytest.raises(ValueError, match="supernets of one search are of one space"):
        SupernetFamily([member(0, op=["conv1"]), member(1, OtherSpace, op=["conv3"])])


def test_few_shot_supernets_are_read_back_as_one(tmp_path: Path) -> None:
    settings = make_settings(epochs=1)
    for name, data in (("conv1", {"name": "toys"}), ("conv3", {"name": "toys"}), ("other", {"name": "others"})):
        options = {"op": ["conv3" if name == "other" else name]}
        config = {"data": data, "seed": 0}
        training = SupernetTraining(settings, calibration_images=64, options=options, config=config)
        train_supernet(ToySpace(**SPACE), DATA, training, tmp_path / name)
    trained = load_supernets([tmp_path / "conv1", tmp_path / "conv3"])
    assert trained.supernet.space.size == ToySpace(**SPACE).size
    for arch in trained.supernet.space.enumerate():
        assert trained.folder_of(arch) == tmp_path / str(arch["op"])
    folder = tmp_path / "multirun"
    (folder / "nested").mkdir(parents=True)
    (tmp_path / "conv3").rename(folder / "nested" / "1")
    (tmp_path / "conv1").rename(folder / "0")
    with pytest.raises(FileNotFoundError):
        load_supernets([folder])
    (folder / "multirun.yaml").touch()
    assert load_supernets([folder]).fingerprint == trained.fingerprint
    (folder / "0").rename(tmp_path / "conv1")
    assert trained.fingerprint != load_supernets([tmp_path / "conv1"]).fingerprint
    with pytest.raises(ValueError, match=r"were trained on different data \(data.name was toys and is others\)"):
        load_supernets([tmp_path / "conv1", tmp_path / "other"])

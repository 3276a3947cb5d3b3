"""One line for whatever a user of the commands gets wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent / "training"))

from child_processes import run_program
from command_lines import CODE, MY_SPACE, SEARCH, TRAIN, expect_error, expect_success

from oneshot.training import list_checkpoints


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (
            [],
            r"no search space: add \+space=NAME .* attentive_nas, darts, .*, nasbench_macro, network, ofa, .*, "
            r"spos, timm, my_space$",
        ),
        (["space=ofa"], r"space=NAME takes a plus: \+space=NAME$"),
        (["+space=ofa", "regulariser=beta_decay"], r"regulariser=NAME takes a plus: \+regulariser=NAME$"),
        (["+space=oaf"], r"no space=oaf; did you mean 'ofa'\?"),
        (
            ["+space=ofa", "sampler=unifrom"],
            r"no sampler=unifrom; did you mean 'uniform'\? .*, sandwich, single_darts, snas, uniform",
        ),
        (["+space=ofa", "+epochs=3"], r"no setting 'epochs'; did you mean 'trainer\.epochs'\?$"),
        (["+space=ofa", "+epoch=3"], r"no setting 'epoch'; did you mean 'trainer\.epochs'\?$"),
        (["+space=ofa", "epochs=3"], r"no setting 'epochs'; did you mean 'trainer\.epochs'\?"),
        (["+space=ofa", "+trainer.foo=1"], r"no setting 'trainer\.foo'$"),
        (["+space=ofa", "+trainer.seed=1"], r"no setting 'trainer\.seed'; did you mean 'seed'\?$"),
        (["+space=ofa", "+trainer={lrr: 1}"], r"no setting 'trainer\.lrr'; did you mean 'trainer\.lr'\?$"),
        (["+space=ofa", "+distillation.ratios=1"], r"'distillation\.ratios'; did you mean 'distillation\.ratio'\?$"),
        (["+space=ofa", "+phases.all={epochs: 1, larges: 2}"], r"'phases\.all\.larges'; did you mean .*largest'\?$"),
        (["+space=ofa", "+phases.all=3"], r"phases\.all holds settings by name, not 3$"),
        (["+space=my_space", "+options.width=8"], r"the options of 'width' are a list, such as \[8\], not 8$"),
        (["+space=ofa", "+options.kernels=[3]"], r"'kernels' matches no choice of this space"),
        (["+space=ofa", "+data.augmentation.crop=1"], r"no setting 'data\.augmentation\.crop'"),
        (
            ["+space=ofa", "+sampler.num_path=1"],
            r"no setting 'sampler\.num_path'; did you mean 'sampler\.num_paths'\?$",
        ),
        (["+space=ofa", "+sampler.seed=1"], r"no setting 'sampler\.seed'"),
        (
            ["+space=nasbench201", "sampler=fair_darts", "sampler.regularisers={}"],
            r"sampler\.regularisers=\{\} takes none of zero_one away: ~sampler\.regularisers\.zero_one does$",
        ),
        (
            [
                "+space=nasbench201",
                "+regulariser=expected_macs",
                "sampler.regularisers.expected_macs.reference=-5",
                "sampler=darts",
            ],
            r"sampler\.regularisers\.expected_macs\.reference is a number above 0 where formula=add, not -5$",
        ),
        (
            ["+space=nasbench201", "sampler=darts", 'sampler.max_skips={"node*":1}'],
            r"the keys of a mapping have no quotes: 'sampler\.max_skips=\{node\*:1\}'",
        ),
        (
            ["+space=ofa", "sampler.partial_channels=4"],
            r"sampler\.partial_channels goes with sampler=darts or .*: name one",
        ),
        (["+space=ofa", "+trainer.x.y=1"], r"no setting 'trainer\.x'(?!.*'trainer\.x\.y')"),
        (["+space=ofa", "+code.x=1"], r"code is one value, not settings by name: \{'x': 1\}$"),
        (["+space=ofa", "++phases=null"], r"phases holds settings by name, not None$"),
        (["+space=ofa", "options=3"], r"options holds settings by name, not 3$"),
        (["+space=ofa", "new_classifier=no"], r"new_classifier is true or false, not 'no'$"),
        (["+space=ofa", "norm_affine=0"], r"norm_affine is true or false, not 0$"),
        (["+space=ofa", "~sampler"], r"sampler cannot be left out: leave ~sampler out of the command$"),
        (["+space=ofa", "~seed"], r"seed cannot be left out: leave ~seed out of the command$"),
        (
            ["+space=ofa", "phases.full.epochs=1"],
            r"'phases\.full\.epochs': this training has no phases \(\+phases\.full\.epochs=",
        ),
        (["+space=ofa", "~trainer", "trainer.lr=1"], r"trainer\.lr cannot be set where ~trainer leaves it out$"),
        (["+space=ofa", "~space._target_"], r"None is not a search space"),
        (
            ["+space=ofa", "sampler=null"],
            r"supernet\.py: sampler=null: such a group is chosen by the name of one of its files$",
        ),
        (["+space=sklearn"], r"no space=sklearn \(there are: "),
        (["+space=yaml"], r"no space=yaml "),
        (["+space=ofa", "code=nowhere.py"], r"there is no file .*nowhere\.py$"),
        (["+space=ofa", "code=3"], r"code names one Python file .*, not 3$"),
        (["+space=ofa", "hydra/launcher=joblib"], r"needs a package .*: pip install 'oneshot-nas\[cluster\]'$"),
        (["+space=ofa", "data=digit"], r"no data=digit; did you mean 'digits'\?"),
        (["+space=ofa", "trainer.epoch=3"], r"no setting 'trainer\.epoch'; did you mean 'trainer\.epochs'\?"),
        (["+space=ofa", "space.depth=3"], r"no setting 'space\.depth'; did you mean 'space\.depths'\?"),
        (["+space=ofa", "+space.depth=3"], r"no setting 'space\.depth'; did you mean 'depths'\?"),
        (
            ["+space=nasbench_macro", "options={layer1: [identity]}"],
            r"'options' takes new entries with a plus: \+options\.NAME=VALUE",
        ),
        (["+space=ofa", "trainer.epochs=abc"], r"trainer\.epochs: .*'abc'"),
        (
            ["+space=ofa", "trainer.epochs=0"],
            r"trainer\.epochs=0 makes a family .*OFAMobileNetV3 are random",
        ),
        (["+space=ofa", "trainer.epochs=[1"], r"'\[1'"),
        (["+space=ofa", "trainer.device=gpu"], r"device 'gpu' cannot be used here: there is no such kind; use 'auto'"),
        (["+space=ofa", "run="], r"run= has no value: it is the folder of the run, such as run=runs/mine$"),
        (["+space=nasbench_macro", "space.channels=-16"], r"channels must be a whole number of at least 1, got -16"),
        (["+space=ofa", "trainer.optimizer=sgdd"], r"trainer\.optimizer 'sgdd' .*did you mean 'sgd'"),
        (["+space=ofa", "sampler.num_paths=0"], r"num_paths must be a whole number of at least 1, got 0"),
        (["+space=ofa", "calibration_images=1"], r"calibration_images is at least 2, not 1"),
        (["+space=ofa", "seed=x"], r"seed: .*'x'"),
        (["+space=ofa", "space.depths=[2,2]"], r"'stage1\.depth' has an option twice"),
        (["+space=ofa", "+data.imagesize=3"], r"unknown data option 'imagesize' .*; did you mean 'image_size'\?"),
        (["+space=ofa", "data=image_folder"], r"data\.root has no value: add data\.root="),
        (["+space=ofa", "data=image_folder", "data.root=/nowhere"], r"/nowhere does not exist"),
        (["+space=ofa", "data=cifar10"], r"CIFAR10 is missing .*data\.download=true"),
        (
            ["+space=ofa", "data._target_=os.system"],
            r"data\._target_ is one of oneshot\.data\.digits, .*, not 'os\.system'$",
        ),
        (["+space=ofa", "space._target_=os.system"], r"'os\.system' is not a search space"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_errors_of_training(workshop: Path, arguments: list[str], pattern: str) -> None:
    expect_error(run_program("train_supernet.py", arguments, workshop), "train_supernet.py", pattern)


@pytest.mark.parametrize(
    ("script", "arguments", "pattern"),
    [
        ("search", ["supernet=nowhere"], r"no run folder nowhere"),
        ("search", ["supernet=my_space.py"], r"my_space\.py is truncated, damaged or no PyTorch file"),
        ("search", ["supernet=[]"], r"supernet=\[\]: a path is text"),
        ("search", ["supernet=[supernet,3]"], r"supernet=\[supernet,3\]: a path is text"),
        ("measure", ["supernet=[supernet]"], r"supernet is one folder or checkpoint, not \['supernet'\]$"),
        ("search", ["supernet=search/subnet.pt"], r"subnet\.pt is not what is expected here"),
        ("search", ["supernet=supernet", "+data.split_seed=1"], r"data\.split_seed .* cannot change"),
        ("search", ["seed=1.5"], r"seed: 1\.5 is not an integer"),
        ("retrain", ["subnet=search", "+data.held_out=9"], r"data\.held_out .* cannot change"),
        ("search", ["+max_macs=40000"], r"no setting 'max_macs'; did you mean 'cost\.max_macs'\?$"),
        ("search", ["+cost.foo=1"], r"no setting 'cost\.foo'$"),
        ("search", ["+evaluation.metrics=loss"], r"'evaluation\.metrics'; did you mean 'evaluation\.metric'\?$"),
        (
            "search",
            ["+search.populations=3"],
            r"no setting 'search\.populations'; did you mean 'search\.population'\?$",
        ),
        ("search", ["supernet=supernet", "+data.foo=1"], r"data\.foo .* cannot change"),
        ("search", ["+space=ofa", "data.root=x", "predictor=published"], r"no data are read .*leave out data$"),
        ("retrain", ["+epochs=3"], r"no setting 'epochs'; did you mean 'trainer\.epochs'\?$"),
        ("retrain", ["subnet=search", "+data.foo=1"], r"data\.foo .* cannot change"),
        (
            "retrain",
            ["subnet=search", "+space.width=9", "retrain.weights=scratch"],
            r"'width'; did you mean 'widths'\?",
        ),
        ("export", ["+opsets=13"], r"no setting 'opsets'; did you mean 'opset'\?$"),
        ("export", ["subnet=retrain", "opset=13"], r"opset is a version of ONNX's operators: format=torchscript"),
        ("export", ["subnet=retrain", "half=3"], r"half is true or false, not 3$"),
        ("export", ["opset=new"], r"opset is a number or null, not 'new'$"),
        ("measure", ["+repeats=3"], r"no setting 'repeats'; did you mean 'latency\.repeats'\?$"),
        ("measure", ["+latency.foo=3"], r"no setting 'latency\.foo'$"),
        ("search", ["search=evolutoin"], r"no search=evolutoin; did you mean 'evolution'\?"),
        ("search", ["search.population=0"], r"population .*at least 1, got 0"),
        ("search", ["supernet=supernet", "cost.max_macs=1"], r"max_macs=1 cannot be met: .* to .* MACs"),
        ("search", ["cost.max_macs=-1"], r"cost\.max_macs is above 0, or null for no limit, not -1"),
        ("search", ["cost.max_mac=1"], r"no setting 'cost\.max_mac'; did you mean 'cost\.max_macs'\?"),
        ("search", ["evaluation.metric=f1"], r"evaluation\.metric is 'accuracy' or 'loss', not 'f1'"),
        ("search", [*SEARCH, "run=search", "evaluation.calibration_images=9"], r"calibration_images was 512 and is 9"),
        ("search", [*SEARCH, "truth=nothing.json"], r"no table of true accuracies nothing\.json"),
        ("search", [*SEARCH, "truth=retrain:1"], r"truth=retrain:N retrains N networks, at least 2"),
        ("search", ["supernet=supernet", "search=exhaustive", "search.max_size=3"], r"these are 4, more than max_size"),
        ("retrain", ["subnet=nowhere"], r"no subnet nowhere"),
        ("retrain", ["subnet=supernet"], r"supernet holds no subnet"),
        ("retrain", ["subnet=search", "arch=nope.json"], r"no architecture file nope\.json"),
        ("retrain", ["subnet=search", "arch=my_space.py"], r"my_space\.py is not JSON"),
        ("retrain", ["subnet=search", "arch=wrong.json"], r"wrong\.json: choice 'width' cannot be 5; its options"),
        (
            "retrain",
            ["subnet=search", "retrain.weights=old"],
            r"retrain\.weights is 'inherited' or 'scratch', not 'old'",
        ),
        ("retrain", ["subnet=search", "retrain.randaugment=rand-q9"], r"'rand-q9' is not a policy of timm"),
        ("export", ["subnet=retrain", "format=tflite"], r"unknown export format 'tflite' .*torchscript, onnx, pt2"),
        ("export", ["subnet=nowhere"], r"no subnet nowhere"),
        ("measure", ["supernet=nowhere"], r"no run folder nowhere"),
        ("measure", ["supernet=supernet", "+space=ofa"], r"give \+space or supernet, not both"),
        ("measure", ["supernet=supernet", "resolutions=[16]"], r"the input size of this space is 8, not 16"),
        ("measure", ["resolutions=16"], r"resolutions is a list of input sizes in pixels, not 16"),
        ("measure", ["+space=ofa", "num_classes=many"], r"num_classes is a number from 1, not 'many'"),
        ("measure", ["latency.threads=0"], r"latency\.threads is at least 1, not 0"),
        ("measure", ["latency.repeat=3"], r"no setting 'latency\.repeat'; did you mean 'latency\.repeats'\?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_errors_of_the_later_commands(workshop: Path, script: str, arguments: list[str], pattern: str) -> None:
    (workshop / "wrong.json").write_text('{"width": 5, "kernel": 3}')
    script += "_latency.py" if script == "measure" else "_subnet.py"
    expect_error(run_program(script, [CODE, *arguments], workshop), script, pattern)


@pytest.mark.parametrize(
    ("script", "pattern"),
    [
        ("search_subnet.py", r"no supernet below runs/supernet yet: run .*/train_supernet\.py \+space=ofa first"),
        ("retrain_subnet.py", r"no subnet below runs/search yet: run .*/search_subnet\.py first"),
        ("export_subnet.py", r"no subnet below runs/retrain yet: run .*/retrain_subnet\.py first"),
    ],
)
def test_commands_out_of_order(tmp_path: Path, script: str, pattern: str) -> None:
    expect_error(run_program(script, [], tmp_path), script, pattern)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".output.out"] == [
        tmp_path / ".output.err"
    ]
    assert list(tmp_path.glob("runs/*/*")) == []


def test_damaged_checkpoints(workshop: Path, tmp_path: Path) -> None:
    """Truncated, and with an object in it that would run code."""
    (path,) = list_checkpoints(workshop / "supernet" / "checkpoints")
    (tmp_path / "checkpoints").mkdir()
    damaged = tmp_path / "checkpoints" / path.name
    damaged.write_bytes(path.read_bytes()[:-100])
    finished = run_program("search_subnet.py", [f"supernet={tmp_path}", CODE], workshop)
    expect_error(finished, "search_subnet.py", "none of its 1 checkpoints can be read")
    assert path.name in finished.stdout
    torch.save({"format": "oneshot.checkpoint.1", "model": Path("/")}, damaged)
    finished = run_program("search_subnet.py", [f"supernet={damaged}"], workshop)
    expect_error(finished, "search_subnet.py", "holds objects other than tensors and plain values; it is not read")


def test_the_file_of_a_space(tmp_path: Path) -> None:
    """It is gone when its supernet is searched; it defines two spaces."""
    (tmp_path / "my_space.py").write_text(MY_SPACE)
    expect_success(run_program("train_supernet.py", [*TRAIN, "trainer.epochs=1", "run=supernet"], tmp_path))
    without = [argument for argument in SEARCH if argument != CODE]
    pattern = r"space 'my_space\.MySpace' is not part of oneshot: add code=my_space\.py .*trust.* to the command"
    expect_error(run_program("search_subnet.py", without, tmp_path), "search_subnet.py", pattern)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "my_space.py").rename(elsewhere / "my_space.py")
    pattern = r"there is no file .*my_space\.py$"
    expect_error(run_program("search_subnet.py", SEARCH, tmp_path), "search_subnet.py", pattern)
    expect_success(run_program("search_subnet.py", [*without, "code=elsewhere/my_space.py"], tmp_path))
    arguments = ["code=elsewhere/my_space.py", *TRAIN, "trainer.epochs=1", "run=supernet"]
    assert "continuing at step 2 of 2" in expect_success(run_program("train_supernet.py", arguments, tmp_path)).stdout
    (tmp_path / "my_space.py").write_text(MY_SPACE + "\n\nclass Another(MySpace):\n    pass\n")
    pattern = r"my_space\.py defines 2 search spaces"
    expect_error(run_program("train_supernet.py", TRAIN, tmp_path), "train_supernet.py", pattern)

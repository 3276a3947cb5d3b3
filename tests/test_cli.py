"""The commands as a user types them: what they leave, and one line for whatever the user got wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent / "training"))

from child_processes import ROOT, Finished, finish, run_program, start_program
from training_runs import differences, trained_steps

from oneshot.runs import writing
from oneshot.training import list_checkpoints, load_checkpoint

MY_SPACE = '''
"""Four networks; the name of a channel count is not that of any setting of the data."""

from torch import nn

from oneshot import Arch, Choice, Make, SearchSpace


class Block(nn.Sequential):
    def __init__(self, inputs: int, channels: int, kernel: int) -> None:
        super().__init__(nn.Conv2d(inputs, channels, kernel, 2, kernel // 2), nn.BatchNorm2d(channels), nn.ReLU())


class MySpace(SearchSpace):
    def __init__(self, num_classes: int = 10, resolution: int = 32, widths: tuple[int, ...] = (4, 8)) -> None:
        self.num_classes, self.resolution = num_classes, resolution
        self.choices = (Choice("width", tuple(widths)), Choice("kernel", (1, 3)))

    def build(self, arch: Arch, make: Make) -> nn.Module:
        width = arch.integer("width")
        blocks = make("first", Block, 3, width, arch.integer("kernel")), make("second", Block, width, width, 3)
        return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), make("last", nn.Linear, width, self.num_classes))
'''

SMALL = ["data.image_size=8", "data.max_train_images=60", "data.held_out=40", "data.test=40", "trainer.batch_size=30"]
TRAIN = ["+space=my_space", *SMALL, "trainer.device=cpu", "calibration_images=32"]
CODE = "code=my_space.py"
SEARCH = ["supernet=supernet", CODE, "search=random", "search.num_samples=3", "evaluation.device=cpu"]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: a space of their own, a supernet, a search and a retrained subnet."""
    folder = tmp_path_factory.mktemp("workshop")
    (folder / "my_space.py").write_text(MY_SPACE)
    # This one as a user starts it, with an interpreter of its own; the others are forked from a warm one.
    command = [sys.executable, str(ROOT / "train_supernet.py"), *TRAIN, "trainer.epochs=2", "run=supernet"]
    trained = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=150)
    assert (trained.returncode, trained.stderr) == (0, "")
    assert f"{ROOT}/search_subnet.py supernet=" in trained.stdout
    assert f"supernet={folder / 'supernet'} code={folder / 'my_space.py'}" in trained.stdout
    expect_success(run_program("search_subnet.py", [*SEARCH, "run=search"], folder))
    arguments = ["subnet=search", CODE, "trainer.epochs=1", "trainer.device=cpu", "run=retrain"]
    expect_success(run_program("retrain_subnet.py", arguments, folder))
    return folder


def expect_success(finished: Finished) -> Finished:
    assert (finished.code, finished.stderr) == (0, "")
    return finished


def expect_error(finished: Finished, script: str, pattern: str, code: int = 2) -> None:
    assert finished.code == code, finished.stderr
    (line,) = finished.error_lines
    assert line.startswith(f"{script}: ")
    assert re.search(pattern, line), line
    assert "Traceback" not in finished.stdout


# The job -------------------------------------------------------------------------------------------------------------


def test_each_command_leaves_what_the_next_one_needs(workshop: Path) -> None:
    for name in ("training.html", "metrics.jsonl", "checkpoints", ".hydra/config.yaml", "train_supernet.log"):
        assert (workshop / "supernet" / name).exists(), name
    for name in ("candidates.csv", "pareto.json", "subnet.pt", "report.html", "search_subnet.log"):
        assert (workshop / "search" / name).exists(), name
    for name in ("retrained.pt", "retrain.json", "retrain_subnet.log"):
        assert (workshop / "retrain" / name).exists(), name
    config = load_checkpoint(list_checkpoints(workshop / "supernet" / "checkpoints")[0])["config"]
    assert config["space"]["_target_"] == "my_space.MySpace"
    assert config["data"]["_target_"] == "oneshot.data.digits"
    assert "run" not in config


def test_the_first_line_counts_the_networks_that_are_trained(workshop: Path) -> None:
    arguments = [*TRAIN, "trainer.epochs=1", "+options.kernel=[3]", "run=part"]
    assert "MySpace: 2 networks;" in expect_success(run_program("train_supernet.py", arguments, workshop)).stdout


def test_paths_are_found_without_being_typed(tmp_path: Path) -> None:
    """The newest supernet, the newest search, the newest retrained subnet; a space by its name in the current folder."""
    (tmp_path / "my_space.py").write_text(MY_SPACE)
    arguments = [*TRAIN, "trainer.epochs=1", "space.widths=[4,6,8]"]
    for script, options in (
        ("train_supernet.py", arguments),
        ("search_subnet.py", SEARCH[1:]),
        ("retrain_subnet.py", [CODE, "trainer.epochs=1", "trainer.device=cpu"]),
        ("export_subnet.py", [CODE]),
    ):
        expect_success(run_program(script, options, tmp_path))
    (card,) = tmp_path.glob("runs/export/*/model.json")
    described = json.loads(card.read_text())
    assert described["space"]["widths"] == [4, 6, 8]
    assert described["space"]["resolution"] == 8
    assert described["test_images"] == 40


def test_a_finished_run_is_not_repeated(workshop: Path) -> None:
    finished = expect_success(run_program("train_supernet.py", [*TRAIN, "trainer.epochs=2", "run=supernet"], workshop))
    assert "continuing at step 4 of 4" in finished.stdout


def test_a_folder_that_another_process_writes_is_left_alone(workshop: Path) -> None:
    """And may be read."""
    kept = {path: path.read_bytes() for path in (workshop / "supernet").rglob("*") if path.is_file()}
    with writing(workshop / "supernet"):
        finished = run_program("train_supernet.py", [*TRAIN, "trainer.epochs=3", "run=supernet"], workshop)
        line = rf"supernet is being written by another process \(pid {os.getpid()} on host .* since .*\); wait for it, or use"
        expect_error(finished, "train_supernet.py", line)
        expect_success(run_program("search_subnet.py", [*SEARCH, "run=meanwhile"], workshop))
    assert {path: path.read_bytes() for path in kept} == kept


def test_a_run_that_is_refused_leaves_the_settings_of_the_one_before(workshop: Path) -> None:
    kept = {path: path.read_bytes() for path in (workshop / "supernet" / ".hydra").iterdir()}
    refused = run_program("train_supernet.py", [*TRAIN, "trainer.epochs=2", "seed=3", "run=supernet"], workshop)
    expect_error(refused, "train_supernet.py", "seed was 0 and is 3")
    assert {path: path.read_bytes() for path in kept} == kept


def test_a_folder_of_another_step_is_left_as_it_is(workshop: Path) -> None:
    """Also the settings that are kept there, and no log is added."""
    for script, held in (("search_subnet.py", "supernet"), ("train_supernet.py", "retrain")):
        kept = {path: path.read_bytes() for path in (workshop / held).rglob("*") if path.is_file()}
        arguments = SEARCH if script == "search_subnet.py" else TRAIN
        made_by = "train_supernet" if held == "supernet" else "retrain_subnet"
        pattern = f"{held} holds a run of {made_by}, not one of {script[:-3]}; use another folder with run="
        expect_error(run_program(script, [*arguments, f"run={held}"], workshop), script, pattern)
        assert {path: path.read_bytes() for path in (workshop / held).rglob("*") if path.is_file()} == kept


def test_a_table_of_latencies(workshop: Path) -> None:
    arguments = ["supernet=supernet", CODE, "latency.repeats=2", "check_networks=3", "run=latency"]
    first = expect_success(run_program("measure_latency.py", arguments, workshop))
    assert "input size 8: 10 layers, 10 to measure" in first.stdout
    assert re.search(r"3 whole networks: the sum of the layers is off by [\d.]+% \(median\)", first.stdout)
    names = {path.name for path in (workshop / "latency").glob("*.*") if path.suffix != ".log"}
    assert names == {".hydra", ".lock", "8_lookup_table.yaml", "table.json", "check.json"}
    check = json.loads((workshop / "latency" / "check.json").read_text())
    assert len(check["predicted"]) == len(check["measured"]) == 3
    again = expect_success(run_program("measure_latency.py", [*arguments, "check_networks=0"], workshop))
    assert "input size 8: 10 layers, 0 to measure" in again.stdout
    named = ["+space=my_space", "image_size=4", "num_classes=3", "latency.repeats=1", "check_networks=1", "run=named"]
    expect_success(run_program("measure_latency.py", named, workshop))
    assert json.loads((workshop / "named" / "table.json").read_text())["space"]["num_classes"] == 3


def test_the_config_can_be_shown(tmp_path: Path) -> None:
    finished = expect_success(run_program("train_supernet.py", ["+space=ofa", "--cfg", "job"], tmp_path))
    assert "kernel_transform: true" in finished.stdout
    assert list(tmp_path.glob("runs/*")) == []


def test_several_jobs(workshop: Path) -> None:
    arguments = ["-m", *TRAIN, "trainer.epochs=1", "run=sweep", "trainer.lr=0.1,0.2"]
    expect_success(run_program("train_supernet.py", arguments, workshop))
    folders = sorted(path for path in (workshop / "sweep").iterdir() if path.is_dir())
    assert [path.name for path in folders] == ["0_trainer.lr_0.1", "1_trainer.lr_0.2"]
    rates = [load_checkpoint(list_checkpoints(path / "checkpoints")[0])["config"]["trainer"]["lr"] for path in folders]
    assert rates == [0.1, 0.2]


def test_the_folders_of_several_jobs_can_be_typed(workshop: Path) -> None:
    """As they are, also where the settings have brackets; the same command finds them again, whatever the machine's settings."""
    arguments = ["-m", *TRAIN, "trainer.epochs=1", "run=parts", "+options.width=[4],[8]"]
    expect_success(run_program("train_supernet.py", arguments, workshop))
    folders = sorted(path.name for path in (workshop / "parts").iterdir() if path.is_dir())
    assert [re.sub("-[0-9a-f]{8}$", "", name) for name in folders] == ["0_options.width_4", "1_options.width_8"]
    again = expect_success(run_program("train_supernet.py", [*arguments, "trainer.threads=1"], workshop))
    assert again.stdout.count("continuing at step 2 of 2") == 2
    assert sorted(path.name for path in (workshop / "parts").iterdir() if path.is_dir()) == folders
    one = [f"supernet=parts/{folders[1]}", *SEARCH[1:], "run=part-of-several"]
    expect_success(run_program("search_subnet.py", one, workshop))
    both = expect_success(run_program("search_subnet.py", ["supernet=parts", *SEARCH[1:], "run=both"], workshop))
    assert both.stdout.count("step 2 of 2") == 2


def test_settings_that_have_no_effect_are_named(workshop: Path) -> None:
    unread = ["trainer.epochs=3", "num_classes=9", "prediction.num_pairs=9", "evaluation.threads=1"]
    unread += ["combination.num_reference=60"]
    output = expect_success(run_program("search_subnet.py", [*SEARCH, *unread, "run=unread"], workshop)).stdout
    for line in (
        "trainer.epochs has no effect here: it is read with truth=retrain:N",
        "num_classes has no effect here: it is read with +space",
        "prediction.num_pairs has no effect here: it is read with predictor=NAME",
        "combination.num_reference has no effect here: it is read with score=combined",
        "score=inherited, the supernet's weights alone, because ",
    ):
        assert line in output
    assert output.count("has no effect") == 4


def test_one_of_several_jobs_fails(workshop: Path) -> None:
    arguments = ["-m", *TRAIN, "trainer.epochs=1", "run=halves", "trainer.lr=-1,0.2"]
    expect_error(run_program("train_supernet.py", arguments, workshop), "train_supernet.py", "trainer.lr .* not -1")
    assert len(list(workshop.glob("halves/1_*/checkpoints/*.pt"))) == 1


# Stopping and going on -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_says_how_to_go_on(workshop: Path, tmp_path: Path, number: signal.Signals) -> None:
    arguments = [*TRAIN, "trainer.epochs=150", "trainer.log_every=1", f"run={tmp_path / 'run'}"]
    process = start_program("train_supernet.py", arguments, workshop, tmp_path / "log")
    record = tmp_path / "run" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (record.is_file() and record.stat().st_size > 500) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, number)
    stopped = finish(process, tmp_path / "log")
    command = re.escape(f"the same command with run={tmp_path / 'run'} continues it")
    expect_error(stopped, "train_supernet.py", rf"stopped at step \d+ of 300; {command}$", code=130)
    expect_success(run_program("train_supernet.py", arguments, workshop))
    assert trained_steps(tmp_path / "run") == list(range(1, 301))
    if number == signal.SIGTERM:
        other = [*arguments[:-1], f"run={tmp_path / 'undisturbed'}"]
        expect_success(run_program("train_supernet.py", other, workshop))
        states = [
            load_checkpoint(list_checkpoints(tmp_path / name / "checkpoints")[0]) for name in ("run", "undisturbed")
        ]
        for part in ("model", "optimizer", "average"):
            assert not differences(states[0][part], states[1][part]), part


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("trainer.lr=0.3", r"trainer\.lr was 0\.1 and is 0\.3"),
        ("space.widths=[8,12]", r"space\.widths was \[4, 8\] and is \[8, 12\]"),
        ("sampler=fair", r"sampler\."),
        ("seed=1", r"seed was 0 and is 1"),
    ],
)
def test_going_on_with_other_settings(workshop: Path, change: str, message: str) -> None:
    arguments = [*TRAIN, "trainer.epochs=2", "run=supernet", change]
    pattern = rf"supernet was started with other settings \(.*{message}.*\); use another folder"
    expect_error(run_program("train_supernet.py", arguments, workshop), "train_supernet.py", pattern)


def test_going_on_with_settings_that_may_change(workshop: Path) -> None:
    arguments = [*TRAIN, "trainer.epochs=2", "run=supernet", "trainer.log_every=3", "trainer.threads=1"]
    expect_success(run_program("train_supernet.py", arguments, workshop))


# What a user gets wrong ----------------------------------------------------------------------------------------------


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
        (["+space=ofa", "trainer.device=gpu"], r"device 'gpu' cannot be used here"),
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

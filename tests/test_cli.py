"""The commands as a user types them: what they leave, and one line for whatever the user got wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "training"))

from child_processes import finish, run_program, start_program
from command_lines import CODE, MY_SPACE, SEARCH, TRAIN, expect_error, expect_success
from training_runs import differences, trained_steps

from oneshot.runs import writing
from oneshot.training import list_checkpoints, load_checkpoint

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
    unread += ["combination.num_reference=60", "cost.latency_table=unread_table", "cost.latency_batch=8"]
    measure = ["supernet=supernet", CODE, "latency.repeats=1", "check_networks=0", "run=unread_table"]
    expect_success(run_program("measure_latency.py", measure, workshop))
    output = expect_success(run_program("search_subnet.py", [*SEARCH, *unread, "run=unread"], workshop)).stdout
    for line in (
        "trainer.epochs has no effect here: it is read with truth=retrain:N",
        "num_classes has no effect here: it is read with +space",
        "prediction.num_pairs has no effect here: it is read with predictor=NAME",
        "combination.num_reference has no effect here: it is read with score=combined",
        "cost.latency_batch has no effect here: it is read without cost.latency_table",
        "score=inherited, the supernet's weights alone, because ",
    ):
        assert line in output
    assert output.count("has no effect") == 5


def test_settings_that_a_training_does_not_read_are_named(workshop: Path) -> None:
    arguments = [
        *TRAIN,
        "trainer.epochs=1",
        "new_classifier=true",
        "trainer.batch_size=4096",
        "trainer.warmup_epochs=3",
        "trainer.optimizer=adamw",
        "trainer.momentum=0.5",
        "trainer.clip_grad=null",
        "trainer.clip_mode=norm",
        "distillation.temperature=3",
    ]
    output = expect_success(run_program("train_supernet.py", [*arguments, "run=unread_here"], workshop)).stdout
    assert "new_classifier has no effect here: it is read with init=FOLDER" in output
    assert "trainer.momentum has no effect here: it is read by optimizers with momentum, which adamw has not" in output
    assert "trainer.clip_mode has no effect here: it is read with trainer.clip_grad" in output
    assert "distillation.temperature has no effect here: it is read where networks have a teacher" in output
    assert re.search(r"trainer\.batch_size=4096: each batch is all \d+ training images", output)
    assert "trainer.warmup_epochs=3 is cut to half of the epochs: 0.5" in output


def test_one_of_several_jobs_fails(workshop: Path) -> None:
    arguments = ["-m", *TRAIN, "trainer.epochs=1", "run=halves", "trainer.lr=-1,0.2"]
    ended = run_program("train_supernet.py", arguments, workshop)
    expect_error(ended, "train_supernet.py", "trainer.lr .* not -1")
    assert re.search(r"ERROR\] - \S*halves/0_\S*: trainer\.lr .* not -1", ended.stdout)
    assert len(list(workshop.glob("halves/1_*/checkpoints/*.pt"))) == 1


def test_a_swept_group_beside_one_of_its_settings(workshop: Path) -> None:
    arguments = ["-m", "+space=nasbench201,spos", "space.channels=4", *[word for word in TRAIN if "space" not in word]]
    ended = run_program("train_supernet.py", arguments, workshop)
    expect_error(ended, "train_supernet.py", r"\+\+space\.channels=VALUE sets it in all")


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


def test_a_search_that_is_told_to_end_says_how_to_go_on(workshop: Path, tmp_path: Path) -> None:
    arguments = [*SEARCH, "search=random", "search.num_samples=100000", f"run={tmp_path / 'run'}"]
    process = start_program("search_subnet.py", arguments, workshop, tmp_path / "log")
    deadline = time.monotonic() + 60
    while not (tmp_path / "run" / "run.sqlite").is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGTERM)
    command = re.escape(f"the same command with run={tmp_path / 'run'} continues it")
    expect_error(finish(process, tmp_path / "log"), "search_subnet.py", rf"stopped; {command}$", code=130)


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

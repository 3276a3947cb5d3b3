"""Settings as they are typed and printed: what is printed is read back as it was, whatever is in it."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

sys.path.insert(0, str(Path(__file__).parent.parent / "training"))

from child_processes import ROOT, Finished, run_program

from oneshot.config import CONF, command
from oneshot.config.errors import explain
from oneshot.config.quoting import check_paths, override

NASTY = "Größe (neu), 50% = [a]{b} $c #d 'e' \"f\" &g; |h\\i *?~!漢"
SPACE = """
from torch import nn

from oneshot import Arch, Choice, Make, SearchSpace


class Tiny(SearchSpace):
    def __init__(self, num_classes: int = 10, resolution: int = 8) -> None:
        self.num_classes, self.resolution = num_classes, resolution
        self.choices = (Choice("kernel", (1, 3)),)

    def build(self, arch: Arch, make: Make) -> nn.Module:
        kernel = arch.integer("kernel")
        first = make("first", nn.Conv2d, 3, 4, kernel, 2, kernel // 2)
        return nn.Sequential(first, nn.AdaptiveAvgPool2d(1), nn.Flatten(), make("last", nn.Linear, 4, self.num_classes))
"""
DATA = ["data.image_size=8", "data.max_train_images=60", "data.held_out=40", "data.test=40", "trainer.batch_size=30"]
TRAIN = ["+space=tiny", *DATA, "trainer.epochs=1", "trainer.threads=1", "calibration_images=32"]


def read_back(word: str) -> object:
    """What Hydra and OmegaConf make of one word of a shell's command line."""
    (argument,) = shlex.split(word)
    parsed = OverridesParser.create().parse_override(argument)
    assert not parsed.is_sweep_override()
    config = OmegaConf.create({"setting": parsed.value(), "dir": "${setting}/below"})
    assert config.dir == f"{config.setting}/below"
    return config.setting


@settings(max_examples=300)
@given(
    st.text(st.sampled_from("ab1e3 \t=,[]{}$#'()&;|\\\"*?~!@%+-./:ß漢\n"), min_size=1, max_size=12)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
)
@example("${seed}")
@example("\\${seed}\\")
@example("null")
@example("1e3")
@example("it's")
@example(NASTY)
def test_a_setting_is_read_as_it_was(path: str) -> None:
    path = f"./{path}" if path == "???" else path  # OmegaConf's sign for what is missing
    assert read_back(override("run", path)) == path


@pytest.mark.parametrize("path", ["/home/me/runs/first", "runs/2026-11-25_21-00-00-000-abcd", "a.b+c@d:e"])
def test_ordinary_paths_stay_readable(path: str) -> None:
    assert override("run", path) == f"run={path}"


@pytest.mark.parametrize("name", ["a b", "ü", "$HOME", "'", '"', "`id`", "a\\", NASTY])
def test_a_shell_hands_it_over(name: str) -> None:
    shown = subprocess.run(
        ["sh", "-c", f"printf %s {override('run', name)}"], capture_output=True, text=True, check=True
    )
    assert read_back(shlex.quote(shown.stdout)) == name


@pytest.mark.parametrize(
    "typed", ["run=/a,b", "run=/a[b]", "run=/ü", "run=/a(b)", "run=/a=b", "run={a}b", "data.root='/a"]
)
def test_a_setting_that_was_not_quoted(typed: str) -> None:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"), pytest.raises(Exception) as raised:  # noqa: PT011
        compose("train_supernet", overrides=[typed])
    line = explain(raised.value, "train_supernet")
    assert line is not None
    assert "\n" not in line
    shown = re.fullmatch(r"(.*): .*; text with such characters is quoted: (.*)", line)
    assert shown is not None, line
    assert shown[1] == typed
    key, _, value = typed.partition("=")
    assert shlex.split(shown[2])[0].startswith(f"{key}=")
    assert read_back(shown[2]) == value


@pytest.mark.parametrize(
    "typed", ["run=1e3", "run=null", "run=[a]", "init=5", "subnet=true", "+data.root={a: b}", "supernet=3"]
)
def test_a_path_that_is_something_else(typed: str) -> None:
    with pytest.raises(ValueError, match="a path is text") as raised:
        check_paths(["+space=ofa", typed])
    quoted = str(raised.value).rpartition("quoted it is: ")[2]
    assert read_back(quoted) == typed.partition("=")[2]
    check_paths(["-m", "--cfg", "run=5", "init=null", "supernet=[a,b]", "subnet=a,b", "seed=3", *shlex.split(quoted)])


def test_a_folder_that_hydra_cannot_work_in(tmp_path: Path) -> None:
    refused = run_program(
        "train_supernet.py", ["+space=ofa", *shlex.split(override("run", tmp_path / "${seed}"))], tmp_path
    )
    assert (refused.code, len(refused.error_lines)) == (2, 1)
    assert "cannot work in a folder that has ${ in its path" in refused.stderr


@pytest.mark.parametrize("size", [600, 9000])
def test_a_full_disk_is_named(tmp_path: Path, size: int) -> None:
    """Files may not grow beyond ``size``: Hydra's own meet the limit, or the checkpoint."""
    limit = f"import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))\n"
    (tmp_path / "tiny.py").write_text(SPACE + limit)
    refused = run_program("train_supernet.py", [*TRAIN, f"run={tmp_path}/runs/full"], tmp_path)
    assert (refused.code, len(refused.error_lines)) == (2, 1), refused.stderr
    assert re.match(rf"train_supernet.py: {tmp_path}/runs/full.*: File too large", refused.stderr)


# Commands ------------------------------------------------------------------------------------------------------------


def test_commands_are_named_as_the_program_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    for name in ("python", "oneshot-search"):
        (tmp_path / "bin" / name).touch(mode=0o755)
    for path, python, search in (
        ("/usr/bin", str(tmp_path / "bin" / "python"), str(tmp_path / "bin" / "oneshot-search")),
        (f"{tmp_path}/bin:/usr/bin", "python", "oneshot-search"),
    ):
        monkeypatch.setenv("PATH", path)
        monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
        for started, expected in (
            (str(tmp_path / "bin" / "oneshot-train"), f"{search} supernet=x"),
            ("train_supernet.py", f"{python} search_subnet.py supernet=x"),
            ("../my nets/train_supernet.py", f"{python} '../my nets/search_subnet.py' supernet=x"),
            ("/lib/worker.py", f"{python} {ROOT}/search_subnet.py supernet=x"),
        ):
            monkeypatch.setattr(sys, "argv", [started])
            assert command("search_subnet", supernet="x") == expected


def test_printed_commands_can_be_pasted(tmp_path: Path) -> None:
    """From a folder with every kind of character in its name: the printed command, read by a shell, is the next step."""
    folder = tmp_path / NASTY
    folder.mkdir()
    (folder / "tiny.py").write_text(SPACE)
    data = [
        "data.image_size=8",
        "data.max_train_images=60",
        "data.held_out=40",
        "data.test=40",
        "trainer.batch_size=30",
    ]
    train = ["+space=tiny", *data, "trainer.epochs=1", "trainer.threads=1", "calibration_images=32"]
    step = run_program("train_supernet.py", train, folder)
    search = ["search=random", "search.num_samples=2", "evaluation.threads=1"]
    for program, more in (
        ("search_subnet.py", search),
        ("retrain_subnet.py", ["trainer.epochs=1", "trainer.threads=1"]),
    ):
        step = run_program(program, [*next_words(step, program), *more], folder)
    next_words(step, "export_subnet.py")
    again = f"run={next((folder / 'runs' / 'supernet').iterdir())}"
    refused = run_program("train_supernet.py", [*TRAIN, again], folder)
    assert refused.code == 2
    quoted = refused.stderr.rpartition("is quoted: ")[2]
    continued = run_program("train_supernet.py", [*TRAIN, *shlex.split(quoted)], folder)
    assert "continuing at step 2 of 2" in continued.stdout, continued.stderr


def next_words(step: Finished, program: str) -> list[str]:
    """The arguments of the command that ``step`` printed last, which starts ``program``."""
    assert step.code == 0, step.stderr
    printed = re.findall(r"next: (.*)", step.stdout)[-1]
    words = subprocess.run(["sh", "-c", f"printf '%s\\n' {printed}"], capture_output=True, text=True, check=True)
    python, script, *arguments = words.stdout.splitlines()
    assert Path(python).name.startswith("python")
    assert Path(script) == ROOT / program
    return arguments

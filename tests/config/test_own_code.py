"""Python files of the user's own: which are run, when, and under which names."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from oneshot import Arch, Choice, Make, SearchSpace
from oneshot.config import register_spaces
from oneshot.config.own_code import code_setting, named_code, run_code
from oneshot.config.spaces import check_runs
from oneshot.spaces import NASBenchMacro
from oneshot.spaces.loading import from_definition

SPACE = """
from oneshot.spaces import NASBenchMacro
from beside_own_code import WIDTH
# a SearchSpace

class Mine(NASBenchMacro):
    def __init__(self, num_classes: int = 10, resolution: int = 32) -> None:
        super().__init__(num_classes, resolution, WIDTH, 2 * WIDTH)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if (sys.modules[name].__file__ or "").startswith(str(tmp_path)):
            del sys.modules[name]


def write(path: Path, text: str = SPACE) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    (path.parent / "beside_own_code.py").write_text("WIDTH = 4\n")
    return path


def test_a_space_of_another_folder(tmp_path: Path) -> None:
    path = write(tmp_path / "a folder" / "own_space_a.py")
    definition = {"_target_": "own_space_a.Mine", "num_classes": 3, "resolution": 8}
    with pytest.raises(ValueError, match=r"add code=own_space_a\.py"):
        from_definition(definition)
    assert register_spaces(["code='a folder/own_space_a.py'", "trainer.epochs=3", "-m"]) == [str(path)]
    space = from_definition(definition)
    assert (type(space).__name__, space.num_classes) == ("Mine", 3)
    assert code_setting(space) == {"code": str(path)}
    assert code_setting(NASBenchMacro()) == {}


@pytest.mark.parametrize("by", ["current folder", "PYTHONPATH", "code"])
def test_a_space_by_its_name(by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / ("own_space_b.py" if by == "current folder" else "other/own_space_b.py"))
    if by == "PYTHONPATH":
        monkeypatch.setenv("PYTHONPATH", str(path.parent))
    arguments = ["+space=own_space_b", *(["code=other/own_space_b.py"] if by == "code" else [])]
    assert register_spaces(arguments) == [str(path)]


@pytest.mark.parametrize("name", ["timm", "random", "omegaconf", "antigravity", "six"])
def test_modules_that_are_not_the_users_are_not_imported(name: str) -> None:
    before = set(sys.modules)
    assert register_spaces([f"+space={name}"]) == []
    assert set(sys.modules) - before == set()


@pytest.mark.parametrize("name", ["torchvision", "random", "sklearn", "yaml"])
def test_a_file_cannot_take_the_place_of_another_module(name: str, tmp_path: Path) -> None:
    before = sys.modules.get(name)
    write(tmp_path / f"{name}.py")
    with pytest.raises(ValueError, match=f"has the name of another module, '{name}': rename the file"):
        register_spaces([f"+space={name}"])
    assert sys.modules.get(name) is before


def test_a_file_without_a_space_is_not_run(tmp_path: Path) -> None:
    write(tmp_path / "setup_own.py", "raise SystemExit(3)")
    assert register_spaces(["+space=setup_own"]) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\ny = x / 0", r"own_space_c\.py cannot be imported: line 2: ZeroDivisionError: division by zero"),
        ("raise ValueError('boom')", r"own_space_c\.py cannot be imported: line 1: ValueError: boom"),
        ("def (", r"own_space_c\.py cannot be imported: SyntaxError"),
        ("import nothing_of_that_name", r"line 1: ModuleNotFoundError: No module named"),
    ],
)
def test_a_file_that_fails(text: str, message: str, tmp_path: Path) -> None:
    write(tmp_path / "own_space_c.py", text)
    with pytest.raises(ValueError, match=message):
        run_code(named_code(["code=own_space_c.py"]))
    assert "own_space_c" not in sys.modules


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            "nn.Conv2d(3, 8, 1), nn.Conv2d(4, 8, 1)",
            r"Own fails on images of 3x8x8, .*RuntimeError: Given groups=1.*expected input",
        ),
        ("nn.Flatten(), nn.Linear(192, 7)", r"Own gives \(7,\) for an image, not logits of 4 classes"),
        ("nn.Flatten(), nn.Linear(192, 4)", ""),
    ],
)
def test_a_space_whose_networks_do_not_run_is_refused_at_the_start(layers: str, message: str) -> None:
    class Own(SearchSpace):
        in_channels, resolution, num_classes = 3, 8, 4
        choices = (Choice("unused", (1, 2)),)

        def build(self, arch: Arch, make: Make) -> nn.Module:
            return make("all", lambda: nn.Sequential(*eval(f"[{layers}]")))

    if not message:
        check_runs(Own())
        return
    with pytest.raises(ValueError, match=message):
        check_runs(Own())


def test_several_files_and_modules(tmp_path: Path) -> None:
    first, second = (write(tmp_path / f"own_space_{name}.py") for name in "de")
    assert named_code(["code=[own_space_d.py,own_space_e.py,json]"]) == [str(first), str(second), "json"]
    assert [module.__name__ for module in run_code([str(first), str(second), "json"])] == [
        first.stem,
        second.stem,
        "json",
    ]
    with pytest.raises(ValueError, match="code=nothing_of_that_name is neither a Python file nor a module"):
        run_code(["nothing_of_that_name"])
    with pytest.raises(ValueError, match=r"code names one Python file or, as \[a.py,b.py\], several"):
        named_code(["code=own_space_d.py,own_space_e.py"])

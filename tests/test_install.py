"""The wheel: installed without the checkout, it has the commands, the configs and the programs, and works from any folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
COMMANDS = {"oneshot-train", "oneshot-search", "oneshot-retrain", "oneshot-export", "oneshot-latency"}


def run(*command: str | Path, folder: Path) -> str:
    """What a program prints, without the PYTHONPATH of the tests."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(list(map(str, command)), cwd=folder, env=clean, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a source distribution, and so from nothing that this lacks."""
    folder = tmp_path_factory.mktemp("build")
    source = folder / "source"
    source.mkdir()
    for name in ("oneshot", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (*ROOT.glob("*.py"), ROOT / "pyproject.toml", ROOT / "README.md", ROOT / "LICENSE"):
        shutil.copy(path, source)
    run(sys.executable, "-c", "import setuptools.build_meta as b; b.build_sdist('..')", folder=source)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(*pip, "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation", "-w", folder, unpacked, folder=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel, and with what it needs from this one, but not with the checkout."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python, paths = folder / "bin" / "python", sysconfig.get_paths()
    (site,) = (folder / "lib").glob("python*/site-packages")
    (site / "needed.pth").write_text("\n".join(dict.fromkeys((paths["purelib"], paths["platlib"]))) + "\n")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    run(*pip, "install", "-q", "--no-deps", "--no-index", wheel, folder=folder)
    return folder


def test_it_packs_what_lies_at_the_top(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        names = {name for name in packed.namelist() if not name.endswith("/")}
    configs = {f"oneshot/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*.yaml")}
    modules = {
        str(path.relative_to(ROOT)) for path in (ROOT / "oneshot").rglob("*.*") if path.parent.name != "__pycache__"
    }
    programs = {f"oneshot/programs/{path.name}" for path in ROOT.glob("*_*.py")}
    assert len(programs) == 5
    assert {name for name in names if ".dist-info/" not in name} == configs | modules | programs


@pytest.mark.slow
def test_a_command_trains_a_step_from_another_folder(environment: Path, tmp_path: Path) -> None:
    folder = tmp_path / "meine Bilder für später"
    folder.mkdir()
    where = "import importlib.util as u; print(u.find_spec('oneshot').origin)"
    assert run(environment / "bin" / "python", "-c", where, folder=folder).startswith(str(environment))
    assert {path.name for path in (environment / "bin").glob("oneshot-*")} == COMMANDS
    small = (
        "data.max_train_images=30",
        "data.held_out=20",
        "data.test=20",
        "data.image_size=8",
        "calibration_images=20",
    )
    settings = ("trainer.epochs=1", "trainer.batch_size=30", "trainer.device=cpu", "trainer.threads=1")
    shown = run(
        environment / "bin" / "oneshot-train",
        "+space=nasbench_macro",
        "space.channels=4",
        *small,
        *settings,
        folder=folder,
    )
    (made,) = (folder / "runs" / "supernet").iterdir()
    assert len(list(made.glob("checkpoints/step-000000001.pt"))) == 1
    printed = re.findall(r"next: (.*)", shown)
    assert printed == [f"{environment}/bin/oneshot-search 'supernet=\"{made}\"'"]

"""The toys of the training tests."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))


@pytest.fixture(scope="session")
def supernet_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a toy supernet; tests read it only."""
    from pipeline_runs import train

    folder = tmp_path_factory.mktemp("trained") / "supernet"
    train(folder)
    return folder


@pytest.fixture(scope="module")
def finished(supernet_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of an undisturbed search with each strategy."""
    from pipeline_runs import search
    from toy_searches import STRATEGIES

    folders: dict[str, Path] = {}

    def run(name: str) -> Path:
        if name not in folders:
            folders[name] = tmp_path_factory.mktemp(name)
            search(supernet_folder, folders[name], STRATEGIES[name])
        return folders[name]

    return run

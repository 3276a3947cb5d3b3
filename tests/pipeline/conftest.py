"""The toys of the training tests."""

import sys
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

"""The toys of the training tests, and one thread."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def supernet_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a toy supernet; tests read it only."""
    from pipeline_runs import train

    folder = tmp_path_factory.mktemp("trained") / "supernet"
    train(folder)
    return folder

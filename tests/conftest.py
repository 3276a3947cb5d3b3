"""What tests share: one thread, the folder of reference data, and every search space with a supernet of it."""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from forked_checks import ForkedChecks
from space_examples import SPACES

from oneshot import export
from oneshot.spaces import SearchSpace
from oneshot.supernet import Supernet


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _threads_restored() -> Iterator[None]:
    """Trainers and searches set the number of threads of the process; no test hands that on to the next."""
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Published tables and reference values; they lie beside the repository, not in it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the reference data is not beside the repository (../shared/data)")
    return folder


@pytest.fixture(scope="session")
def _forked_checks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkedChecks]:
    checks = ForkedChecks(tmp_path_factory.mktemp("checks"))
    yield checks
    checks.close()


@pytest.fixture
def forked_checks(_forked_checks: ForkedChecks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exported files are checked in forks of one process without oneshot: a fresh interpreter for each takes seconds."""
    monkeypatch.setattr(export, "subprocess", _forked_checks)


@pytest.fixture(scope="module", params=SPACES)
def any_space(request: pytest.FixtureRequest) -> SearchSpace:
    """Each space in turn."""
    return SPACES[request.param]()


@pytest.fixture(scope="module")
def _varied_supernet(any_space: SearchSpace) -> Supernet:
    supernet = Supernet(any_space)
    generator = torch.Generator().manual_seed(0)
    for name, tensor in supernet.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=generator)
            tensor.copy_(1 + 0.5 * noise.tanh()) if name.endswith("running_var") else tensor.add_(0.1 * noise)
    return supernet


@pytest.fixture
def any_supernet(_varied_supernet: Supernet) -> Supernet:
    """A supernet of ``any_space`` in which no two slices of a tensor are alike; the test may change it."""
    return copy.deepcopy(_varied_supernet)

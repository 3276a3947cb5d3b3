"""What tests share: one thread, the folder of reference data, every search space with a supernet of it, and a user's folder."""

import copy
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from command_lines import CODE, MY_SPACE, SEARCH, TRAIN, expect_success
from forked_checks import ForkedChecks
from hydra.core.global_hydra import GlobalHydra
from space_examples import SPACES

from oneshot import export
from oneshot.spaces import SearchSpace
from oneshot.supernet import Supernet

hypothesis.settings.register_profile("oneshot", deadline=None)  # a busy machine is not a fault
hypothesis.settings.load_profile("oneshot")


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


def _seed() -> None:
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup() -> None:
    """The weights of shared networks do not depend on which tests ran before, which differs from run to run."""
    _seed()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call() -> None:
    """Nor does what a test draws itself."""
    _seed()


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


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: a space of their own, a supernet, a search and a retrained subnet."""
    from child_processes import ROOT, run_program

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


@pytest.fixture
def fresh_hydra() -> Iterator[None]:
    """Nothing is left of what other tests composed, nor of what this one does."""
    GlobalHydra.instance().clear()
    yield
    GlobalHydra.instance().clear()

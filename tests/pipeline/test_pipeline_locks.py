"""Every step holds the lock of the folder that it writes to, and of no folder that it only reads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from pipeline_runs import DATA, make_settings, open_once, opened, retrain, train
from pipeline_runs import search as run_search
from toy_spaces import ToySpace

from oneshot.costs import measure_table
from oneshot.export import ExportSettings
from oneshot.pipeline.candidate_cards import CandidateCards
from oneshot.pipeline.export import export_subnet
from oneshot.pipeline.folders import load_subnet, load_supernet
from oneshot.pipeline.retrain import RetrainSettings
from oneshot.pipeline.retrained_truth import retrain_truth
from oneshot.pipeline.search_settings import RetrainedTruth
from oneshot.runs import FolderInUseError, writing
from oneshot.training import Trainer


@pytest.fixture(scope="module")
def searched(supernet_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("searched")
    run_search(supernet_folder, folder)
    return folder


@pytest.fixture
def taken(tmp_path: Path) -> Iterator[Callable[[Path], Path]]:
    """Takes a folder as another process would: for a lock, another thread is one."""
    ended, threads = threading.Event(), list[threading.Thread]()

    def take(folder: Path) -> Path:
        begun = threading.Event()

        def hold() -> None:
            with writing(folder):
                begun.set()
                ended.wait(60)

        threads.append(threading.Thread(target=hold))
        threads[-1].start()
        assert begun.wait(10)
        return folder

    yield take
    ended.set()
    for thread in threads:
        thread.join()


def search(supernet: Path, searched: Path, folder: Path) -> None:
    open_once(supernet, folder)


def export(supernet: Path, searched: Path, folder: Path) -> None:
    export_subnet(load_subnet(searched), folder, ExportSettings("torchscript"))


def measure(supernet: Path, searched: Path, folder: Path) -> None:
    measure_table(ToySpace(), folder=folder)


STEPS: dict[str, Callable[[Path, Path, Path], object]] = {
    "train": lambda supernet, searched, folder: train(folder),
    "search": search,
    "retrain": lambda supernet, searched, folder: retrain(searched, folder),
    "export": export,
    "measure": measure,
}


@pytest.mark.parametrize("step", STEPS)
def test_a_folder_that_is_being_written_is_refused(
    supernet_folder: Path, searched: Path, tmp_path: Path, taken: Callable[[Path], Path], step: str
) -> None:
    with pytest.raises(FolderInUseError, match=r"is being written by another process \(pid .*use another folder"):
        STEPS[step](supernet_folder, searched, taken(tmp_path / "run"))
    assert {path.name for path in (tmp_path / "run").iterdir()} == {".lock", ".lock.json"}


def test_a_network_that_is_retrained_for_its_true_accuracy(
    supernet_folder: Path, tmp_path: Path, taken: Callable[[Path], Path]
) -> None:
    settings = RetrainedTruth(2, make_settings(epochs=1), RetrainSettings(weights="scratch"))
    with opened(supernet_folder, tmp_path) as (scores, costs):
        archs = [scores.space.largest, scores.space.smallest]
        scores.score_all(archs, "search")
        cards = CandidateCards(scores, costs, load_supernet(supernet_folder), DATA, {})
        retrain_truth(scores, archs, cards.subnet, DATA, settings)
        (folder, _) = sorted((tmp_path / "retrained").glob("*/seed0"))
        (folder / "retrain.json").unlink()
        taken(folder)
        with pytest.raises(FolderInUseError, match="seed0 is being written by another process"):
            retrain_truth(scores, archs, cards.subnet, DATA, settings)


def test_folders_that_are_read_may_be_written_meanwhile(
    supernet_folder: Path, searched: Path, tmp_path: Path, taken: Callable[[Path], Path]
) -> None:
    taken(supernet_folder)
    taken(searched)
    run_search(supernet_folder, tmp_path / "search")
    retrain(searched, tmp_path / "retrain", epochs=1)
    assert (tmp_path / "search" / "subnet.pt").is_file()
    assert (tmp_path / "retrain" / "retrained.pt").is_file()


def test_training_holds_the_folder_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: Callable[[Path], Path]
) -> None:
    seen: list[str] = []
    original = Trainer._save

    def try_meanwhile(trainer: Trainer) -> None:
        def write() -> None:
            try:
                with writing(tmp_path):
                    seen.append("written")
            except FolderInUseError:
                seen.append("refused")

        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
        original(trainer)

    monkeypatch.setattr(Trainer, "_save", try_meanwhile)
    train(tmp_path, epochs=1)
    assert set(seen) == {"refused"}
    taken(tmp_path)  # it is free again
    assert torch.load(next((tmp_path / "checkpoints").glob("*.pt")), weights_only=True)["step"] == 6

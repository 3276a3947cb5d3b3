"""The record of a run reads as if it had never stopped."""

import json
from pathlib import Path

import pytest

from oneshot.training.metrics import Metrics


def write_lines(folder: Path, *lines: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(lines))


def steps(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_each_record_is_on_disk_at_once(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / "run", 0)
    metrics.write(10, {"loss/train": 2.5})
    metrics.write(10, {"held_out_loss/largest": 1.5})
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == (
        '{"step": 10, "loss/train": 2.5}\n{"step": 10, "held_out_loss/largest": 1.5}\n'
    )
    metrics.stop()


def test_numbers_that_json_has_not_are_null(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, 0)
    metrics.write(1, {"loss/train": float("nan"), "lr/lr": 0.5})
    metrics.write(2, {"loss/train": 1.0, "lr/lr": float("inf")})
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])["loss/train"] is None
    (loss,) = metrics.curves()["training loss"]
    assert (loss.steps, loss.values) == ([2], [1.0])
    metrics.stop()


def test_a_continued_run_drops_what_lies_beyond_its_checkpoint(tmp_path: Path) -> None:
    write_lines(tmp_path, *(f'{{"step": {step}, "loss/train": {step}.5}}\n' for step in (10, 20, 30, 40)))
    metrics = Metrics(tmp_path, 25)
    assert steps(tmp_path) == [10, 20]
    metrics.write(30, {"loss/train": 0.5})
    assert steps(tmp_path) == [10, 20, 30]
    (loss,) = metrics.curves()["training loss"]
    assert (loss.steps, loss.values) == ([10, 20, 30], [10.5, 20.5, 0.5])
    metrics.stop()


def test_phases_are_recorded_and_marked(tmp_path: Path) -> None:
    first = Metrics(tmp_path, 0, "whole")
    for step in (10, 16):
        first.write(step, {"loss/train": 1.0})
    first.stop()
    second = Metrics(tmp_path, 16, "sizes")
    second.write(26, {"loss/train": 3.0})
    assert second.phases() == [(0, "whole"), (16, "sizes")]
    assert list(second.curves()) == ["training loss"]
    second.close(tmp_path / "training.html", "Training", {})
    assert '"phases":[[0,"whole"],[16,"sizes"]]' in (tmp_path / "training.html").read_text().replace(" ", "")
    alone = Metrics(tmp_path / "other", 0)
    alone.write(10, {"loss/train": 1.0})
    alone.close(tmp_path / "other.html", "Training", {})
    assert '"phases":[]' in (tmp_path / "other.html").read_text().replace(" ", "")


@pytest.mark.parametrize("end", ['{"step": 20, "lo', "", "\x00\x00\x00", "[1]\n", '{"step": "x"}\n'])
def test_a_line_cut_short_is_dropped(tmp_path: Path, end: str) -> None:
    write_lines(tmp_path, '{"step": 10, "loss/train": 1.0}\n', end)
    metrics = Metrics(tmp_path, 100)
    metrics.write(20, {"loss/train": 0.5})
    metrics.stop()
    assert steps(tmp_path) == [10, 20]


def test_the_record_is_never_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process killed while the record is cut to its checkpoint leaves the old one."""
    write_lines(tmp_path, '{"step": 10, "loss/train": 1.0}\n', '{"step": 20, "loss/train": 1.0}\n')

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        Metrics(tmp_path, 10)
    assert steps(tmp_path) == [10, 20]


def test_curves_are_grouped_by_the_first_part_of_their_names(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, 0)
    metrics.write(1, {"held_out_accuracy/largest": 0.5, "held_out_accuracy/smallest": 0.25, "mine/value": 1.0})
    groups = metrics.curves()
    assert [curve.name for curve in groups["accuracy on held-out images"]] == ["largest", "smallest"]
    assert [curve.name for curve in groups["mine"]] == ["value"]
    metrics.close(tmp_path / "training.html", "A run", {"device": "cpu"})
    page = (tmp_path / "training.html").read_text()
    assert "A run" in page
    assert "accuracy on held-out images" in page
    metrics.stop()

"""Many candidates at once: the scores are those of one at a time bit for bit, and nothing is computed twice without need."""

from __future__ import annotations

import functools
import gc
import itertools
import logging
import random
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from toy_spaces import ConvNorm, ToySpace, make_data
from training_runs import CPU, copy_state, differences

from oneshot.arch import Arch, Choice
from oneshot.evaluation import Evaluator, Score, ScoreSettings, recalibration
from oneshot.evaluation.merging import MergedGraph
from oneshot.evaluation.shared import SharedEvaluation
from oneshot.spaces import Make, SearchSpace
from oneshot.supernet import Supernet

PLENTY = 2**30


def make_evaluator(supernet: Supernet, memory_limit: int = PLENTY, batch_size: int = 7) -> Evaluator:
    supernet.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    size = supernet.space.max_resolution
    data = make_data(16, 12, 2, size=size)
    settings = ScoreSettings(batch_size=batch_size, memory_limit_gb=memory_limit / 2**30)
    return Evaluator(supernet, data, settings, device=CPU)


def shared(evaluator: Evaluator) -> SharedEvaluation:
    return SharedEvaluation(
        evaluator.supernet, evaluator.calibration, evaluator.held_out, evaluator, evaluator.memory_limit
    )


def relatives(space: SearchSpace, seed: int = 0) -> list[Arch]:
    """A few architectures, most of which begin alike."""
    rng = random.Random(seed)
    arch = space.sample(rng)
    return [space.smallest, *list(space.neighbours(arch))[-2:], arch]


def one_by_one(evaluator: Evaluator, archs: list[Arch]) -> list[Score]:
    return [evaluator(arch) for arch in archs]


# Every space ---------------------------------------------------------------------------------------------------------


def test_scores_are_equal_bit_for_bit(any_space: SearchSpace, any_supernet: Supernet) -> None:
    archs = relatives(any_space)
    evaluator = make_evaluator(any_supernet)
    expected = one_by_one(evaluator, archs)
    assert len({score.loss for score in expected}) > 1
    assert evaluator.score_all(archs) == expected
    graph = MergedGraph(any_supernet)
    traces = [graph.trace(arch) for arch in archs]
    if any_space.definition.get("model") == "test_vit":
        assert set(traces) == {None}  # its forward looks at the size of the images, so each is scored alone
        return
    assert None not in traces
    calls = [node for trace in traces if trace for node in trace.nodes]
    assert len(set(calls)) < len(calls)
    evaluator.memory_limit = 300_000
    evaluation = shared(evaluator)
    found = dict(evaluation.scores(archs[1:]))
    assert [found[arch] for arch in archs[1:]] == expected[1:]
    assert 0 < evaluation.store.peak_bytes <= 300_000


# What is computed ----------------------------------------------------------------------------------------------------

_CALLS: list[int] = []


class Counted(ConvNorm):
    def forward(self, input: Tensor) -> Tensor:
        _CALLS.append(len(input))
        return super().forward(input)


class CountedSpace(ToySpace):
    def build(self, arch: Arch, make: Make) -> nn.Module:
        def counting(name: str, block: Callable[..., nn.Module], *args: object, **kwargs: object) -> nn.Module:
            return make(name, Counted if block is ConvNorm else block, *args, **kwargs)

        return super().build(arch, counting)


def toy_supernet(space: SearchSpace) -> Supernet:
    torch.manual_seed(0)
    return Supernet(space)


def count_calls(action: Callable[[], object]) -> int:
    """Block calls on whole batches; two images are those of the check before."""
    _CALLS.clear()
    action()
    return sum(1 for size in _CALLS if size > 2)


def test_statistics_of_the_training_are_shared_as_they_are() -> None:
    supernet = toy_supernet(CountedSpace(resolutions=(6, 8))).eval()
    for name, buffer in supernet.named_buffers():
        if name.endswith("var"):
            buffer.mul_(4.0)
    data = make_data(16, 12, 2, size=8)
    evaluator = Evaluator(supernet, data, ScoreSettings(batch_size=6), device=CPU, stored_statistics=True)
    archs = list(supernet.space.enumerate())
    expected: list[Score] = []
    slow = count_calls(lambda: expected.extend(one_by_one(evaluator, archs)))
    found: list[Score] = []
    fast = count_calls(lambda: found.extend(evaluator.score_all(archs)))
    assert found == expected
    assert found != make_evaluator(supernet).score_all(archs)
    assert fast < slow / 1.5


def test_every_call_is_made_once() -> None:
    space = CountedSpace(resolutions=(6, 8))
    evaluator = make_evaluator(toy_supernet(space), batch_size=6)
    archs = list(space.enumerate())
    beginnings = set()
    for arch in archs:
        blocks = [("stem", arch["width"]), ("block", arch.get("kernel")), ("op", arch["op"])]
        steps = [block for block in blocks if block != ("block", None)]
        beginnings |= {(arch["resolution"], *steps[:length]) for length in range(1, len(steps) + 1)}
    slow = count_calls(lambda: one_by_one(evaluator, archs))
    fast = count_calls(lambda: evaluator.score_all(archs))
    batches = 1 + 2  # the calibration images are one chunk, the held-out ones two batches
    assert fast == batches * len(beginnings)
    assert slow == batches * sum(2 + (arch["depth"] == 2) for arch in archs)
    assert fast < 0.75 * slow


def test_less_memory_costs_calls_and_never_more_than_one_by_one() -> None:
    space = CountedSpace(resolutions=(8,))
    supernet = toy_supernet(space)
    archs = list(space.enumerate())
    expected = one_by_one(make_evaluator(supernet), archs)
    slow = count_calls(lambda: one_by_one(make_evaluator(supernet), archs))
    calls, peak = [], PLENTY
    for part in (1.0, 0.6, 0.3, 0.0):
        evaluation = shared(make_evaluator(supernet, int(part * peak)))
        found: dict[Arch, Score] = {}
        calls.append(count_calls(lambda run=evaluation, found=found: found.update(run.scores(archs))))  # type: ignore[misc]
        assert [found[arch] for arch in archs] == expected
        assert evaluation.store.num_bytes == 0
        if part == 1.0:
            peak = evaluation.store.peak_bytes
        assert evaluation.store.peak_bytes <= int(part * peak)
    assert calls[0] < calls[1] < calls[2] < calls[3] <= slow


def test_unrelated_candidates_make_no_more_calls() -> None:
    space = CountedSpace(resolutions=(8,))
    evaluator = make_evaluator(toy_supernet(space))
    archs = [space.smallest, space.largest]
    assert count_calls(lambda: evaluator.score_all(archs)) == count_calls(lambda: one_by_one(evaluator, archs))


def test_images_are_prepared_only_where_they_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oneshot.evaluation.batches._PREPARED_BYTES", 0)
    space = ToySpace(resolutions=(8,))
    evaluator = make_evaluator(toy_supernet(space))
    asked: list[int] = []
    at = evaluator.held_out.at
    monkeypatch.setattr(evaluator.held_out, "at", lambda resolution: (asked.append(resolution), at(resolution))[1])
    archs = list(space.enumerate())
    expected = one_by_one(evaluator, archs)
    assert len(asked) == len(archs)
    asked.clear()
    assert evaluator.score_all(archs) == expected
    assert len(asked) == 2  # once for each width of the stem


def test_several_chunks_of_calibration_images(monkeypatch: pytest.MonkeyPatch) -> None:
    small = functools.partial(recalibration.chunks, max_pixels=1)
    evaluator = make_evaluator(toy_supernet(ToySpace(resolutions=(8,))))
    evaluator.calibration.images = make_data(80).train
    archs = list(evaluator.supernet.space.enumerate())
    whole = one_by_one(evaluator, archs)
    monkeypatch.setattr(recalibration, "chunks", lambda images, max_pixels: small(images))
    monkeypatch.setattr("oneshot.evaluation.shared.chunks", small)
    expected = one_by_one(evaluator, archs)
    assert expected != whole
    for limit in (PLENTY, 30_000, 1, 0):
        evaluator.memory_limit = limit
        assert evaluator.score_all(archs) == expected


# What comes out ------------------------------------------------------------------------------------------------------


def test_the_order_is_that_of_the_architectures() -> None:
    space = ToySpace(resolutions=(6, 8))
    evaluator = make_evaluator(toy_supernet(space))
    archs = random.Random(0).choices(list(space.enumerate()), k=15)
    assert len(set(archs)) < len(archs)
    assert evaluator.score_all(archs) == one_by_one(evaluator, archs)
    pairs = list(evaluator.scores(archs))
    assert len(pairs) == len(dict(pairs))
    assert set(dict(pairs)) == set(archs)
    assert evaluator.score_all([]) == []


def test_populations_larger_than_the_graph_that_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oneshot.evaluation.shared._WINDOW", 5)
    evaluator = make_evaluator(toy_supernet(ToySpace(resolutions=(8,))))
    archs = list(evaluator.supernet.space.enumerate())
    assert evaluator.score_all(archs) == one_by_one(evaluator, archs)


def test_scores_come_one_after_another_and_may_be_left() -> None:
    space = CountedSpace(resolutions=(8,))
    supernet = toy_supernet(space)
    evaluator = make_evaluator(supernet)
    archs = list(space.enumerate())
    expected = dict(zip(archs, one_by_one(evaluator, archs), strict=True))
    supernet.train()
    before = copy_state(supernet)
    total = count_calls(lambda: evaluator.score_all(archs))

    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(item), Tensor) for item in gc.get_objects())

    held = tensors()
    scores = evaluator.scores(archs)
    found: dict[Arch, Score] = {}
    assert count_calls(lambda: found.update(itertools.islice(scores, 3))) < total / 2
    assert found.items() <= expected.items()
    assert tensors() > held
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    scores.close()
    assert tensors() == held
    assert supernet.training
    assert not differences(before, copy_state(supernet))
    assert all(module.training for module in supernet.extract(archs[0]).modules())
    assert dict(evaluator.scores(archs)) == expected


def test_other_architectures_are_refused_before_any_is_scored() -> None:
    evaluator = make_evaluator(toy_supernet(ToySpace(resolutions=(8,))))
    with pytest.raises(ValueError, match=r"choice 'resolution' cannot be 16"):
        evaluator.scores([evaluator.supernet.space.smallest, ToySpace(resolutions=(16,)).largest])
    with pytest.raises(ValueError, match="memory_limit_gb is at least 0, not -1"):
        make_evaluator(evaluator.supernet, -(2**30))


def test_within_inference_mode() -> None:
    evaluator = make_evaluator(toy_supernet(ToySpace(resolutions=(8,))))
    archs = list(evaluator.supernet.space.enumerate())
    with torch.inference_mode():
        assert evaluator.score_all(archs) == one_by_one(evaluator, archs)


# Networks of any kind ------------------------------------------------------------------------------------------------


class Network(nn.Module):
    """Two blocks and a classifier, put together in one of several ways."""

    def __init__(self, kind: str, first: nn.Module, second: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.kind, self.first, self.second, self.classifier = kind, first, second, classifier

    def forward(self, images: Tensor) -> Tensor:
        x = self.first(images)
        logits: Tensor = self.classifier(getattr(self, self.kind)(x).mean((2, 3)))
        return logits

    def chain(self, x: Tensor) -> Tensor:
        return self.second(x)  # type: ignore[no-any-return]

    def shapes(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        mixed = x.view(batch, 2, channels // 2, height, width).transpose(1, 2).reshape(batch, -1, height, width)
        return self.second(mixed) * (1 / batch) + x[:, :1]  # type: ignore[no-any-return]

    def changes(self, x: Tensor) -> Tensor:
        y = self.second(x)
        y += 0.5
        return y.clamp_(max=1.0)  # type: ignore[no-any-return]

    def changes_what_is_read(self, x: Tensor) -> Tensor:
        view = x[:, 1:]
        y = self.second(x)
        x.mul_(2.0)
        return y + view.mean(1, keepdim=True)  # type: ignore[no-any-return]

    def reads_only_some(self, x: Tensor) -> Tensor:
        self.second(x)
        _, _, height, width = x.shape
        return x / (height * width)

    def residual(self, x: Tensor) -> Tensor:
        return x + self.second(x)  # type: ignore[no-any-return]

    def values(self, x: Tensor) -> Tensor:
        return self.second(x) if x.mean() > 0.3 else x

    def twice(self, x: Tensor) -> Tensor:
        return self.second(self.second(x))  # type: ignore[no-any-return]

    def part(self, x: Tensor) -> Tensor:
        return self.second[-1](x) + self.second(x)  # type: ignore[index, no-any-return]

    def autocast(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return self.second(x).float()  # type: ignore[no-any-return]


def _conv_norm(kernel: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(4, 4, kernel, padding=kernel // 2), nn.BatchNorm2d(4))


def _in_place(kernel: int) -> nn.Module:
    return nn.Sequential(nn.Hardswish(inplace=True), *_conv_norm(kernel), nn.Conv2d(4, 4, 1))


class NetworkSpace(SearchSpace):
    """Two widths of kernel in the first block, two in the second."""

    def __init__(self, kind: str, in_place: bool) -> None:
        self.num_classes, self.resolution = 4, 8
        self.kind, self.in_place = kind, in_place
        self.choices = (Choice("first", (1, 3)), Choice("second", (1, 3)))

    def build(self, arch: Arch, make: Make) -> nn.Module:
        first, second = arch.integer("first"), arch.integer("second")
        return Network(
            self.kind,
            make("first", ConvNorm, 3, 4, first),
            make("second", _in_place if self.in_place else _conv_norm, second),
            make("classifier", nn.Linear, 4, 4),
        )


@pytest.mark.parametrize("limit", [PLENTY, 0], ids=["plenty", "nothing kept"])
@pytest.mark.parametrize(
    ("kind", "in_place", "is_traced", "num_shared"),
    [
        ("chain", False, True, 4),
        ("chain", True, True, 4),
        ("shapes", False, True, 4),
        ("shapes", True, True, 4),
        ("changes", False, True, 4),
        ("changes", True, True, 4),
        ("changes_what_is_read", False, True, 0),
        ("reads_only_some", False, True, 4),
        ("reads_only_some", True, True, 0),
        ("residual", False, True, 4),
        ("residual", True, True, 0),
        ("values", False, False, 0),
        ("twice", False, False, 0),
        ("part", False, False, 0),
        ("autocast", False, True, 0),
    ],
)
def test_networks_of_any_kind(
    kind: str, in_place: bool, is_traced: bool, num_shared: int, limit: int, caplog: pytest.LogCaptureFixture
) -> None:
    space = NetworkSpace(kind, in_place)
    supernet = toy_supernet(space)
    evaluator = make_evaluator(supernet, limit)
    archs = list(space.enumerate())
    expected = one_by_one(evaluator, archs)
    assert len({score.loss for score in expected}) == (2 if kind == "reads_only_some" else 4)
    assert (MergedGraph(supernet).trace(archs[0]) is not None) == is_traced
    alone: list[Arch] = []

    def score_alone(arch: Arch) -> Score:
        alone.append(arch)
        return evaluator(arch)

    evaluation = SharedEvaluation(supernet, evaluator.calibration, evaluator.held_out, score_alone, limit)
    with caplog.at_level(logging.WARNING):
        found = dict(evaluation.scores(archs))
    assert [found[arch] for arch in archs] == expected
    assert len(archs) - len(alone) == num_shared
    assert ("one by one" in caplog.text) == (kind == "autocast")


@pytest.fixture(autouse=True)
def _no_counts() -> Iterator[None]:
    yield
    _CALLS.clear()

"""Latency: the reported times are those of the forward pass, and nothing of the caller's is changed by measuring."""

import dataclasses
import json
import time

import pytest
import torch
from torch import Tensor, nn

from oneshot.costs.latency import Latency, measure_latency


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


class Sleep(nn.Module):
    """Sleeps for the next of the given times, the last one ever after, and records what it saw."""

    def __init__(self, *milliseconds: float) -> None:
        super().__init__()
        self.milliseconds = milliseconds
        self.calls: list[dict[str, object]] = []

    def forward(self, images: Tensor) -> Tensor:
        time.sleep(self.milliseconds[min(len(self.calls), len(self.milliseconds) - 1)] / 1e3)
        self.calls.append(
            {
                "shape": tuple(images.shape),
                "channels_last": images.ndim == 4 and images.is_contiguous(memory_format=torch.channels_last),
                "training": self.training,
                "inference": torch.is_inference_mode_enabled(),
                "threads": torch.get_num_threads(),
                "dtype": images.dtype,
            }
        )
        return images


class Scale(nn.Module):
    """One bfloat16 parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, dtype=torch.bfloat16))


def test_the_median_is_the_time_of_a_pass_without_the_warmup() -> None:
    module = Sleep(100, 100, 10)
    latency = measure_latency(module, (3, 4, 4), batch=2, warmup=2, repeats=9)
    assert 10 <= latency.median_ms < 30
    assert 10 <= latency.p10_ms <= latency.median_ms <= latency.p90_ms
    assert len(module.calls) == 11
    assert (latency.repeats, latency.batch, latency.threads) == (9, 2, 1)


def test_percentiles_show_the_spread() -> None:
    latency = measure_latency(Sleep(*[5] * 5, *[15] * 4, 40), (1,), warmup=0, repeats=20)
    assert 5 <= latency.p10_ms < 15
    assert latency.median_ms >= 40
    assert latency.p90_ms >= 40


def test_min_seconds_adds_passes() -> None:
    latency = measure_latency(Sleep(10), (1,), warmup=0, repeats=2, min_seconds=0.2)
    assert 3 <= latency.repeats <= 20


def test_passes_see_inference_mode_eval_and_channels_last() -> None:
    module = Sleep(0)
    latency = measure_latency(module, (3, 4, 5), batch=2, warmup=1, repeats=1)
    expected = {"shape": (2, 3, 4, 5), "channels_last": True, "training": False, "inference": True, "threads": 1}
    assert module.calls == [{**expected, "dtype": torch.float32}] * 2
    assert latency.memory_format == "channels_last"
    assert not torch.is_inference_mode_enabled()


def test_other_inputs_are_contiguous_and_of_the_parameters_type() -> None:
    module = nn.Sequential(Scale(), Sleep(0))
    module[0].forward = lambda images: images  # type: ignore[method-assign]
    latency = measure_latency(module, (6,), warmup=0, repeats=1)
    assert latency.memory_format == "contiguous"
    assert module[1].calls[0]["shape"] == (1, 6)
    assert module[1].calls[0]["dtype"] == torch.bfloat16


class Fails(nn.Module):
    """Raises in every pass."""

    def forward(self, images: Tensor) -> Tensor:
        raise KeyError("no such path")


@pytest.mark.parametrize("last", [nn.Identity(), Fails()])
@pytest.mark.parametrize("threads", [1, 2, None])
def test_modes_and_threads_are_restored_even_after_an_error(last: nn.Module, threads: int | None) -> None:
    sleep = Sleep(0)
    module = nn.Sequential(nn.BatchNorm2d(3), sleep, last).train()
    module[0].eval()
    modes = [child.training for child in module.modules()]
    torch.set_num_threads(3)
    try:
        if isinstance(last, Fails):
            with pytest.raises(KeyError, match="no such path"):
                measure_latency(module, (3, 4, 4), threads=threads, warmup=0, repeats=1)
        else:
            latency = measure_latency(module, (3, 4, 4), threads=threads, warmup=0, repeats=1)
            assert latency.threads == (threads or 3)
        assert sleep.calls[0]["threads"] == (threads or 3)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(1)
    assert [child.training for child in module.modules()] == modes
    assert int(module[0].num_batches_tracked) == 0


def test_a_larger_network_takes_longer() -> None:
    small, large = (nn.Conv2d(8, width, 3, padding=1) for width in (8, 256))
    times = [measure_latency(module, (8, 32, 32), batch=4, repeats=7).median_ms for module in (small, large)]
    assert times[1] > 2 * times[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_shape": ()}, "input_shape"),
        ({"input_shape": (3, 0, 4)}, "input_shape"),
        ({"batch": 0}, "batch.*got 0"),
        ({"threads": 0}, "threads.*got 0"),
        ({"warmup": -1}, "warmup.*got -1"),
        ({"repeats": 0}, "repeats.*got 0"),
        ({"min_seconds": -1.0}, "min_seconds"),
        ({"min_seconds": float("inf")}, "min_seconds"),
        ({"min_seconds": float("nan")}, "min_seconds"),
        ({"device": "gpu"}, "device 'gpu' cannot be used here"),
        ({"device": "meta"}, "'meta'.*use 'cpu', 'cuda' or"),
        ({"device": "cuda:99"}, "device 'cuda:99' cannot be used here"),
    ],
)
def test_bad_arguments_are_refused_before_a_pass(options: dict[str, object], message: str) -> None:
    module = Sleep(0)
    with pytest.raises(ValueError, match=message):
        measure_latency(module, **{"input_shape": (3, 4, 4), **options})
    assert module.calls == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a CUDA device")
def test_absent_cuda_is_a_clear_error() -> None:
    with pytest.raises(ValueError, match="device 'cuda' cannot be used here"):
        measure_latency(Sleep(0), (3, 4, 4), device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_times_cover_the_device_and_leave_the_module_where_it_is() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), Sleep(10)).train()
    latency = measure_latency(module, (3, 32, 32), device="cuda", warmup=2, repeats=5)
    assert 10 <= latency.median_ms < 30
    assert latency.device == f"cuda ({torch.cuda.get_device_name()})"
    assert module.training
    assert all(parameter.device.type == "cpu" for parameter in module.parameters())


def test_the_description_is_one_line_and_the_record_is_json() -> None:
    latency = Latency(3.2149, 3.1, 3.4, 1, 1, "cpu (AMD EPYC)", 30, "channels_last")
    described = "3.21 ms median (3.10-3.40) of 30 runs, batch 1, 1 thread, cpu (AMD EPYC), channels_last"
    assert latency.describe() == described
    several = dataclasses.replace(latency, median_ms=0.01234, threads=4, repeats=1)
    assert several.describe().startswith("0.0123 ms median (3.10-3.40) of 1 run, batch 1, 4 threads")
    assert Latency(**json.loads(json.dumps(dataclasses.asdict(latency)))) == latency


def test_the_cpu_is_named() -> None:
    device = measure_latency(Sleep(0), (1,), warmup=0, repeats=1).device
    assert device.startswith("cpu (")
    assert len(device) > len("cpu ()")

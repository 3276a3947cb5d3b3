"""Mixed precision, its scaling of the loss, and the layout of the images in memory; all of it on the CPU."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from toy_spaces import ToySpace, make_images
from training_runs import CPU, Scripted, copy_state, differences, make_settings, make_trainer

from oneshot.samplers import UniformSampler
from oneshot.supernet import Supernet
from oneshot.training import Trainer, load_newest
from oneshot.training.trainer import _mixed_precision

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def scaled_trainer(folder: Path, watch: Any = lambda step: None) -> Trainer:
    """In float16, with a scale that grows every five steps."""
    trainer = make_trainer(
        folder, sampler=lambda space: Scripted(space, UniformSampler(space).sample, watch), amp_dtype="float16"
    )
    trainer.scaler = torch.amp.GradScaler(
        "cpu", init_scale=64.0, growth_interval=5, enabled=trainer.scaler.is_enabled()
    )
    return trainer


@pytest.mark.parametrize("name", [None, *DTYPES])
def test_networks_run_in_the_type_that_is_asked_for(tmp_path: Path, name: str | None) -> None:
    trainer = make_trainer(tmp_path, epochs=1, amp_dtype=name)
    seen: set[torch.dtype] = set()
    trainer.task.criterion.register_forward_pre_hook(lambda module, given: seen.add(given[0].dtype))  # type: ignore[attr-defined]
    trained = trainer.run()
    assert seen == {torch.float32 if name is None else DTYPES[name]}
    assert {parameter.dtype for parameter in trained.parameters()} == {torch.float32}
    assert trainer.scaler.is_enabled() == (name == "float16")


def test_the_type_of_each_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """bfloat16 is for devices that have it, and not for those where torch emulates it; the run's own device is asked."""
    cuda, current = torch.device("cuda:1"), []
    monkeypatch.setattr("torch.cuda.device", lambda device: contextlib.nullcontext(current.append(device)))
    for has_bfloat16, dtype in ((True, torch.bfloat16), (False, torch.float16)):
        monkeypatch.setattr(
            "torch.cuda.is_bf16_supported",
            lambda including_emulation=True, has_bfloat16=has_bfloat16: has_bfloat16 or including_emulation,
        )
        assert _mixed_precision(cuda, make_settings()) == dtype
        assert _mixed_precision(cuda, make_settings(amp_dtype="float16")) == torch.float16
        assert _mixed_precision(cuda, make_settings(amp=False)) is None
    assert {*current} == {cuda}
    assert _mixed_precision(CPU, make_settings()) is None
    assert _mixed_precision(CPU, make_settings(amp=False, amp_dtype="bfloat16")) is None


def test_other_types_are_refused() -> None:
    with pytest.raises(ValueError, match=r"trainer\.amp_dtype is 'bfloat16' or 'float16', or null .* not 'half'"):
        make_settings(amp_dtype="half")


def test_an_overflowing_gradient_costs_its_step_and_halves_the_scale(tmp_path: Path) -> None:
    before: list[dict[str, torch.Tensor]] = []
    scales: list[float] = []

    def watch(step: int) -> None:
        before.append({name: tensor.detach().clone() for name, tensor in trainer.task.module.named_parameters()})
        scales.append(trainer.scaler.get_scale())

    trainer = scaled_trainer(tmp_path, watch)
    update = trainer._update

    def overflow(parameters: list[torch.nn.Parameter]) -> None:
        if trainer.step == 2:
            next(parameter for parameter in parameters if parameter.grad is not None).grad.fill_(float("inf"))
        update(parameters)

    trainer._update = overflow  # type: ignore[method-assign]
    trainer.run()
    assert scales[:4] == [64.0, 64.0, 64.0, 32.0]
    assert not differences(before[2], before[3])
    assert differences(before[1], before[2])
    assert scales[-1] > 32.0


def test_a_run_that_goes_on_has_the_scale_that_it_had(tmp_path: Path) -> None:
    whole = copy_state(scaled_trainer(tmp_path / "whole").run())

    def stop(step: int) -> None:
        if step == 7:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt, match="stopped at step 8 of 12"):
        scaled_trainer(tmp_path / "parts", stop).run()
    assert not differences(copy_state(scaled_trainer(tmp_path / "parts").run()), whole)
    scalers = []
    for part in ("whole", "parts"):
        saved = load_newest(tmp_path / part / "checkpoints")
        assert saved is not None
        scalers.append(saved["scaler"])
    assert scalers[0]["scale"] == 256.0
    assert scalers[0] == scalers[1]


@pytest.mark.parametrize("channels_last", [True, False])
def test_the_layout_that_networks_see(tmp_path: Path, channels_last: bool) -> None:
    trainer = make_trainer(tmp_path, ToySpace(resolutions=(6, 8)), epochs=1, channels_last=channels_last)
    seen: set[tuple[bool, bool]] = set()

    def look(module: Supernet, given: tuple[Any, ...]) -> None:
        layouts = (torch.channels_last, torch.contiguous_format)
        seen.add(tuple(given[0].is_contiguous(memory_format=layout) for layout in layouts))  # type: ignore[arg-type]

    trainer.task.module.register_forward_pre_hook(look)
    trainer.run()
    assert seen == {(channels_last, not channels_last)}
    prepared = trainer.prepare(make_images(2, seed=0).images, 8)
    assert prepared.is_contiguous(memory_format=torch.channels_last) == channels_last


def test_weights_that_overflowed_are_never_kept(tmp_path: Path) -> None:
    """A gradient can be infinite where the loss is a number; without the scaling of float16 nothing else would notice."""
    trainer = make_trainer(tmp_path, epochs=1, checkpoint_seconds=0, clip_grad=None)
    update = trainer._update

    def overflow(parameters: list[torch.nn.Parameter]) -> None:
        if trainer.step == 5:
            next(parameter for parameter in parameters if parameter.grad is not None).grad.fill_(float("inf"))
        update(parameters)

    trainer._update = overflow  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match=r"some weights are no finite numbers after step 6; a lower trainer\.lr"):
        trainer.run()
    saved = load_newest(tmp_path / "checkpoints")
    assert saved is not None
    assert saved["step"] == 5


def test_gradients_are_clipped_as_they_are_without_the_scale(tmp_path: Path) -> None:
    trained = []
    for scale in (64.0, 1024.0):
        trainer = make_trainer(tmp_path / str(scale), epochs=1, amp_dtype="float16", clip_grad=0.1)
        trainer.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1000)
        trained.append(torch.cat([parameter.flatten() for parameter in trainer.run().parameters()]))
    torch.testing.assert_close(*trained, rtol=1e-3, atol=1e-4)

"""Retrains subnets beside networks of equal MACs, all alike: random architectures of the same supernet, and timm's MobileNetV3.

    python benchmarks/retrain_comparison.py runs/search/a/max_macs-3e+06 runs/search/b/max_macs-3e+06 --epochs 10 --seeds 0 1

For each folder of a search: its subnet from inherited weights and from scratch, a random architecture of the same MACs (no more,
and at least 97 %) with inherited weights, and timm's ``mobilenetv3_large_100`` from scratch with the channel multiplier that
comes nearest. Every network is trained for as many epochs with the same settings. A row of JSON for each goes to ``--out``, and
what is there already is not trained again.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from timm.models import mobilenetv3
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from oneshot.arch import Arch
from oneshot.config import make_data
from oneshot.costs import CostTable
from oneshot.data import ImageData, Recorded
from oneshot.evaluation import Batches, Evaluator, evaluate
from oneshot.pipeline.folders import Subnet, Trained, load_subnet, load_supernet
from oneshot.spaces.base import SearchSpace
from oneshot.training import RunPart, SubnetTask, Trainer, TrainSettings
from oneshot.training.randomness import seeded

CPU = torch.device("cpu")


def random_arch(space: SearchSpace, macs: int, seed: int) -> Arch:
    """A random architecture with at most ``macs`` and at least 97 % of them."""
    table, rng = CostTable(space), random.Random(f"comparison {seed}")
    while True:
        arch = space.sample(rng)
        if 0.97 * macs <= table.cost(arch).macs <= macs:
            return arch


def count_macs(module: nn.Module, size: int) -> int:
    """Multiply-accumulates of one image."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module.eval()(torch.zeros(1, 3, size, size))
    return int(counter.get_total_flops()) // 2


def make_timm(multiplier: float, num_classes: int, stem_stride: int) -> nn.Module:
    """timm's MobileNetV3-Large; its stem has the stride of the search space's."""
    network: nn.Module = mobilenetv3._gen_mobilenet_v3("mobilenetv3_large_100", multiplier, num_classes=num_classes)
    stem = network.get_submodule("conv_stem")
    assert isinstance(stem, nn.Conv2d)
    stem.stride = (stem_stride, stem_stride)
    return network


def timm_multiplier(macs: int, size: int, num_classes: int, stem_stride: int) -> float:
    """The multiplier of the channels, in steps of 0.01, whose MACs come nearest to ``macs``."""
    return min(
        (step / 100 for step in range(10, 101)),
        key=lambda multiplier: abs(count_macs(make_timm(multiplier, num_classes, stem_stride), size) - macs),
    )


def contenders(
    subnet: Subnet, trained: Trained, data: ImageData, seed: int
) -> Iterator[tuple[str, Arch | None, int, Callable[[], nn.Module]]]:
    """What is trained: a name, the architecture, the input size, and what makes the module."""
    space, arch = subnet.space, subnet.arch
    size, macs = space.input_shape(arch)[-1], subnet.card["macs"]
    yield "searched, inherited", arch, size, lambda: subnet.module().train()
    yield "searched, scratch", arch, size, lambda: space.network(arch)
    other = random_arch(space, macs, seed)
    evaluator = Evaluator(trained.supernet.eval(), data, device=CPU)
    yield "random, inherited", other, space.input_shape(other)[-1], lambda: evaluator.subnet(other).train()
    stride = getattr(space, "stem_stride", 2)
    multiplier = timm_multiplier(macs, size, data.num_classes, stride)
    yield (
        f"timm mobilenetv3_large x{multiplier}, scratch",
        None,
        size,
        lambda: make_timm(multiplier, data.num_classes, stride),
    )


def train(
    name: str, module: nn.Module, arch: Arch | None, size: int, data: ImageData, settings: TrainSettings, folder: Path
) -> dict[str, Any]:
    """Held-out accuracy before and after training, test accuracy after."""
    module.to(memory_format=torch.channels_last)
    held_out, test = (Batches(images, data, 256, CPU, torch.channels_last) for images in (data.held_out, data.test))
    before = evaluate(module.eval(), held_out.at(size)).accuracy
    task = SubnetTask(module, arch or Arch({"network": name}), size, settings.label_smoothing)
    trainer = Trainer(task, data, settings, RunPart(folder, {"config": {"name": name}}), lambda network: {})
    trained = trainer.run().eval()
    return {
        "resolution": size,
        "macs": count_macs(trained, size),
        "params": sum(parameter.numel() for parameter in trained.parameters()),
        "before": before,
        "held_out": evaluate(trained, held_out.at(size)).accuracy,
        "test": evaluate(trained, test.at(size)).accuracy,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("subnets", nargs="+", type=Path, help="folders of searches with a subnet.pt")
    kinds = ("searched, inherited", "searched, scratch", "random", "timm")
    parser.add_argument("--networks", nargs="+", choices=kinds, default=kinds, help="what is trained")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=Path("runs/retrain_comparison"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    rows_file = options.out / "rows.jsonl"
    done = (
        {tuple(json.loads(line)["key"]) for line in rows_file.read_text().splitlines()} if rows_file.exists() else set()
    )
    for folder in options.subnets:
        subnet = load_subnet(folder, names=("subnet.pt",))
        trained = load_supernet(Path(subnet.card["supernet"]))
        recorded = None if subnet.record is None else Recorded(subnet.record, f"the subnet in {folder}")
        data = make_data(subnet.config["data"], recorded)
        for seed in options.seeds:
            settings = TrainSettings(
                epochs=options.epochs, lr=options.lr, seed=seed, device="cpu", eval_every=0, checkpoint_seconds=1e9
            )
            for name, arch, size, make in contenders(subnet, trained, data, seed):
                key = (str(folder), name, seed)
                if key in done or not any(name.startswith(kind) for kind in options.networks):
                    continue
                with seeded("weights", seed):
                    module = make()
                kind = name.split(" x")[0].replace(", ", "-").replace(" ", "-")
                run = options.out / f"{folder.parent.name}-{folder.name}-{kind}-{seed}"
                row = {"key": key, **train(name, module, arch, size, data, settings, run)}
                with rows_file.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()

"""Forward+backward of mixes against what they are made of, on one thread.

    python benchmarks/mix_step.py [--spaces nasbench201 darts] [--batch 32] [--repeats 10]

A full mix of equal weights is compared with the sum of its operations and of the rest of the network, each run alone as a static
module on the input that it has there; a mix that takes one option of each choice with ``supernet(x, arch)``. "weights" is the
pass in which weights learn, "architecture" the one through which gradients reach the mix. All runs alternate in this process;
times are processor time, and the smallest of the repeats counts. Printed beside them: the peak memory of one step of each.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable

import torch
from supernet_step import peak_mib
from torch import Tensor, nn

from oneshot.mix import Mix
from oneshot.spaces import DARTS, NASBench201, SearchSpace
from oneshot.spaces.mixed import Mixed
from oneshot.supernet import Supernet
from oneshot.training import freeze_norms

SPACES: dict[str, Callable[[], SearchSpace]] = {
    "nasbench201": lambda: NASBench201(num_cells=1),
    "darts": lambda: DARTS(num_cells=4),
}
CPU = torch.device("cpu")


def static_parts(network: nn.Module, x: Tensor) -> list[tuple[nn.Module, Tensor, Tensor]]:
    """The operations of all mixtures and the modules outside them that have weights, with their inputs and a gradient each."""
    mixtures, others = [], []

    def visit(module: nn.Module) -> None:
        if isinstance(module, Mixed):
            mixtures.append(module)
        elif any(isinstance(part, Mixed) for part in module.modules()):
            for child in module.children():
                visit(child)
        elif any(True for _ in module.parameters()):
            others.append(module)

    visit(network)
    inputs: dict[nn.Module, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda module, given, _: inputs.update({module: given[0].detach()}))
        for module in mixtures + others
    ]
    network(x)
    for hook in hooks:
        hook.remove()
    pairs = [(module, inputs[module]) for module in others]
    pairs += [(option, inputs[mixed]) for mixed in mixtures for option in mixed.options]
    return [(m, given, torch.randn_like(m(given))) for m, given in pairs if type(m) is not nn.Identity]


def timed(action: Callable[[], object], parameters: list[nn.Parameter]) -> float:
    """Milliseconds of processor time, gradients starting from None."""
    for parameter in parameters:
        parameter.grad = None
    start = time.process_time()
    action()
    return 1e3 * (time.process_time() - start)


def benchmark(name: str, batch: int, repeats: int) -> None:
    space = SPACES[name]()
    supernet = Supernet(space).to(memory_format=torch.channels_last)
    freeze_norms(supernet)
    shared = list(supernet.parameters())
    x = torch.randn(batch, 3, 32, 32).to(memory_format=torch.channels_last)
    arch = space.sample(random.Random(0))

    def full(learned: bool) -> Mix:
        return Mix(
            {c.name: torch.full((len(c.options),), 1 / len(c.options), requires_grad=learned) for c in space.choices}
        )

    def hard(learned: bool) -> Mix:
        return Mix({key: row.requires_grad_(learned) for key, row in Mix.one_hot(space.choices, arch).items()})

    parts = static_parts(supernet.extract(full(False)).train(), x)
    own = [parameter for module, _, _ in parts for parameter in module.parameters()]

    def run_parts() -> None:
        for module, given, grad in parts:
            module(given.detach().requires_grad_()).backward(grad)

    def run(target: object) -> Callable[[], None]:
        return lambda: supernet(x, target).logsumexp(1).sum().backward()

    runs = {
        "operations alone": (run_parts, own),
        "full mix, weights": (run(full(False)), shared),
        "full mix, architecture": (run(full(True)), shared),
        "architecture as it is": (run(arch), shared),
        "hard mix, weights": (run(hard(False)), shared),
        "hard mix, architecture": (run(hard(True)), shared),
    }
    times: dict[str, float] = {}
    for repeat in range(repeats + 1):
        for label, (action, parameters) in runs.items():
            spent = timed(action, parameters)
            if repeat:
                times[label] = min(spent, times.get(label, spent))
    for label, (action, _) in runs.items():
        against = times["operations alone" if "full" in label else "architecture as it is"]
        ratio = f"  {times[label] / against:.3f} times" if "mix" in label else ""
        print(
            f"{name:12s} {label:24s} {times[label]:8.1f} ms  peak {peak_mib(action, CPU):6.0f} MiB{ratio}", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spaces", nargs="+", default=list(SPACES), choices=list(SPACES))
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=10)
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in args.spaces:
        benchmark(name, args.batch, args.repeats)


if __name__ == "__main__":
    main()

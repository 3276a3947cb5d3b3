"""An ordinary network taken apart: its blocks are made one at a time, narrower or not, and put into a shell that is its own."""

from __future__ import annotations

import copy
import functools
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from oneshot.spaces.base import Make
from oneshot.spaces.elastic_blocks import ElasticBlock, crop_kernels, ends
from oneshot.spaces.groups import named_tensors, narrow

HELD = "_held"  # exporters expect modules and tensors under different names
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


class Parts:
    """Makes the parts of a network, on the meta device from a copy that is at hand, elsewhere with initial weights.

    Initial weights are those of a new network, which draws from torch's global generator. Parts asked for one after another are
    of one such network, as long as nobody else draws and no part is asked for a second time.

    Args:
        create: makes the network with initial weights.
        skeleton: the network on the meta device.
        blocks: what can be elastic in it.
    """

    def __init__(
        self, create: Callable[[], nn.Module], skeleton: nn.Module, blocks: Mapping[str, ElasticBlock]
    ) -> None:
        self._create, self._skeleton, self._blocks = create, skeleton, blocks
        self._fresh: tuple[Tensor, nn.Module, set[str]] | None = None

    def __call__(
        self, part: str, widths: tuple[int, ...] = (), heads: tuple[int, ...] = (), kernel: int | None = None
    ) -> nn.Module:
        """The part called ``part``: a module of the network, or a ``Held`` tensor.

        Args:
            widths: channels of each of its groups of hidden channels; all of them where it is empty.
            heads: of each of its groups of attention heads.
            kernel: the size of its large kernels.
        """
        if torch.get_default_device().type == "meta":
            found = copy.deepcopy(_part_of(self._skeleton, part))
        else:
            found = _part_of(self._fresh_network(part), part)
        if part in self._blocks:
            block = self._blocks[part]
            kept = [(group, width // group.size) for group, width in zip(block.widths, widths, strict=False)]
            narrow(found, [*kept, *zip(block.heads, heads, strict=False)])
            if kernel is not None:
                crop_kernels(found, block.kernels, kernel)
        return found

    def _fresh_network(self, part: str) -> nn.Module:
        if self._fresh is not None:
            drawn, network, given = self._fresh
            if part not in given and torch.equal(drawn, torch.get_rng_state()):
                given.add(part)
                return network
        network = self._create()
        self._fresh = torch.get_rng_state(), network, {part}
        return network

    def __deepcopy__(self, memo: dict[int, Any]) -> Parts:
        return self


class Held(nn.Module):
    """A parameter or buffer that a network holds beside its modules, such as the class token of a transformer."""

    def __init__(self, value: Tensor, is_persistent: bool) -> None:
        super().__init__()
        if isinstance(value, nn.Parameter):
            self.value: Tensor = value
        else:
            self.register_buffer("value", value, persistent=is_persistent)

    def forward(self) -> Tensor:
        """The tensor."""
        return self.value


class Skipped(nn.Module):
    """Takes the place of a block that the network does without."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """What came in."""
        return x


class _Holding(nn.Module):
    """Mixed into the class of a network whose own tensors are ``Held``: it reads them as if they were its own."""

    held: tuple[str, ...]

    def __getattr__(self, name: str) -> Any:
        if name in self.__dict__["held"]:
            return super().__getattr__(f"{name}{HELD}")()  # type: ignore[operator]
        return super().__getattr__(name)

    def __reduce__(self) -> Any:
        return _empty, (type(self).__mro__[2],), self.__dict__


@functools.cache
def _holding(kind: type[nn.Module]) -> type[nn.Module]:
    return type(kind.__name__, (_Holding, kind), {"__module__": kind.__module__})


def _empty(kind: type[nn.Module]) -> nn.Module:
    holder = _holding(kind)  # type: ignore[arg-type]
    return holder.__new__(holder)


def assemble(
    skeleton: nn.Module,
    parts: Callable[..., nn.Module],
    make: Make,
    blocks: Mapping[str, Mapping[str, Any]],
    skipped: Collection[str] = (),
) -> nn.Module:
    """The network that ``skeleton`` is, of what ``make`` gives for its parts.

    Args:
        skeleton: the whole network on the meta device; it stays as it is.
        parts: makes a part by its path.
        make: is asked for every block, and for every largest module with tensors that holds no block.
        blocks: the paths of the blocks, and the arguments of ``parts`` for each.
        skipped: blocks that are left out.
    """
    made: dict[int, nn.Module] = {}
    above = {"", *(path[:end] for path in blocks for end in ends(path) if path)}

    def visit(path: str, module: nn.Module) -> nn.Module:
        if id(module) not in made:
            made[id(module)] = build(path, module)
        return made[id(module)]

    def build(path: str, module: nn.Module) -> nn.Module:
        if path in skipped:
            return Skipped()
        if path in blocks:
            return make(block_name(path), parts, path, **blocks[path])
        if next(named_tensors(module), None) is None and path not in above:
            return copy.deepcopy(module)
        if path not in above and type(module) not in _CONTAINERS:
            return make(path, parts, path)
        return _clone(module, path)

    def _clone(module: nn.Module, path: str) -> nn.Module:
        children = {name: child and visit(_join(path, name), child) for name, child in module._modules.items()}
        own = [name for name, _ in _own_tensors(module)]
        clone = _empty(type(module)) if own else module.__class__.__new__(module.__class__)
        state = {
            name: copy.copy(value) if type(value) in (dict, OrderedDict, set, list) else value
            for name, value in module.__dict__.items()
        }
        for kind in ("_parameters", "_buffers"):
            state[kind] = {name: None for name, tensor in state[kind].items() if tensor is None}
        if own:
            state["held"] = tuple(own)
            children |= {f"{name}{HELD}": make(_join(path, name), parts, _join(path, name)) for name in own}
        clone.__dict__.update(state, _modules=children)
        return clone

    return visit("", skeleton)


def block_name(path: str) -> str:
    """What a part is called: its path in the network; "network" where it is the network itself."""
    return path or "network"


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _own_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for tensors in (module._parameters, module._buffers):
        yield from ((name, tensor) for name, tensor in tensors.items() if tensor is not None)


def _part_of(network: nn.Module, path: str) -> nn.Module:
    if not path:
        return network
    owner, _, name = path.rpartition(".")
    module = network.get_submodule(owner)
    if name in module._modules:
        return network.get_submodule(path)
    value = next(tensor for local, tensor in _own_tensors(module) if local == name)
    return Held(value, name not in module._non_persistent_buffers_set)

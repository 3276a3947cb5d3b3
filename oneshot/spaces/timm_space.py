"""The elastic spaces of timm's models, and of networks of one's own."""

from __future__ import annotations

import inspect
import logging
import os
import socket
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from torch import nn

from oneshot.checking import told_with_line
from oneshot.spaces.elastic_network import ElasticNetwork
from oneshot.spaces.pretrained import last_linear, load_weights_into, start_at_zero

log = logging.getLogger(__name__)


class TimmSpace(ElasticNetwork):
    """The networks that lie in one of timm's models; see ``ElasticNetwork``.

    Attributes:
        model_args: how ``timm.create_model`` is told the size of the images, if it has to be.

    Args:
        model: its name, such as ``"tf_efficientnet_lite0"`` or ``"resnet50.a1_in1k"``.
        num_classes: size of the logits.
        resolution: the largest input height and width in pixels.
        weights: a file of trained weights to start from, or "pretrained" for timm's download. What a checkpoint remembers of
            the space is without it, because the checkpoint holds the weights.
        width_ratios, depth_ratio, input_ratios, kernels, removal: see ``ElasticNetwork``.
        drop_rate: of the dropout before the classifier.
        drop_path_rate: of stochastic depth, in models that know it.

    Raises:
        FileNotFoundError: there are no such weights.
        ValueError: timm has no such model, the weights are not its, or as ``ElasticNetwork``.
    """

    def __init__(
        self,
        model: str,
        num_classes: int = 1000,
        resolution: int = 224,
        weights: str | None = None,
        width_ratios: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
        depth_ratio: float = 0.5,
        input_ratios: Sequence[float] = (0.5, 0.625, 0.75, 0.875, 1.0),
        kernels: bool = True,
        removal: Sequence[str] | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        _check_name(model)
        given = {"drop_rate": drop_rate, "drop_path_rate": drop_path_rate}
        options: dict[str, Any] = {name: rate for name, rate in given.items() if rate}
        self.model_args = _size_options(model, num_classes, resolution, options)
        options |= self.model_args

        def create() -> nn.Module:
            if weights == "pretrained":
                network = _download(model, num_classes=num_classes, **options)
                self.new_classifier = network.pretrained_cfg.get("num_classes") != num_classes  # type: ignore[operator, union-attr]
                if self.new_classifier:
                    start_at_zero(network, _classifiers(network))
                return network
            network = _create(model, num_classes=num_classes, **options)
            if weights is not None:
                self.new_classifier = bool(
                    load_weights_into(network, weights, _classifiers(network), _converter(model))
                )
            return network

        self.starts_trained = weights is not None
        self.definition["weights"] = None
        super().__init__(create, num_classes, resolution, width_ratios, depth_ratio, input_ratios, kernels, removal)

    @property
    def title(self) -> str:
        """The name of the model."""
        return str(self.definition["model"])

    @classmethod
    def data_defaults(cls, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """How the images were prepared for the weights to start from."""
        import timm

        if arguments.get("weights") is None:
            return {}
        _check_name(str(arguments.get("model")))
        found = timm.get_pretrained_cfg(str(arguments["model"]))
        if found is None:
            return {}
        wishes = {
            "mean": found.mean,
            "std": found.std,
            "interpolation": found.interpolation,
            "usual_crop_pct": found.crop_pct,  # small images are not cropped
        }
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in wishes.items()
            if value is not None and (name != "interpolation" or value in ("bicubic", "bilinear"))
        }


class NetworkSpace(ElasticNetwork):
    """The networks that lie in a network of one's own, or one of torchvision's; see ``ElasticNetwork``.

    Args:
        build: ``"my_file.py:my_function"``, a function that makes the network, with ``num_classes`` if it takes that; or
            ``"torchvision:resnet18"``. The file is not run here: it has to be imported before, because a checkpoint may name it.
        num_classes, resolution, width_ratios, depth_ratio, input_ratios, kernels, removal: see ``ElasticNetwork``.
        weights: a file of trained weights to start from.

    Raises:
        FileNotFoundError: there are no such weights.
        ValueError: there is no such function, the weights are not its network's, or as ``ElasticNetwork``.
    """

    def __init__(
        self,
        build: str,
        num_classes: int = 1000,
        resolution: int = 224,
        weights: str | None = None,
        width_ratios: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
        depth_ratio: float = 0.5,
        input_ratios: Sequence[float] = (0.5, 0.625, 0.75, 0.875, 1.0),
        kernels: bool = True,
        removal: Sequence[str] | None = None,
    ) -> None:
        make = _function(build, num_classes)

        def create() -> nn.Module:
            network = make()
            if not isinstance(network, nn.Module):
                raise ValueError(f"{build} gives a {type(network).__name__}, not a torch.nn.Module")
            if weights is not None:
                self.new_classifier = bool(load_weights_into(network, weights, last_linear(network, num_classes)))
            return network

        self.starts_trained = weights is not None
        self.definition["weights"] = None
        super().__init__(create, num_classes, resolution, width_ratios, depth_ratio, input_ratios, kernels, removal)

    @property
    def title(self) -> str:
        """The name of the function or of torchvision's model."""
        return str(self.definition["build"]).rpartition(":")[2]


def _check_name(model: str) -> None:
    import timm

    name, _, tag = model.partition(".")
    if (
        ":" in model
        or "/" in model
        or not timm.is_model(name)
        or (tag and model not in timm.list_pretrained(f"{name}.*"))
    ):
        known = timm.list_models() + timm.list_pretrained()
        near = get_close_matches(model, known, n=3)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise ValueError(
            f"timm has no model {model!r}{hint} (python -c 'import timm; print(timm.list_models())' lists them)"
        )


def _create(model: str, **options: Any) -> nn.Module:
    import timm

    network: nn.Module = timm.create_model(model, **options)
    return network


def _download(model: str, **options: Any) -> nn.Module:
    """The model with the weights that timm knows."""
    import timm

    found = timm.get_pretrained_cfg(model)
    if found is None or not found.has_weights:
        raise ValueError(f"timm has no pretrained weights of {model}: give a file as space.weights=FILE")
    advice = f"timm's weights of {model} cannot be downloaded ({{}}): give a file as space.weights=FILE"
    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    host = urlsplit(hub if found.hf_hub_id else found.url).hostname
    is_direct = not any(name in os.environ for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"))
    if is_direct and not found.file and not _is_cached(found):
        try:
            socket.getaddrinfo(host, 443)
        except OSError as error:  # the hub would try again for a minute
            raise ValueError(advice.format(f"{host}: {error.strerror or error}")) from None
    try:
        return _create(model, pretrained=True, **options)
    except (TypeError, MemoryError):
        raise
    except Exception as error:  # there is no end to what a network can do
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(advice.format(reason[:120])) from None


def _is_cached(found: Any) -> bool:
    """Whether weights that timm takes from the hub lie on this machine."""
    from huggingface_hub import try_to_load_from_cache

    names = ("model.safetensors", "pytorch_model.bin")
    return bool(found.hf_hub_id) and any(
        isinstance(try_to_load_from_cache(found.hf_hub_id, name), str) for name in names
    )


def _size_options(model: str, num_classes: int, resolution: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """How the model is told the size of the images, if it has to be; smaller ones are then resampled for as timm does.

    Raises:
        ValueError: it cannot be made for that size, or with these options.
    """
    import torch

    tries: list[dict[str, Any]] = [{"img_size": resolution, "dynamic_img_size": True}, {"img_size": resolution}, {}]
    for size in tries:
        try:
            with torch.device("meta"):
                _create(model, num_classes=num_classes, **options, **size)
        except TypeError as error:
            if not size:
                raise ValueError(f"{model}: {error}") from None
        except (RuntimeError, AssertionError, ValueError, ArithmeticError) as error:
            if not size:
                raise ValueError(f"{model} cannot be made: {' '.join(str(error).split())[:120]}") from None
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            raise ValueError(f"{model} does not take images of {resolution} pixels: {reason}") from None
        else:
            return size
    raise AssertionError


def _classifiers(network: nn.Module) -> list[str]:
    names = network.pretrained_cfg.get("classifier") or ()  # type: ignore[operator, union-attr]
    return [names] if isinstance(names, str) else list(names)


def _converter(model: str) -> Any:
    """timm's function that turns weights of other releases and sizes into those of the model."""
    import timm

    return vars(sys.modules[timm.model_entrypoint(model).__module__]).get("checkpoint_filter_fn")


def _function(build: str, num_classes: int) -> Callable[[], Any]:
    source, _, name = build.rpartition(":")
    if source == "torchvision":
        from torchvision.models import get_model, list_models

        if name not in list_models():
            near = get_close_matches(name, list_models(), n=3)
            hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise ValueError(f"torchvision has no model {name!r}{hint}")
        return lambda: get_model(name, num_classes=num_classes)
    if not source.endswith(".py") or not name.isidentifier():
        raise ValueError(f"build is FILE.py:FUNCTION, or torchvision:NAME, not {build!r}")
    module = sys.modules.get(PurePath(source).stem)
    if module is None or not _is_own(module, source):
        raise ValueError(f"{source} has not been run: add code={source} to the command, or in Python import it first")
    # Only what the file itself defines, because a checkpoint may name it.
    own = {key: value for key, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__}
    function = own.get(name)
    if not callable(function):
        near = get_close_matches(name, [key for key, value in own.items() if callable(value)], n=1)
        raise ValueError(f"{source} has no function {name!r}{f'; did you mean {near[0]!r}?' if near else ''}")
    takes_classes = "num_classes" in inspect.signature(function).parameters

    def make() -> Any:
        try:
            return function(num_classes=num_classes) if takes_classes else function()
        except Exception as error:
            raise ValueError(f"{name} fails: {source}, {told_with_line(error, module.__file__)}") from error

    return make


def _is_own(module: ModuleType, source: str) -> bool:
    """Whether a module that has been imported is the user's file ``source``, rather than one of Python or of a package."""
    file = Path(module.__file__ or "")
    places = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    places.append(Path(__file__).resolve().parents[1])
    return file.name == PurePath(source).name and not any(file.resolve().is_relative_to(place) for place in places)

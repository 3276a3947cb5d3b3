"""A subnet of a network that somebody had as files in the layout of timm's hub, with the function that loads them."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from oneshot import plain_loading
from oneshot.export import JSON, TimmFiles
from oneshot.pipeline.folders import Subnet
from oneshot.spaces.elastic_network import ElasticNetwork
from oneshot.spaces.timm_space import NetworkSpace, TimmSpace

_WEIGHTS, _CONFIG, _README = "model.safetensors", "config.json", "README.md"
_PREPARATION = ("mean", "std", "interpolation", "crop_pct")
_KEPT = ("first_conv", "classifier", "fixed_input_size", "min_input_size", "license", "paper_ids")
_SCORES = {"test_accuracy": "test accuracy", "held_out_accuracy": "held-out accuracy"}


def timm_files(subnet: Subnet, card: Mapping[str, JSON]) -> TimmFiles:
    """``model.safetensors``, ``config.json`` and ``README.md`` of a subnet.

    Args:
        card: what is known about it, as other formats' cards tell it.

    Raises:
        ValueError: it is no network of ``TimmSpace`` or ``NetworkSpace``.
    """
    from safetensors.torch import save

    space = subnet.space
    if not isinstance(space, (TimmSpace, NetworkSpace)):
        raise ValueError(
            f"format=timm is for networks of +space=timm and +space=network: those of {type(space).__name__} are built by "
            "oneshot alone; format=torchscript, onnx and pt2 take any"
        )
    plain = space.plain(subnet.arch, subnet.module())
    config: dict[str, Any] = {
        **_made_of(space),
        "num_classes": space.num_classes,
        **({"label_names": card["classes"]} if card.get("classes") else {}),
        "pretrained_cfg": _preparation(space, space.input_shape(subnet.arch), card),
        "narrowed": {
            "left_out": plain.left_out,
            "numbers": plain.numbers,
            "feature_channels": plain.feature_channels,
        },
    }
    files = {
        _WEIGHTS: save(dict(plain.weights), metadata={"format": "pt"}),
        _CONFIG: (json.dumps(config, indent=2) + "\n").encode(),
        _README: _readme(space, config, card).encode(),
    }
    source = inspect.getsource(plain_loading)
    return TimmFiles(files, f'{source}\n\nmodel = load_model("."{_own(space)})\n')


def _made_of(space: ElasticNetwork) -> dict[str, Any]:
    if isinstance(space, TimmSpace):
        name = str(space.definition["model"])
        return {"architecture": name.partition(".")[0], "model_args": dict(space.model_args)}
    return {"build": space.definition["build"]}


def _preparation(space: ElasticNetwork, shape: tuple[int, int, int], card: Mapping[str, JSON]) -> dict[str, Any]:
    """What timm calls the pretrained configuration: how images are prepared, and where the ends of the network are."""
    found: dict[str, Any] = {}
    if isinstance(space, TimmSpace):
        import timm

        known = timm.get_pretrained_cfg(str(space.definition["model"]))
        given = {} if known is None else known.to_dict()
        found = {name: given[name] for name in _KEPT if given.get(name) is not None}
        if known is not None and known.tag:
            found["tag"] = known.tag
    prepared = {name: card[name] for name in _PREPARATION if card.get(name) is not None}
    return found | prepared | {"input_size": list(shape), "crop_mode": "center", "num_classes": space.num_classes}


def _own(space: ElasticNetwork) -> str:
    """The second argument of ``load_model`` in the check: an expression for a new network where it is not timm's."""
    if isinstance(space, TimmSpace):
        return ""
    source, _, name = str(space.definition["build"]).rpartition(":")
    if source == "torchvision":
        return f', __import__("torchvision").models.get_model({name!r}, num_classes={space.num_classes})'
    module = sys.modules[PurePath(source).stem]
    file = str(Path(module.__file__ or source).resolve())
    takes_classes = "num_classes" in inspect.signature(vars(module)[name]).parameters
    arguments = f"num_classes={space.num_classes}" if takes_classes else ""
    # Its folder for its neighbours, as where the file was given.
    neighbours = f'__import__("sys").path.append({str(Path(file).parent)!r})'
    return f', ({neighbours}, __import__("runpy").run_path({file!r})[{name!r}]({arguments}))[1]'


def _readme(space: ElasticNetwork, config: Mapping[str, Any], card: Mapping[str, JSON]) -> str:
    known = isinstance(space, TimmSpace)
    name = str(config["architecture"] if known else config["build"])
    numbers = [f"{number:,} {text}" for key, text in _COUNTS.items() if isinstance(number := card.get(key), int)]
    numbers += [
        f"{text} {100 * score:.2f} %" for key, text in _SCORES.items() if isinstance(score := card.get(key), float)
    ]
    own = "" if known else ", my_network"
    usage = [f'model = load_model("this folder"{own})  # in eval mode']
    if not known:
        usage.insert(0, f"# my_network is a new one of {name}, for {space.num_classes} classes")
    size = config["pretrained_cfg"]["input_size"][-1]
    if known:
        if card.get("image_size", size) != size:  # timm's transform has no second size
            usage += [f"# the accuracies above are of images prepared in another way: {card['resize']}"]
        usage += [
            "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))",
            'grey = load_model("this folder", in_chans=1)',
            'mine = load_model("this folder", num_classes=7)  # a new classifier; the rest keeps its weights',
            'body = load_model("this folder", num_classes=0)  # none',
        ]
    code = "\n".join(usage)
    return _README_TEXT.format(
        name=name,
        library="library_name: timm\n" if known else "",
        numbers=", ".join(numbers),
        size="x".join(map(str, config["pretrained_cfg"]["input_size"])),
        source=_printed(inspect.getsource(plain_loading)),
        code=code,
        backbone=_BACKBONE if known else "",
    )


def _printed(source: str) -> str:
    return source.partition('"""\n\n')[2].replace("  # type: ignore[no-untyped-def]", "").rstrip()


_COUNTS = {"macs": "multiply-accumulates", "params": "parameters"}
_BACKBONE = """
Options of `timm.create_model` that change no weights work, too, such as `drop_rate=0.2`, `drop_path_rate=0.1` or
another `global_pool` of a convolutional network, and `img_size=` of architectures that have `set_input_size`. Others are
refused, such as another `global_pool` of a vision transformer. Instead of `features_only=True`, as a backbone, where the
architecture has `forward_intermediates`:

```python
from timm.models._features import FeatureGetterNet

backbone = FeatureGetterNet(load_model("this folder"), out_indices=(1, 2))
print(backbone.feature_info.channels())
```
"""
_README_TEXT = """---
tags:
- image-classification
{library}---
# A narrower {name}

{numbers}; images of {size}.

`config.json` says what differs from {name}, `model.safetensors` holds the weights, `model.json` all that is known about
the network. Loading needs timm, torch and safetensors, and runs no code from a file:

```python
{source}
```

```python
{code}
```
{backbone}"""

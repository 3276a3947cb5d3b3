"""How an exported model of timm is loaded: this file, as it is, is part of its card, and needs nothing of this package."""

import json
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from timm.models import adapt_input_conv


class LeftOut(torch.nn.Module):
    """Takes the place of a block that the network does without."""

    def forward(self, x, *args, **kwargs):  # type: ignore[no-untyped-def]
        return x


def load_model(folder, network=None, **options):  # type: ignore[no-untyped-def]
    """The model in ``folder``, in eval mode. ``options`` are those of timm.create_model, such as in_chans=1 or drop_rate=0.2;
    ``network`` is a new one of your own that is narrowed instead of timm's.
    """
    config = json.loads((Path(folder) / "config.json").read_text())
    weights = load_file(Path(folder) / "model.safetensors")
    prepared = config["pretrained_cfg"]
    if network is None:
        made = {"num_classes": config["num_classes"], "pretrained_cfg": prepared, **config["model_args"]}
        network = timm.create_model(config["architecture"], **made, **options)
        first = prepared.get("first_conv") or []
        for name in [first] if isinstance(first, str) else first:
            weights[f"{name}.weight"] = adapt_input_conv(options.get("in_chans", 3), weights[f"{name}.weight"])
    for path in config["narrowed"]["left_out"]:
        parent, _, name = path.rpartition(".")
        setattr(network.get_submodule(parent), name, LeftOut())
    for path, numbers in config["narrowed"]["numbers"].items():
        module = network.get_submodule(path)
        for name, value in numbers.items():
            setattr(module, name, type(getattr(module, name))(value))
    for info in getattr(network, "feature_info", []):
        info["num_chs"] = config["narrowed"]["feature_channels"].get(info["module"], info["num_chs"])
    for path, value in weights.items():
        parent, _, name = path.rpartition(".")
        module = network.get_submodule(parent)
        if getattr(module, name).shape != value.shape:
            is_parameter = name in module._parameters
            setattr(module, name, torch.nn.Parameter(torch.empty_like(value)) if is_parameter else value)
    network.load_state_dict(weights)
    return network.eval()

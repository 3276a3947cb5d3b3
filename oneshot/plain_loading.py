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

    def set_input_size(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        """There is nothing to set, as other blocks have."""


def load_model(folder, network=None, *, num_classes=None, img_size=None, **options):  # type: ignore[no-untyped-def]
    """The model in ``folder``, in eval mode.

    Args:
        network: a new one of your own, which is narrowed instead of timm's; it takes no further arguments.
        num_classes: of a new classifier, where they are not those of the folder; 0 is none.
        img_size: of images, for a model that has to know.
        options: those of timm.create_model that change no weights, such as in_chans=1 or drop_rate=0.2.
    """
    config = json.loads((Path(folder) / "config.json").read_text())
    weights = load_file(Path(folder) / "model.safetensors")
    prepared, name = config["pretrained_cfg"], config.get("architecture", config.get("build"))
    if options.pop("pretrained", None):
        raise ValueError(f"the weights are those in {folder}: leave out pretrained")
    given = {"num_classes": num_classes, "img_size": img_size, **options}
    if network is not None and any(value is not None for value in given.values()):
        raise ValueError(f"options are for models of timm, not for a network of your own: {given}")
    if network is None:
        made = {"num_classes": config["num_classes"], "pretrained_cfg": prepared, **config["model_args"]}
        network = timm.create_model(name, **{**made, **options})
        first = prepared.get("first_conv") or []
        first = [f"{path}.weight" for path in ([first] if isinstance(first, str) else first)]
        if options:
            shapes, whole = (
                {path: value.shape for path, value in model.state_dict().items() if path not in first}
                for model in (network, timm.create_model(name, **made))
            )
            if shapes != whole:
                raise ValueError(
                    f"the weights in {folder} are not those of a {name} with {options}: only what changes no weights can be given"
                )
        for path in first:
            weights[path] = adapt_input_conv(options.get("in_chans", 3), weights[path])
    for path in config["narrowed"]["left_out"]:
        parent, _, attribute = path.rpartition(".")
        setattr(network.get_submodule(parent), attribute, LeftOut())
    for path, numbers in config["narrowed"]["numbers"].items():
        module = network.get_submodule(path)
        for attribute, value in numbers.items():
            setattr(module, attribute, type(getattr(module, attribute))(value))
    for info in getattr(network, "feature_info", []):
        info["num_chs"] = config["narrowed"]["feature_channels"].get(info["module"], info["num_chs"])
    for path, value in weights.items():
        parent, _, attribute = path.rpartition(".")
        module = network.get_submodule(parent)
        if getattr(module, attribute).shape != value.shape:
            is_parameter = attribute in module._parameters
            setattr(module, attribute, torch.nn.Parameter(torch.empty_like(value)) if is_parameter else value)
    network.load_state_dict(weights)
    if num_classes is not None and num_classes != config["num_classes"]:
        network.reset_classifier(num_classes)
    if img_size is not None:
        if not hasattr(network, "set_input_size"):
            raise ValueError(
                f"a {name} has no img_size to set: leave it out, and give it images of the size that you want"
            )
        size = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)
        if size != tuple(prepared["input_size"][1:]):  # which it takes as it is; windows of attention would change
            network.set_input_size(img_size=size)
            network.pretrained_cfg["input_size"] = (prepared["input_size"][0], *size)
    return network.eval()

"""Export a retrained (or merely extracted) subnet to a file that runs without this package."""

from __future__ import annotations

import logging
from pathlib import Path

from oneshot.data.preprocessing import Preprocessing
from oneshot.export import TIMM, Exported, ExportSettings, export_module
from oneshot.pipeline.folders import RANDOM, Subnet
from oneshot.pipeline.timm_files import timm_files
from oneshot.runs import writing

log = logging.getLogger(__name__)

_CARD = (
    "macs", "params", "latency_ms", "latency_origin",
    "mean", "std", "image_size", "crop_pct", "interpolation", "pixel_range", "classes", "weights",
    "epochs", "held_out_accuracy", "held_out_images", "test_accuracy", "test_images", "inherited_held_out_accuracy",
    "inherited_test_accuracy", "largest_test_accuracy",
)  # fmt: skip


def export_subnet(subnet: Subnet, folder: Path, settings: ExportSettings) -> Exported:
    """Writes ``folder/model.<suffix>`` and its card ``folder/model.json``, and checks the file in a process of its own; with
    format "timm" also ``config.json`` and ``README.md``.

    Raises:
        ValueError: a format whose extra package is missing, or one that is not for networks of this space.
        RuntimeError: the network cannot be converted, or the file's logits differ.
        OSError: the folder cannot be written, or another process writes there.
    """
    size = subnet.space.input_shape(subnet.arch)[-1]
    if subnet.card.get("weights") == RANDOM:
        log.warning("the weights are random, because the search had no supernet: retrain_subnet.py trains them")
    card = {name: subnet.card[name] for name in _CARD if subnet.card.get(name) is not None}
    # Subnets from before these were settings have none of them in their cards.
    stored = subnet.card.get("image_size", subnet.config.get("data", {}).get("image_size", size))
    crop_pct, interpolation = subnet.card.get("crop_pct", 1.0), subnet.card.get("interpolation", "bicubic")
    shorter_side = Preprocessing(stored, crop_pct).shorter_side
    resize = f"shorter side to {shorter_side} pixels ({interpolation}, antialiased), centre crop of {stored} pixels"
    described = {
        "space": subnet.space.definition,
        "architecture": subnet.arch.to_dict(),
        "normalisation": "pixels divided by 255, then (value - mean) / std for each of the channels R, G, B",
        "resize": resize + ("" if stored == size else f", then to {size} pixels (bilinear, antialiased)"),
        "image_size": stored,
        "crop_pct": crop_pct,
        "interpolation": interpolation,
    }
    with writing(folder):
        return export_module(
            subnet.module(),
            folder,
            settings,
            input_shape=subnet.space.input_shape(subnet.arch),
            card=described | card,
            timm_files=timm_files(subnet, described | card) if settings.format == TIMM else None,
        )

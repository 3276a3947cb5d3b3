"""How much of timm's models can be elastic: the smallest model of each of timm's model classes, as a table.

    python benchmarks/timm_coverage.py --table docs/timm-coverage.md

Models are made with random weights, at the size of images that they were made for. Finding the smallest of each class takes
some ten minutes; `--models` names them instead. Every model runs in a process of its own. What was measured lies in a file, so
a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

_TIME_LIMIT_SECONDS = 1800
_LEAST = 0.5  # of a model's multiply-accumulates: what counts as elastic

_INTRODUCTION = """# How much of timm's models can be elastic

Written by `python benchmarks/timm_coverage.py --table docs/timm-coverage.md` with timm {version}: the smallest model of each of
{number} model classes of timm, at the size of images that it was made for. *Elastic* is the share of the multiply-accumulates of
convolutions and linear layers that lies in layers with elastic channels, attention heads or kernels. *Range* is the largest
network's multiply-accumulates over those of the smallest at that size, depth included. *Seconds* is the processor time that it
takes to make the space.

{above} of {number} classes have at least {least:.0%} in elastic layers.
"""
_HEAD = """
| class | model | blocks | elastic | range | seconds | why not more |
| --- | --- | --- | --- | --- | --- | --- |
"""
COMMON = (
    "tf_efficientnet_lite0",
    "efficientnet_b0",
    "mobilenetv3_large_100",
    "resnet50",
    "resnext50_32x4d",
    "convnext_tiny",
    "deit_small_patch16_224",
    "mixer_s16_224",
    "swin_tiny_patch4_window7_224",
)


def smallest_models() -> list[str]:
    """The model with the fewest parameters of every class."""
    import timm
    import torch

    best: dict[str, tuple[int, str]] = {}
    for name in timm.list_models():
        try:
            with torch.device("meta"):
                network = timm.create_model(name)
        except Exception as error:  # a few need optional packages
            print(f"{name} cannot be made: {error}", file=sys.stderr)
            continue
        entry = sum(parameter.numel() for parameter in network.parameters()), name
        kind = type(network).__name__
        best[kind] = min(best.get(kind, entry), entry)
    return [name for _, (_, name) in sorted(best.items())]


def measure(model: str) -> dict[str, Any]:
    """One row of the table."""
    import timm
    import torch

    from oneshot.costs import CostTable
    from oneshot.spaces import TimmSpace

    torch.set_num_threads(1)
    with torch.device("meta"):
        network = timm.create_model(model)
    row: dict[str, Any] = {"model": model, "class": type(network).__name__}
    size = network.pretrained_cfg["input_size"][-1]
    classes = getattr(network, "num_classes", 0) or 10
    del network
    started = time.process_time()
    try:
        space = TimmSpace(model, num_classes=classes, resolution=size, input_ratios=(1.0,))
    except ValueError as error:
        return row | {"blocks": 0, "elastic": 0.0, "range": 1.0, "reasons": [str(error)]}
    row["seconds"] = time.process_time() - started
    table = CostTable(space)
    largest, smallest = (sum(block.macs for block in table.blocks(arch)) for arch in (space.largest, space.smallest))
    analysis = space.analysis
    return row | {
        "blocks": len(analysis.blocks),
        "elastic": analysis.elastic_share,
        "range": largest / smallest,
        "reasons": [f"{share:.0%}: {reason}" for reason, share in analysis.static_shares()[:2] if share >= 0.05],
    }


def measured(model: str) -> dict[str, Any]:
    """One row of the table, measured in a process of its own."""
    command = [sys.executable, "-W", "ignore", __file__, "--one", model]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIME_LIMIT_SECONDS)
        if done.returncode == 0:
            row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
            return row
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    except subprocess.TimeoutExpired:
        reason = f"takes more than {_TIME_LIMIT_SECONDS} s"
    return {"model": model, "class": "?", "blocks": 0, "elastic": 0.0, "range": 1.0, "reasons": [f"CRASH: {reason}"]}


def as_page(rows: list[dict[str, Any]]) -> str:
    """The page for the docs."""
    import timm

    common = [row for row in rows if row["model"] in COMMON]
    of_class: dict[str, dict[str, Any]] = {}
    for row in sorted(
        rows, key=lambda row: row["model"] not in COMMON
    ):  # common models stand for classes without a smaller one
        of_class[row["class"]] = row
    smallest = list(of_class.values())
    above = sum(row["elastic"] >= _LEAST for row in smallest)
    head = _INTRODUCTION.format(version=timm.__version__, number=len(smallest), above=above, least=_LEAST)
    return f"{head}{as_table(smallest)}\n## Common models\n{as_table(common)}"


def as_table(rows: list[dict[str, Any]]) -> str:
    """Rows, the most elastic first."""
    lines = [
        f"| {row['class']} | `{row['model']}` | {row['blocks']} | {row['elastic']:.2f} | {row['range']:.1f} | "
        f"{row.get('seconds', 0):.0f} | {'; '.join(row['reasons']).replace('|', '/') if row['elastic'] < 0.85 else ''} |"
        for row in sorted(rows, key=lambda row: (-row["elastic"], row["class"]))
    ]
    return _HEAD + "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="*", help="names of models; otherwise the smallest of every class")
    parser.add_argument("--table", type=Path, help="where the table is written; otherwise it is printed")
    parser.add_argument("--rows", type=Path, default=Path("timm_coverage.jsonl"), help="where rows are kept")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    given = parser.parse_args()
    warnings.simplefilter("ignore")  # timm's own, about its deprecated names
    if given.one:
        print(json.dumps(measure(given.one)))
        return
    rows = [json.loads(line) for line in given.rows.read_text().splitlines()] if given.rows.is_file() else []
    for model in given.models or dict.fromkeys([*COMMON, *smallest_models()]):
        if model not in {row["model"] for row in rows}:
            rows.append(measured(model))
            print({name: value for name, value in rows[-1].items()}, file=sys.stderr, flush=True)
            with given.rows.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    text = as_page(rows)
    if given.table:
        given.table.write_text(text, encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()

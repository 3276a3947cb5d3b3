"""A learned policy against uniform sampling with random search, at equal cost and over several seeds.

    python benchmarks/controller_comparison.py cifar10 --seeds 0 1 2

For each seed: one supernet whose paths a controller draws, and the best of a few architectures derived from it; one supernet with
uniformly drawn paths, and the best of as many random architectures as cost what the controller's rewards did (counted in images
that pass a network); and an architecture drawn blindly. The three are then trained from scratch alike and scored on the test
images. Folders that are there already are continued, so a stopped comparison goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
from pathlib import Path

from oneshot.config import make_space
from oneshot.config.spaces import DataSize

ROOT = Path(__file__).resolve().parent.parent


def run(script: str, folder: Path, *overrides: str) -> float:
    """Runs a script in ``folder`` unless it has finished there; the processor seconds that it took, remembered."""
    marker = folder / "seconds.json"
    if not marker.is_file():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, str(ROOT / script), *overrides, f"run={folder}"], check=True, cwd=ROOT)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        marker.write_text(json.dumps(seconds))
    return float(json.loads(marker.read_text()))


def compare(options: argparse.Namespace, seed: int) -> list[dict[str, object]]:
    """One row for each method."""
    out = options.out / f"seed{seed}"
    common = [f"seed={seed}"]
    train = [
        *common, f"+space={options.space}", *options.space_settings, "data=image_folder", f"data.root={options.data}",
        f"data.image_size={options.image_size}", "data.held_out=5000", f"data.max_train_images={options.images}",
        "data.augmentation.crop_padding=2", "data.augmentation.crop_scale=[1.0,1.0]", "data.augmentation.crop_ratio=[1.0,1.0]",
        f"trainer.epochs={options.epochs}", "trainer.threads=1", "trainer.device=cpu", "trainer.eval_every=4",
    ]  # fmt: skip
    scoring = [
        "evaluation.threads=1",
        "evaluation.device=cpu",
        f"evaluation.max_images={options.scored}",
        "evaluation.calibration_images=256",
    ]
    rewarded = options.epochs * 30 * 10
    images_a_score = options.scored + 256
    num_random = options.derived + round(rewarded * 64 / images_a_score)
    rows = []
    for method, sampler, search in (
        ("controller, derivation", options.controller, ["search=derivation", f"search.num_samples={options.derived}"]),
        ("uniform, random search", "uniform", ["search=random", f"search.num_samples={num_random}"]),
    ):
        supernet, found = out / f"supernet_{sampler}", out / f"search_{sampler}"
        seconds = run("train_supernet.py", supernet, *train, f"sampler={sampler}")
        # The baseline that every search runs is as large as the search itself and no part of the method.
        searching = run(
            "search_subnet.py", found, *common, f"supernet={supernet}", "score=inherited", *search, *scoring
        )
        row = retrain(options, found, out / f"retrain_{sampler}", seed)
        times = {"training_s": round(seconds), "search_s": round(searching / 2)}
        rows.append({"method": method, "seed": seed, **times, **row})
    space = make_space_of(options)
    blind = out / "blind.json"
    blind.write_text(space.sample(random.Random(f"blind {seed}")).to_json())
    row = retrain(options, out / "search_uniform", out / "retrain_blind", seed, f"arch={blind}")
    rows.append({"method": "an architecture drawn blindly", "seed": seed, **row})
    return rows


def make_space_of(options: argparse.Namespace):  # type: ignore[no-untyped-def]
    """The space on its own."""
    from hydra import compose, initialize_config_dir

    from oneshot.config import CONF

    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train_supernet", overrides=[f"+space={options.space}", *options.space_settings])
    return make_space(config.space, DataSize(10, options.image_size))


def retrain(options: argparse.Namespace, search: Path, folder: Path, seed: int, *more: str) -> dict[str, object]:
    """Trains the subnet of ``search`` from scratch."""
    run(
        "retrain_subnet.py", folder, f"seed={seed}", f"subnet={search}", "retrain.weights=scratch", "trainer.lr=0.1",
        f"trainer.epochs={options.retrain_epochs}", "trainer.threads=1", "trainer.device=cpu", *more,
    )  # fmt: skip
    result = json.loads((folder / "retrain.json").read_text())
    names = (
        "macs",
        "params",
        "inherited_held_out_accuracy",
        "inherited_test_accuracy",
        "held_out_accuracy",
        "test_accuracy",
    )
    return {name: result[name] for name in names}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="an image folder")
    parser.add_argument("--space", default="enas_micro")
    parser.add_argument(
        "--space-settings", nargs="*", default=["space.num_layers=2", "space.channels=12", "space.dropout=0.0"]
    )
    parser.add_argument("--controller", default="enas_micro", help="the sampler's config")
    parser.add_argument("--image-size", type=int, default=16)
    parser.add_argument("--images", type=int, default=10000, help="training images")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--retrain-epochs", type=int, default=12)
    parser.add_argument("--scored", type=int, default=1000, help="held-out images a candidate is scored on")
    parser.add_argument("--derived", type=int, default=10, help="architectures drawn from the policy at the end")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/controller_comparison"))
    options = parser.parse_args()
    options.out = options.out.resolve()
    options.data = Path(options.data).resolve()
    rows = [row for seed in options.seeds for row in compare(options, seed)]
    for row in rows:
        print(json.dumps(row))
    for method in dict.fromkeys(str(row["method"]) for row in rows):
        values = [float(str(row["test_accuracy"])) for row in rows if row["method"] == method]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(f"{method}: test accuracy {statistics.mean(values):.4f}, deviation {spread:.4f} over {len(values)} seeds")


if __name__ == "__main__":
    main()

"""Files that somebody else wrote: checkpoints, subnets, PyTorch's files, texts and stores."""

from __future__ import annotations

import contextlib
import json
import pickle
import sqlite3
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hostile_values import CANARY, SPACE, SYSTEM, WRITE, nested, one_line

from oneshot.arch import Arch
from oneshot.costs import LatencyTable
from oneshot.evaluation import Score
from oneshot.evaluation.family import SupernetFamily
from oneshot.pipeline.folders import load_subnet, load_supernet, load_weights, read_arch
from oneshot.pipeline.references import read_references
from oneshot.pipeline.truth import read_truth
from oneshot.predictors import PublishedPredictor
from oneshot.published.checkpoint import read_checkpoint
from oneshot.runs import Store
from oneshot.spaces import NASBenchMacro, OFAMobileNetV3
from oneshot.spaces.loading import from_definition
from oneshot.supernet import Supernet
from oneshot.training import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.usefixtures("canary")


class Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return open, (CANARY, "w")


def checkpoint(**changes: Any) -> dict[str, Any]:
    supernet = Supernet(SPACE)
    state = {
        "kind": "supernet", "space": SPACE.definition, "options": {}, "config": {}, "classes": list("abc"), "total_steps": 2,
        "task": {}, "average": None, "model": supernet.state_dict(),
    }  # fmt: skip
    return state | changes


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "subnet"},
        {"kind": nested(100)},
        {"space": {"_target_": "evil_space.MySpace"}},
        {"space": SYSTEM},
        {"space": None},
        {"space": SPACE.definition | {"channels": -4}},
        {"space": SPACE.definition | {"channels": 8}},
        {"space": SPACE.definition | {"channels": "four"}},
        {"space": {"_target_": "oneshot.spaces.OFAMobileNetV3", "width_multiplier": "wide"}},
        {"config": []},
        {"classes": 3},
        {"task": None},
        {"total_steps": "two"},
        {"model": {}},
        {"model": {"bank": "x"}},
        {"average": [1]},
        {"options": {"*": [SYSTEM]}},
    ],
)
def test_a_checkpoint(changes: dict[str, Any], tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoints", 2, checkpoint(**changes))
    one_line(lambda: load_supernet(tmp_path))
    save_checkpoint(tmp_path / "checkpoints", 2, checkpoint())
    assert load_supernet(tmp_path).supernet.space.definition == SPACE.definition


@pytest.mark.parametrize(
    "changes",
    [
        {"space": {"_target_": "evil_space.MySpace"}},
        {"space": SYSTEM},
        {"arch": None},
        {"arch": {"layer1": SYSTEM}},
        {"arch": {"layer1": "x" * 10**5}},
        {"weights": []},
        {"weights": {"x": torch.zeros(1)}},
        {"config": WRITE["data"]},
        {"card": 1},
    ],
)
def test_a_subnet(changes: dict[str, Any], tmp_path: Path) -> None:
    arch = SPACE.largest
    state = {
        "format": "oneshot.subnet.1", "space": SPACE.definition, "arch": arch.to_dict(), "config": {}, "card": {},
        "weights": SPACE.network(arch).state_dict(),
    }  # fmt: skip
    torch.save(state, tmp_path / "subnet.pt")
    load_subnet(tmp_path / "subnet.pt").module()
    torch.save(state | changes, tmp_path / "subnet.pt")
    one_line(lambda: load_subnet(tmp_path / "subnet.pt").module())


def compressed(path: Path) -> None:
    torch.save({"format": "oneshot.checkpoint.1", "model": torch.zeros(10**6)}, path)
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)


PT_FILES: dict[str, Callable[[Path], object]] = {
    "an object that runs code": lambda path: torch.save({"format": "oneshot.checkpoint.1", "model": Runs()}, path),
    "a pickle that runs code": lambda path: path.write_bytes(pickle.dumps(Runs())),
    "an old file that runs code": lambda path: torch.save(Runs(), path, _use_new_zipfile_serialization=False),
    "a module": lambda path: torch.save(torch.nn.Linear(1, 1), path),
    "text": lambda path: path.write_text("state_dict"),
    "nothing": lambda path: path.touch(),
    "a list": lambda path: torch.save([1, 2], path),
    "compressed": compressed,
    "a zip file of something else": lambda path: zipfile.ZipFile(path, "w").writestr("x", b"x"),
}
PT_READERS: dict[str, Callable[[Path], object]] = {
    "supernet": load_supernet,
    "subnet": load_subnet,
    "init": lambda path: load_weights(Supernet(SPACE), path),
    "checkpoint": load_checkpoint,
    "published": read_checkpoint,
    "predictor": lambda path: PublishedPredictor.load(path, OFAMobileNetV3(resolutions=(160,))),
}


@pytest.mark.parametrize("reader", PT_READERS)
@pytest.mark.parametrize("kind", PT_FILES)
def test_a_pytorch_file(reader: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    PT_FILES[kind](path)
    assert "file.pt" in one_line(lambda: PT_READERS[reader](path))


TEXTS = {
    "not utf-8": b"\xff\xfe\x00",
    "nothing": b"",
    "a number": b"1e999",
    "text": b"os.system('touch canary.txt')",
    "nested": b"[" * 200_000 + b"]" * 200_000,
    "a list": b"[1, {}, null]",
    "an object": b'{"_target_": "os.system", "command": "touch canary.txt"}',
    "a huge number": b'{"layer1": 1' + b"0" * 400 + b"}",
    "a tag": b"!!python/object/apply:os.system ['touch canary.txt']",
    "aliases": b"a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]\n",
    "a long field": b"a,b\n" + b"x" * 200_000 + b",1\n",
    "a zero byte": b"a\0b\n",
}


def open_store(folder: Path) -> Store[Arch, Score]:
    return Store(folder, {"seed": 1}, SPACE.parse, Score)


TEXT_READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "arch": ("arch.json", lambda path: read_arch(path, SPACE)),
    "truth": ("truth.json", lambda path: read_truth(path, SPACE)),
    "references": ("references.json", lambda path: read_references(path, "macs")),
    "latency table": ("160_lookup_table.yaml", lambda path: LatencyTable.load(path, SPACE)),
    "store": ("run.sqlite", lambda path: open_store(path.parent)),
}


@pytest.mark.parametrize("reader", TEXT_READERS)
@pytest.mark.parametrize("kind", TEXTS)
def test_a_text_file(reader: str, kind: str, tmp_path: Path) -> None:
    name, read = TEXT_READERS[reader]
    (tmp_path / name).write_bytes(TEXTS[kind] if name.endswith(("json", "yaml")) else TEXTS[kind] + b"\n" * 99)
    assert name in one_line(lambda: read(tmp_path / name))


@pytest.mark.parametrize("content", [*TEXTS.values(), b'{"space": {"_target_": "evil_space.MySpace"}}'])
def test_the_description_of_a_latency_table(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "160_lookup_table.yaml").write_text("layer: {mean: 1.0, std: 0.0, count: 1}\n")
    (tmp_path / "table.json").write_bytes(content)
    harmless = content in (TEXTS["an object"], TEXTS["a huge number"])  # they name no space
    if harmless:
        assert LatencyTable.load(tmp_path).space is None
    else:
        one_line(lambda: LatencyTable.load(tmp_path))


@pytest.mark.parametrize("content", [b"[1]", b"{", TEXTS["nested"], TEXTS["an object"]])
@pytest.mark.parametrize("column", ["identity.content", "scores.arch"])
def test_the_store_of_a_search(column: str, content: bytes, tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.add(SPACE.largest, Score(0.5, 1.0, 8))
    table, name = column.split(".")
    with contextlib.closing(sqlite3.connect(tmp_path / "run.sqlite")) as connection:
        assert connection.execute(f"UPDATE {table} SET {name} = ?", (content.decode(),)).rowcount == 1
        connection.commit()
    one_line(lambda: open_store(tmp_path))


def test_a_truth_that_no_number_holds(tmp_path: Path) -> None:
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({SPACE.largest.to_json(): 10**400}))
    assert "holds no accuracy" in one_line(lambda: read_truth(path, SPACE))


def test_a_space_of_ones_own_is_known_once_it_is_imported() -> None:
    class Own(NASBenchMacro):
        pass

    space = Own(num_classes=3, resolution=8, channels=4, head_channels=8)
    assert type(from_definition(space.definition)) is Own
    family = SupernetFamily([Supernet(space)])
    assert type(family.space) is Own

"""Imports within the package go one way: that of the drawing in docs/design.md."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PARTS = {path.stem for path in (ROOT / "oneshot").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
SPECIAL = {"__init__", "conf", "programs"}  # programs lies at the top of the checkout, and in a wheel only here


def rows() -> list[list[str]]:
    text = (ROOT / "docs" / "design.md").read_text().partition("## Who depends on whom")[2]
    lines = text.split("```")[1].strip().splitlines()
    return [re.split("    ", line)[0].split() for line in lines]


def imported(path: Path) -> set[str]:
    """The modules of the package that a file names, also those for types only."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "oneshot":
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.partition(".")[0] == "oneshot"}
    return found


def test_the_drawing_has_every_part_once() -> None:
    drawn = [part for row in rows() for part in row]
    assert sorted(drawn) == sorted({*PARTS} - SPECIAL | {"programs"})


@pytest.mark.parametrize("part", sorted(PARTS - SPECIAL))
def test_a_part_imports_lower_rows_only(part: str) -> None:
    level = {name: number for number, row in enumerate(rows()) for name in row}
    package = ROOT / "oneshot" / part
    files = list(package.rglob("*.py")) if package.is_dir() else [package.with_suffix(".py")]
    assert files
    for path in files:
        for name in imported(path):
            used = name.split(".")[1]
            # ``from oneshot import Supernet`` would go through the whole package.
            assert used in level, f"{path.relative_to(ROOT)} imports {name}"
            assert used == part or level[used] > level[part], f"{path.relative_to(ROOT)} imports {name}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (ROOT / "oneshot").rglob("*.py")
    }
    edges = {
        module: {name if name in files else name.rpartition(".")[0] for name in imported(path)} & files.keys()
        for module, path in files.items()
    }
    while True:  # what imports nothing that is left is in no circle
        free = {module for module, used in edges.items() if not used & edges.keys()}
        if not free:
            break
        edges = {module: used for module, used in edges.items() if module not in free}
    assert not edges, sorted(edges)

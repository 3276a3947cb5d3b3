"""The user's own Python files: only those that the command line names are run, never one because of what another file holds."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from oneshot.checking import told_with_line
from oneshot.config.paths import CONF
from oneshot.spaces import NetworkSpace
from oneshot.spaces.base import SearchSpace


def named_code(arguments: Sequence[str]) -> list[str]:
    """What ``code=`` on a command line names, files first made absolute, so that they are found from another folder too.

    Raises:
        ValueError: it is no name or list of names.
    """
    named: list[str] = []
    for argument in arguments:
        if re.match(r"\+{0,2}code=", argument) is None:
            continue
        try:
            override = OverridesParser.create().parse_override(argument)
        except HydraException:  # Hydra says why when it reads the command line itself
            continue
        value = override.value()
        values: list[object] = [] if value is None else list(value) if isinstance(value, list) else [value]
        texts = [one for one in values if isinstance(one, str) and one]
        if override.is_sweep_override() or len(texts) < len(values):
            raise ValueError(
                f"code names one Python file or, as [a.py,b.py], several, not {argument.partition('=')[2]}"
            )
        named += texts
    return [str(Path(one).expanduser().resolve()) if one.endswith(".py") else one for one in named]


def named_spaces(arguments: Sequence[str], code: Sequence[str]) -> dict[str, str]:
    """The user's own spaces among those of ``+space=...``, and the file of each: one of ``code``, or ``NAME.py`` in the current
    folder or in one of PYTHONPATH. Names of oneshot's own spaces come first.
    """
    names = {
        name.strip()
        for argument in arguments
        if (match := re.fullmatch(r"\+?space=([\w,\s]+)", argument))
        for name in match.group(1).split(",")
    }
    found: dict[str, str] = {}
    for name in sorted(names):
        if (CONF / "space" / f"{name}.yaml").exists() or not name.isidentifier():
            continue
        paths = [Path(one) for one in code if one.endswith(".py")]
        paths = [path for path in paths if path.stem == name] + [folder / f"{name}.py" for folder in _folders()]
        path = next((path for path in paths if mentions_a_space(path)), None)
        if path is not None:
            found[name] = str(path.resolve())
    return found


def mentions_a_space(path: Path) -> bool:
    """Whether a file could define a search space, judged without running it."""
    return path.is_file() and "SearchSpace" in path.read_text(encoding="utf-8", errors="ignore")


def run_code(named: Iterable[str]) -> list[ModuleType]:
    """Imports files and modules that the user trusts; those of this process that are imported already are not run again.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no Python file, has the name of another module, or fails.
    """
    return [_from_file(Path(one)) if one.endswith(".py") else _from_module(one) for one in named]


def code_setting(space: SearchSpace) -> dict[str, str]:
    """The setting with which another command knows ``space``, as ``{"code": "/folder/my_space.py"}``; empty for oneshot's own."""
    module = type(space).__module__
    if isinstance(space, NetworkSpace) and (file := built_by(space.definition["build"])):
        module = Path(file).stem
    if module.partition(".")[0] == "oneshot":
        return {}
    file = sys.modules[module].__file__
    return {"code": module if file is None or Path(file).stem != module else file}


def built_by(build: object) -> str | None:
    """The file of ``"my_file.py:my_function"``; None where no file of one's own makes the network."""
    file = str(build).rpartition(":")[0]
    return file if file.endswith(".py") else None


def _folders() -> list[Path]:
    listed = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return [Path.cwd(), *(Path(folder) for folder in listed if folder)]


def _from_file(path: Path) -> ModuleType:
    name = path.stem
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if not name.isidentifier():
        raise ValueError(f"{path} cannot be imported: a file's name is made of letters, digits and underscores")
    loaded = sys.modules.get(name)
    if loaded is not None and loaded.__file__ is not None and Path(loaded.__file__).resolve() == path.resolve():
        return loaded
    if loaded is not None or name in sys.stdlib_module_names or _installed(name, path.parent):
        raise ValueError(f"{path} has the name of another module, {name!r}: rename the file")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))  # for its neighbours, as for a program
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise ValueError(f"{path} cannot be imported: {told_with_line(error, str(path))}") from error
    return module


def _from_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (ImportError, ValueError, TypeError) as error:
        raise ValueError(f"code={name} is neither a Python file nor a module that can be imported: {error}") from error


def _installed(name: str, own: Path) -> bool:
    """Whether ``import NAME`` would find something else than a space in a folder that is not one of the user's."""
    users = {folder.resolve() for folder in (own, *_folders())}
    spec = PathFinder.find_spec(name, [entry for entry in sys.path if Path(entry or ".").resolve() not in users])
    return spec is not None and not (spec.origin is not None and mentions_a_space(Path(spec.origin)))

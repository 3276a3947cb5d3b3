"""Entry points: Hydra's configs in, one clear line and exit code 2 for whatever the user got wrong."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from oneshot.config.commands import command
from oneshot.config.errors import explain, name_folder
from oneshot.config.keys import check_emptied, check_keys, check_one_smoothing
from oneshot.config.own_code import run_code
from oneshot.config.paths import CONF
from oneshot.config.presets import with_trainer
from oneshot.config.quoting import check_paths, override
from oneshot.config.run_names import note_fixed, register_names
from oneshot.config.spaces import register_spaces
from oneshot.freed_memory import keep_freed_memory
from oneshot.pipeline.folders import newest
from oneshot.pipeline.steps import check_step
from oneshot.processes import LostProcess, count, handling, is_first, is_first_to_tell, joined
from oneshot.runs import write_text, writing
from oneshot.training import Interrupted

log = logging.getLogger(__name__)

register_names()  # here, so that the processes of a multirun know them too


def entry(config_name: str, alone: bool = False) -> Callable[[Callable[[DictConfig, Path], None]], Callable[[], None]]:
    """Makes ``main(config, folder)`` a program: composes ``conf/<config_name>.yaml`` with the command line, runs it in a folder
    of its own, and turns the errors that a user can cause into one line on stderr and exit code 2 (130 for Ctrl-C). Several
    processes of one run (``oneshot.processes``) tell such a line once; they are refused where the program is for one, ``alone``.
    """

    def decorate(main: Callable[[DictConfig, Path], None]) -> Callable[[], None]:
        @hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)
        def run(config: DictConfig) -> None:
            with joined():  # in a job of a cluster; what torchrun starts has joined before
                run_one(config)

        def run_one(config: DictConfig) -> None:
            folder = Path(HydraConfig.get().runtime.output_dir)
            try:
                if alone and count() > 1:
                    raise ValueError(f"{config_name} is the work of one process, not of {count()}")
                run_code(code)  # again in the processes of a launcher, which know nothing of it
                check_keys(config, config_name)
                check_emptied(config, HydraConfig.get().overrides.task)
                check_one_smoothing(HydraConfig.get().overrides.task)
                for name in ("seed", "calibration_images"):
                    if name in config and not isinstance(config[name], int):
                        raise ValueError(f"{name}: {config[name]!r} is not an integer")
                for name in sorted(OmegaConf.missing_keys(config)):
                    raise ValueError(f"{name} has no value: add {name}=... to the command")
                if not alone:  # those measure and check what will run elsewhere
                    keep_freed_memory()
                with writing(folder):
                    check_step(folder, config_name)
                    with _keeping_settings(folder / ".hydra", config):
                        main(config, folder)
            except (KeyboardInterrupt, Interrupted) as stopped:
                hint = (
                    ""
                    if HydraConfig.get().mode is RunMode.MULTIRUN
                    else f"; the same command with {override('run', folder)} continues it"
                )
                raise type(stopped)(f"{str(stopped) or 'stopped'}{hint}") from None
            except Exception as error:
                # Hydra prints a line of its own about an error that it sees; in this process it need not see it.
                if os.getpid() != process:
                    raise
                _remove_unused(folder, config_name)
                name_folder(error, folder)
                errors.append(error)
                if HydraConfig.get().mode is RunMode.MULTIRUN and (line := explain(error, config_name)):
                    log.error("%s: %s", folder, line)  # which of the runs it was; the end says why once

        process, errors, code = os.getpid(), list[Exception](), list[str]()

        def program() -> None:
            os.environ["HYDRA_FULL_ERROR"] = "1"  # errors come back to this function instead of ending the process
            try:
                with joined(), _stopped_by_sigterm():
                    start()
            except LostProcess as stopped:  # by the end of another one, after this one's
                _fail(str(stopped), 130, unless_told=True)

        def start() -> None:
            try:
                if "${" in os.getcwd() or any(word.startswith("run=") and r"\${" in word for word in sys.argv[1:]):
                    raise ValueError(
                        "Hydra cannot work in a folder that has ${ in its path; rename it or choose another run=FOLDER"
                    )
                if count() > 1 and any(word.startswith("hydra/launcher=") for word in sys.argv[1:]):
                    raise ValueError(
                        f"there are {count()} processes for one run already, so hydra/launcher cannot start others: start "
                        "one, or leave it out"
                    )
                if any(re.fullmatch(r"run=(null|''|\"\")?", word) for word in sys.argv[1:]):
                    raise ValueError("run= has no value: it is the folder of the run, such as run=runs/mine")
                sys.argv[1:] = with_trainer(sys.argv[1:], config_name)
                check_paths(sys.argv[1:])
                code.extend(register_spaces(sys.argv[1:]))
                note_fixed(sys.argv[1:])
                run()
            except (KeyboardInterrupt, Interrupted) as stopped:
                _fail(str(stopped) or "stopped", 130, unless_told=True)
            except Exception as error:
                name_folder(error, Path(next((word[4:] for word in sys.argv if word.startswith("run=")), "runs")))
                errors.append(error)
            lines = [explain(error, config_name) for error in errors]
            if None in lines:
                raise errors[lines.index(None)]
            if lines:
                _fail("; ".join(dict.fromkeys(filter(None, lines))), 2)

        return program

    return decorate


@contextlib.contextmanager
def _keeping_settings(folder: Path, config: DictConfig) -> Iterator[None]:
    """Writes the settings of a run and what was typed of them to ``folder``. If it fails, those of an earlier start come back."""
    texts = {
        folder / "config.yaml": OmegaConf.to_yaml(config),
        folder / "overrides.yaml": OmegaConf.to_yaml(HydraConfig.get().overrides.task),
    }
    earlier = {path: path.read_text(encoding="utf-8", errors="replace") for path in texts if path.is_file()}
    for path, text in texts.items():
        write_text(path, text)
    try:
        yield
    except Exception:
        with contextlib.suppress(OSError):  # the first error says more
            for path, text in earlier.items():
                write_text(path, text)
        raise


def _remove_unused(folder: Path, name: str) -> None:
    """Removes what a refused command ``name`` leaves: the folder with a name of its own that holds nothing but the command's
    settings and log, or in another folder the empty log.
    """
    if not is_first():
        return
    log = folder / f"{name}.log"
    named = any(word.startswith("run=") for word in HydraConfig.get().overrides.task)
    with contextlib.suppress(OSError):
        if not named and {path.name for path in folder.iterdir()} <= {".hydra", ".lock", log.name}:
            shutil.rmtree(folder)
        elif log.stat().st_size == 0:
            log.unlink()


def _fail(line: str, code: int, unless_told: bool = False) -> None:
    if is_first_to_tell(line, unless_told=unless_told):
        print(f"{Path(sys.argv[0]).name}: {line}", file=sys.stderr, flush=True)
    sys.exit(code)


def newest_run(given: str | None, root: str, pattern: str, what: str, *first: str) -> Path:
    """The path that the user gave, or the newest folder below ``root`` with a file matching ``pattern``; ``first`` is the program
    that makes one, and its settings.

    Raises:
        FileNotFoundError: none was given and there is none yet.
    """
    if given == "":
        raise ValueError(f"{what}= has no value: give a folder, or leave it out for the newest one")
    if given is not None:
        return Path(given)
    found = newest(Path(root), pattern)
    if found is None:
        raise FileNotFoundError(
            f"there is no {what} below {root} yet: run {command(*first)} first, or give {what}=FOLDER"
        )
    return found


def _stopped_by_sigterm() -> contextlib.AbstractContextManager[None]:
    """Inside, SIGTERM, with which clusters, containers and ``timeout`` end a program, is a Ctrl-C. Of several processes it is
    handled by ``oneshot.processes``.
    """
    process = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if os.getpid() != process:  # a process that was forked from this one ends as others do
            os.kill(os.getpid(), signal.SIGTERM)
        raise KeyboardInterrupt

    return handling(stop, signal.SIGTERM) if count() == 1 else contextlib.nullcontext()

"""Names of run folders: different, short, sorted by time, and such that they can be typed."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

from oneshot.config import CONF
from oneshot.config.run_names import FIXED, job_name, note_fixed

ENTRIES = sorted(path.stem for path in CONF.glob("*.yaml"))


@pytest.mark.parametrize("entry", ENTRIES)
def test_runs_that_start_together_have_folders_of_their_own(entry: str) -> None:
    names = []
    for _ in range(3):
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose(entry, return_hydra_config=True)
        assert config.run == config.hydra.run.dir == config.hydra.sweep.dir == config.run  # one name for each start
        names.append(Path(config.run).name)
        time.sleep(0.002)
    assert len(set(names)) == 3
    assert names == sorted(names)
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-\d{3}-[0-9a-f]{4}(-torchscript)?", name) for name in names)


@pytest.mark.parametrize("entry", ENTRIES)
def test_jobs_are_named_by_what_differs(entry: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FIXED, "")
    note_fixed(["-m", "+data.root=/a b", "run=x", "seed=0,1", "+options.layer1=[identity],[conv]", "~phases", "--cfg"])
    assert os.environ[FIXED] == "data.root run phases"
    job = ["+data.root=/ab", "run=x", "seed=1", "+options.layer1=[identity]", "~phases"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(entry, return_hydra_config=True)
    config.hydra.job.num, config.hydra.overrides.task = 3, job
    assert re.fullmatch(r"3_seed_1-options\.layer1_identity-[0-9a-f]{8}", config.hydra.sweep.subdir)


def test_names_of_jobs_are_short_and_can_be_typed() -> None:
    many = [f"trainer.setting_{index}={index}" for index in range(20)]
    changed = [*many[:-1], "trainer.setting_19=ü [x] ${y}"]
    names = [job_name(0, texts, "") for texts in (many, changed, many[:1], ["init=/a/b"], ["init=/a-b"], [])]
    assert len(set(names)) == len(names)
    assert job_name(0, many, "") == names[0]
    assert names[2:3] + names[-1:] == ["0_trainer.setting_0_0", "0"]
    for name in names:
        assert len(name) <= 75
        assert OverridesParser.create().parse_override(f"supernet=runs/{name}").value() == f"runs/{name}"

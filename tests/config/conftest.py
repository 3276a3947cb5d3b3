"""What tests of configuration share."""

import sys
from pathlib import Path
from typing import Any

import pytest
from hostile_values import CANARY
from hydra.core.global_hydra import GlobalHydra


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """No file appears and no module is imported, whatever is read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SECRET", "17")
    (tmp_path / "evil_space.py").write_text(f"open({CANARY!r}, 'w').close()\nfrom oneshot import SearchSpace\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    assert not (tmp_path / CANARY).exists()
    assert "evil_space" not in sys.modules
    GlobalHydra.instance().clear()

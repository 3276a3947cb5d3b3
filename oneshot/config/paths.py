"""Where Hydra's configs and the programs lie: inside an installed package, and at the top of a checkout."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent
_INSTALLED = (_PACKAGE / "conf").is_dir()  # a wheel packs both (see setup.py); in a checkout they are only at the top

CONF = _PACKAGE / "conf" if _INSTALLED else _PACKAGE.parent / "conf"
PROGRAMS = _PACKAGE / "programs" if _INSTALLED else _PACKAGE.parent

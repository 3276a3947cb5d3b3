"""Where Hydra's configs lie."""

from pathlib import Path

CONF = Path(__file__).resolve().parent.parent.parent / "conf"

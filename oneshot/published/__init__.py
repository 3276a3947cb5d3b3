"""The forms in which Once-for-All's spaces, networks and weights are published: encodings, ``net.config``, checkpoints."""

from oneshot.published.checkpoint import bank_state, load_published, read_checkpoint
from oneshot.published.encoding import from_published, to_published
from oneshot.published.netconfig import from_config, to_config

__all__ = [
    "bank_state",
    "from_config",
    "from_published",
    "load_published",
    "read_checkpoint",
    "to_config",
    "to_published",
]

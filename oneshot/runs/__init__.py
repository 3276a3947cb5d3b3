"""A run folder: its lock, what it is a run of, files that are whole or not there, and the scores of a search."""

from oneshot.runs.files import write_atomically, write_json, write_text
from oneshot.runs.identity import differences, fingerprint, require_same
from oneshot.runs.lock import FolderInUseError, writing
from oneshot.runs.store import Store

__all__ = [
    "FolderInUseError",
    "Store",
    "differences",
    "fingerprint",
    "require_same",
    "write_atomically",
    "write_json",
    "write_text",
    "writing",
]

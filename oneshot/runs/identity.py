"""What run is this, and may it be continued: settings and data that must be the same."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any


def require_same(
    folder: Path, held: str, before: Mapping[str, Any], now: Mapping[str, Any], free: Collection[str] = ()
) -> None:
    """Raises ValueError, with what changed, unless a run that is ``now`` may go on with what ``folder`` holds from ``before``.

    Args:
        held: in words, such as "holds another search".
        free: dotted names of settings that may change.
    """
    changed = differences(before, now, free)
    if changed:
        raise ValueError(f"{folder} {held} ({', '.join(changed)}); use another folder")


def differences(
    before: Mapping[str, Any], now: Mapping[str, Any], free: Collection[str] = (), prefix: str = ""
) -> list[str]:
    """The nested settings that differ, as ``trainer.lr was 0.1 and is 0.2``, but for those in ``free``.

    A setting that was not there before and is off now (null, false, zero or empty) is none: an earlier version had it not.
    """
    changed = []
    for name in sorted(before.keys() | now.keys()):
        old, new, path, is_new = before.get(name), now.get(name), f"{prefix}{name}", name not in before
        if isinstance(new, Mapping) and (isinstance(old, Mapping) or is_new):
            changed += differences({} if is_new else before[name], new, free, f"{path}.")
        elif old != new and not (is_new and not new) and path not in free:
            changed.append(f"{path} was {old} and is {new}")
    return changed


def fingerprint(parts: Iterable[bytes | memoryview]) -> str:
    """The SHA-256 of ``parts`` one after another, in hexadecimal digits."""
    checksum = hashlib.sha256()
    for part in parts:
        checksum.update(part)
    return checksum.hexdigest()

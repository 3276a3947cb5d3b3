"""Which layers could not be repaired, and why, over all networks of a search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from oneshot.evaluation.refit import TooFewPlacesError, UnfitError
from oneshot.processes import gathered


@dataclass
class RepairTally:
    """Layers that were to be repaired, by name, and the first reason of each kind for which some were left as they are.

    A layer is one whatever its width and the size of the input: it may be left as it is in some networks only.
    """

    tried: set[str] = field(default_factory=set)
    _left: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, block: str, readers: Mapping[str, object], left: Mapping[str, UnfitError]) -> None:
        """Takes in what became of a block's readers."""
        self.tried.update(_name(block, reader) for reader in readers)
        for reader, error in left.items():
            kind = "" if isinstance(error, TooFewPlacesError) else str(error)
            self._left.setdefault(kind, {}).setdefault(_name(block, reader), str(error))

    def of_all_processes(self) -> RepairTally:
        """Those of all processes of this run together; each has to ask."""
        found = RepairTally()
        for tally in gathered(self):
            found.tried |= tally.tried
            for kind, layers in tally._left.items():
                found._left[kind] = layers | found._left.get(kind, {})
        return found

    def notes(self, has_more_images: bool) -> list[str]:
        """A sentence for each kind of reason.

        Args:
            has_more_images: whether weights could be fitted on more images than they were.
        """
        notes = []
        for kind, layers in self._left.items():
            name, reason = next(iter(layers.items()))
            note = f"{len(layers)} of the {len(self.tried)} layers that are repaired are left as they are in some or all networks"
            note += f", {name} for one: {reason}"
            if not kind and has_more_images:
                note += "; evaluation.repair_images gives more"
            notes.append(note)
        return notes


def _name(block: str, reader: str) -> str:
    return f"{block}.{reader}" if reader else block

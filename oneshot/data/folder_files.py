"""The image files below a folder: each real folder is read once, and what is passed over is remembered."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from oneshot.data.decoding import bombs_refused

_LOGGER = logging.getLogger(__name__)
# Of files with these endings Pillow decides when they are decoded, of all others right away.
_FAMILIAR = (".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp", ".gif")
# Formats that Pillow knows by their headers, but draws with other programs or not at all.
_NOT_DRAWN = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF")
# What file managers and storage systems leave between the user's folders.
_SYSTEM_FOLDERS = (
    "__macosx",
    "@eadir",
    "#recycle",
    "#snapshot",
    "$recycle.bin",
    "system volume information",
    "lost+found",
)


def is_hidden(name: str) -> bool:
    """Whether a folder of this name is a hidden one, or one that a file manager or a storage system left."""
    return name.startswith(".") or name.lower() in _SYSTEM_FOLDERS


def is_image(path: str) -> bool:
    """Whether a file is an image by its ending, or else by its content."""
    from PIL import Image as pil

    if path.lower().endswith(_FAMILIAR):
        return True
    try:
        with bombs_refused(), pil.open(path) as image:
            return image.format not in _NOT_DRAWN
    except (pil.DecompressionBombError, pil.DecompressionBombWarning):
        return True  # and so counted as one that cannot be decoded
    except Exception:  # of any plugin
        return False


class PassedOver:
    """Files and folders that were not read, by kind, with one example of each."""

    def __init__(self) -> None:
        """Begins with none."""
        self._kinds: dict[str, tuple[int, str]] = {}

    def add(self, kind: str, path: str | os.PathLike[str]) -> None:
        """Counts a file or folder; ``kind`` is in the plural, such as "hidden files"."""
        number, example = self._kinds.get(kind, (0, os.fspath(path)))
        self._kinds[kind] = (number + 1, example)

    def add_file(self, path: str) -> None:
        """Counts a file that is no image."""
        if os.path.basename(path).startswith("."):
            self.add("hidden files", path)
            return
        ending = os.path.splitext(path)[1].lower()
        self.add(f"{ending or 'other'} files that Pillow cannot open", path)

    def report(self, folder: Path) -> None:
        """Warns, in one line, of all that was counted in ``folder``."""
        if self._kinds:
            kinds = "; ".join(f"{kind}: {number} (such as {path})" for kind, (number, path) in self._kinds.items())
            _LOGGER.warning("passed over in %s: %s", folder, kinds)


class FolderReader:
    """Finds folders and images below a root.

    Attributes:
        passed_over: what was not read.
    """

    def __init__(self, root: Path) -> None:
        """Begins at ``root``, which exists."""
        self.passed_over = PassedOver()
        self._ancestors = {_identity(parent) for parent in root.resolve().parents}
        self._read: dict[tuple[int, int], Path] = {}

    def subfolders(self, folder: Path) -> dict[str, Path]:
        """The folders in ``folder`` by name, without hidden ones, in the order of their names."""
        return {path.name: path for path in sorted(folder.iterdir()) if path.is_dir() and not is_hidden(path.name)}

    def has_images(self, folder: Path) -> bool:
        """Whether an image lies in ``folder`` itself."""
        return any(path.is_file() and not is_hidden(path.name) and is_image(str(path)) for path in folder.iterdir())

    def claim(self, folder: Path) -> None:
        """Keeps ``folder`` from being read as a part of another.

        Raises:
            ValueError: by a link, it is another one that was claimed.
        """
        other = self._read.setdefault(_identity(folder), folder)
        if other != folder:
            raise ValueError(f"{folder} and {other} are the same folder; remove one of the links")

    def pass_over_beside(self, folder: Path) -> None:
        """Counts the files and the hidden folders beside the class folders or splits in ``folder``."""
        for path in sorted(folder.iterdir()):
            if path.is_dir():
                if is_hidden(path.name):
                    self.passed_over.add("hidden or system folders", path)
            elif path.name.startswith("."):
                self.passed_over.add("hidden files", path)
            else:
                self.passed_over.add("files outside of the class folders", path)

    def images(self, folder: Path) -> list[str]:
        """The paths of the images in a claimed folder and all folders below it, sorted by folder and name.

        Links to folders are followed, but no real folder is read twice.
        """
        found: list[tuple[str, list[str]]] = []
        for current, folders, files in os.walk(folder, followlinks=True):
            folders[:] = [name for name in sorted(folders) if self._enter(Path(current, name))]
            images = []
            for name in sorted(files):
                path = os.path.join(current, name)
                if not name.startswith(".") and is_image(path):
                    images.append(path)
                else:
                    self.passed_over.add_file(path)
            found.append((current, images))
        return [path for _, images in sorted(found) for path in images]

    def _enter(self, folder: Path) -> bool:
        if is_hidden(folder.name):
            self.passed_over.add("hidden or system folders", folder)
            return False
        identity = _identity(folder)
        if identity in self._read or identity in self._ancestors:
            self.passed_over.add("links to folders that are read already", folder)
            return False
        self._read[identity] = folder
        return True


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino

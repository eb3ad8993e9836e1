"""Walks a folder of files of one kind, through links too, and notes what is left out."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from softlab.errors import SourceError
from softlab.sources.file_kind import FileKind
from softlab.sources.summary import Found

# What operating systems and programs put beside a user's files.
JUNK_FOLDERS = frozenset(
    {"__MACOSX", "__pycache__", "@eaDir", "$RECYCLE.BIN", "#recycle", "lost+found", "System Volume Information"}
)
JUNK_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini"})


class Walk:
    """Goes through folders below a root, and remembers what it left out."""

    def __init__(self, root: Path, kind: FileKind) -> None:
        self.kind = kind
        self._root, self._real_root = root, os.path.realpath(root)
        self._suffixes: Counter[str] = Counter()
        self._other_suffixes: Counter[str] = Counter()
        self._hidden_folders: list[str] = []
        self._hidden_files = 0
        self._loops: list[str] = []
        self._links_inside: list[str] = []

    def files(self, folder: str) -> Iterator[str]:
        """Paths relative to the root, of all files of the kind in a folder of it, at any depth, in no particular order.
        Raises SourceError for a folder that can't be listed."""
        real = os.path.realpath(self._root / folder)
        if os.path.islink(self._root / folder) and not self._is_new(real, folder, (self._real_root,)):
            return
        open_folders: list[tuple[str, tuple[str, ...]]] = [(folder, (self._real_root, real))]
        while open_folders:
            here, around = open_folders.pop()
            for entry in self.entries(here):
                path = f"{here}/{entry.name}"
                if not self._is_folder(entry):
                    yield from self._taken(path)
                elif self.takes_folder(path):
                    real = os.path.realpath(entry.path) if entry.is_symlink() else f"{around[-1]}{os.sep}{entry.name}"
                    if not entry.is_symlink() or self._is_new(real, path, around):
                        open_folders.append((path, (*around, real)))

    def loose_files(self) -> list[str]:
        """The names of those in the root itself."""
        return [entry.name for entry in self.entries("") if not self._is_folder(entry) and self.kind.takes(entry.name)]

    def folders(self) -> list[str]:
        """The names of the folders in the root, sorted, but for hidden ones."""
        return sorted(
            entry.name for entry in self.entries("") if self._is_folder(entry) and self.takes_folder(entry.name)
        )

    def found(self, *, empty_classes: tuple[str, ...] = (), loose_files: int = 0) -> Found:
        """What there was by now."""
        return Found(
            kind=self.kind,
            suffixes=dict(self._suffixes),
            other_suffixes=dict(self._other_suffixes),
            hidden_folders=tuple(sorted(self._hidden_folders)),
            hidden_files=self._hidden_files,
            loops=tuple(sorted(self._loops)),
            links_inside=tuple(sorted(self._links_inside)),
            empty_classes=empty_classes,
            loose_files=loose_files,
        )

    def entries(self, folder: str) -> list["os.DirEntry[str]"]:
        """Of a folder below the root. Raises SourceError."""
        path = self._root / folder
        try:
            with os.scandir(path) as entries:
                return list(entries)
        except OSError as error:
            raise SourceError(
                f"{path}: {error.strerror}, so its {self.kind.name}s would be missing. Expected a folder of class "
                f"folders that may be listed: correct its permissions, take it out, or check `source.path`."
            ) from error

    def takes_folder(self, path: str) -> bool:
        """Whether a folder is neither hidden nor junk."""
        name = path.rpartition("/")[2]
        is_taken = not name.startswith(".") and name not in JUNK_FOLDERS
        if not is_taken and path not in self._hidden_folders:
            self._hidden_folders.append(path)
        return is_taken

    def _is_folder(self, entry: "os.DirEntry[str]") -> bool:
        try:
            return entry.is_dir()
        except OSError:  # a link in a circle of links: opening it as a file tells
            return False

    def _is_new(self, real: str, path: str, around: tuple[str, ...]) -> bool:
        """Whether a link leads out of the folders that it lies in."""
        if real in around:
            self._loops.append(path)
            return False
        if real.startswith(self._real_root + os.sep):
            self._links_inside.append(path)
        return True

    def _taken(self, path: str) -> Iterator[str]:
        name = path.rpartition("/")[2]
        suffix = os.path.splitext(name)[1].lower()
        if name.startswith(".") or name.lower() in JUNK_FILES:
            self._hidden_files += 1
        elif self.kind.takes(name):
            self._suffixes[suffix] += 1
            yield path
        else:
            self._other_suffixes[suffix] += 1

"""Files that lie in memory only, for libraries that insist on a path.

Guarantees: nothing of them reaches a disk (swap apart, which the operator encrypts or turns off); they are gone when
closed or when the process ends. Of a ``MemoryFolder`` the disk sees names and links. Does not: save memory; the content
is held there whole.

Example:
    >>> with MemoryFile("model.gguf") as file:
    ...     library.write(file.path)
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self


class MemoryFile:
    """An anonymous file; ``folder`` and ``name`` together are ``path``, where this process finds it."""

    folder = "/proc/self/fd"

    def __init__(self, name: str) -> None:
        self._handle = os.memfd_create(name, os.MFD_CLOEXEC)

    @property
    def name(self) -> str:
        """Its name in ``folder``."""
        return str(self._handle)

    @property
    def path(self) -> Path:
        """Where it is opened."""
        return Path(self.folder, self.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._handle)


class MemoryFolder:
    """A folder whose files are anonymous; ``path`` holds links to them, which only this process can follow."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="steward-memory-"))
        self._files: list[MemoryFile] = []

    def add(self, name: str) -> Path:
        """A new, empty file of that plain name."""
        if Path(name).name != name:
            raise ValueError("not a plain name")
        file = MemoryFile(name)
        self._files.append(file)
        place = self.path / name
        place.symlink_to(file.path)
        return place

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, at: TracebackType | None) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        for each in self._files:
            each.__exit__(kind, fault, at)

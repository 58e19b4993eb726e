"""A file that lies in memory only, for libraries that insist on a path.

Guarantees: nothing of it reaches a disk (swap apart, which the operator encrypts or turns off); it is gone when it is
closed or the process ends. Does not: save memory; the content is held there whole.

Example:
    >>> with MemoryFile("model.gguf") as file:
    ...     library.write(file.path)
"""

from __future__ import annotations

import os
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

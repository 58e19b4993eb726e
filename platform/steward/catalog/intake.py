"""The intake folder: base models that an operator laid there to be imported.

Guarantees that a request can name what lies there directly and nothing else of the disk. Example: `offered()` is
`["Llama-3.2-1B.tar.gz", "smol.gguf"]`.
"""

from pathlib import Path

from django.conf import settings

MAX_OFFERED = 200


def intake() -> Path:
    """The folder; it need not exist."""
    return Path(settings.STEWARD_INTAKE)


def offered() -> list[str]:
    """Names in the folder, in order; hidden ones and links are left out."""
    if not intake().is_dir():
        return []
    names = (each.name for each in intake().iterdir() if not each.is_symlink() and not each.name.startswith("."))
    return sorted(names)[:MAX_OFFERED]

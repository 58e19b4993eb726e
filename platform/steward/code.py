"""Which code this is: a digest over the installed packages, and the versions of the libraries that trained.

Guarantees that any change of a source or data file of Steward changes the digest. Speaks of the code installed now; a
fine-tune keeps both as of its dispatch.
"""

import functools
import hashlib
from importlib import metadata
from pathlib import Path

from django.conf import settings

FOLDERS = ("compliance", "domains", "trainers", "platform/steward")
#: What numbers can depend on.
LIBRARIES = (
    "cryptography",
    "numpy",
    "onnxruntime",
    "peft",
    "safetensors",
    "spacy",
    "tokenizers",
    "torch",
    "transformers",
)


@functools.cache
def code_digest() -> str:
    """SHA-256 over `<sha256 of a file>  <its path>` lines, sorted by path, of all files of Steward's packages."""
    whole = hashlib.sha256()
    root = Path(settings.ROOT)
    for folder in FOLDERS:
        here = root / folder if (root / folder).is_dir() else root / Path(folder).name  # installed: all side by side
        for path in sorted(here.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                name = Path(folder).name / path.relative_to(here)
                whole.update(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {name.as_posix()}\n".encode())
    return f"sha256:{whole.hexdigest()}"


@functools.cache
def library_versions() -> dict[str, str]:
    """Name → version of the libraries that are installed."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:  # an optional one, or a machine that does not train
            continue
    return versions

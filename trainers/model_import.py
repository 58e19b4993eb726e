"""``import``, ``download``, ``inspect``: a base model from a folder, a file, an archive or a hub into the house.

Guarantees: what comes in is copied into a staging folder beside the target and judged there, so nothing changes it
between the look and the use; pickles, code and hostile templates are refused before anything is loaded; a GGUF file
becomes safetensors; the digest of what came in and of what was kept are said; the target appears whole or not at all. A
hub is asked only by ``download``, which wants ``--allow-network`` and a commit's full hash, and takes safetensors,
JSON and texts only. Does not: choose a licence; the card's own word for it is passed on.

Example:
    ``python -m trainers import model.tar.gz --to models/base``
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from trainers import gguf_import, model_archive
from trainers.errors import TrainerError
from trainers.events import ModelImported
from trainers.model_folder import is_accepted, is_within, refuse_folder

DEFAULT_MAX_BYTES = 512 << 30
MAX_FILES = 2000
CHUNK_BYTES = 4 << 20
_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")


def look_at(path: Path, run: str) -> ModelImported:
    """What ``inspect`` says of a folder; nothing is copied.

    Raises:
        TrainerError: as ``trainers.inspection.inspect``.
    """
    return _said(run, path, "folder", "")


def bring_in(source: Path, target: Path, run: str, max_bytes: int = DEFAULT_MAX_BYTES) -> ModelImported:
    """Imports a folder, an archive or a GGUF file into ``target``.

    Raises:
        TrainerError: ``model.missing``, ``model.archive``, ``model.gguf``, ``model.space``, ``output.unusable``, and as
            ``trainers.inspection.inspect``; nothing is left then.
    """
    if not source.is_dir() and not source.is_file():  # a pipe that nobody fills has no beginning, a device no end
        raise TrainerError("model.missing", f"no folder or file: {source}", "give a folder, an archive or a GGUF file")
    with _staged(target) as staging:
        room = staging / "arrived"
        if source.is_dir():
            kind, digest = "folder", _copy_folder(source, room, max_bytes)
        elif kind := model_archive.kind_of(source):
            _want_room(source.stat().st_size, staging)
            free = shutil.disk_usage(staging).free
            model_archive.unpack(source, room, min(max_bytes, free - (1 << 28)))
            digest = _digest(source)
        else:
            kind, digest = "file", _copy_file(source, room, max_bytes)
        made = _as_safetensors(room, staging)
        said = _said(run, made, kind, digest)
        _put(made, target)
    return _moved(said, target)


def download(
    repository: str, revision: str, target: Path, run: str, *, is_allowed: bool, max_bytes: int = DEFAULT_MAX_BYTES
) -> ModelImported:
    """Imports a commit of a repository of the hub (``HF_ENDPOINT`` names another one) into ``target``.

    Raises:
        TrainerError: ``network.forbidden``, ``hub.revision`` (no full hash), ``hub.unusable`` (no answer, no such
            commit, pickles only, or other files than were asked for), and as ``bring_in``.
    """
    if not is_allowed:
        raise TrainerError("network.forbidden", "this installation does not ask hubs", "import a local folder instead")
    if not _COMMIT.fullmatch(revision):
        raise TrainerError("hub.revision", "a revision is a commit's full hash", "copy the 40 digits of the commit")
    if not _REPOSITORY.fullmatch(repository):
        raise TrainerError("hub.unusable", "a repository is named owner/name", "check the name")
    with _staged(target) as staging:
        room = staging / "arrived"
        _fetch(repository, revision, room, max_bytes)
        said = _said(run, room, "hub", f"git:{revision}")
        _put(room, target)
    return _moved(said, target)


def _fetch(repository: str, revision: str, room: Path, max_bytes: int) -> None:
    from huggingface_hub import HfApi

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=False)
    try:
        facts = api.model_info(repository, revision=revision, files_metadata=True, timeout=30)
        if facts.sha != revision:
            raise TrainerError("hub.unusable", "the hub answers with another commit", "ask again, or another hub")
        files = {each.rfilename: each for each in facts.siblings or []}
        wanted = sorted(name for name in files if is_accepted(name))
        if not any(name.endswith(".safetensors") for name in wanted):
            raise TrainerError("hub.unusable", "no safetensors in this commit", "choose a commit that has them")
        total = sum(files[name].size or 0 for name in wanted)
        if total > max_bytes:
            raise TrainerError("model.space", f"the model takes {total} bytes; {max_bytes} are allowed", "allow more")
        _want_room(total, room.parent)
        room.mkdir()
        for name in wanted:
            got = Path(api.hf_hub_download(repository, name, revision=revision, local_dir=room.parent / "hub"))
            if got.stat().st_size != (files[name].size or 0):
                raise TrainerError("hub.unusable", f"{name[:80]} has another length than was said", "ask again")
            got.rename(room / name)
    except TrainerError:
        raise
    except Exception as fault:  # noqa: BLE001 - whatever a server of unknown origin answers
        raise TrainerError(
            "hub.unusable", f"the hub did not give the model ({type(fault).__name__})", "check name, commit and network"
        ) from None


@contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """A folder beside the target, gone afterwards."""
    if target.exists():
        raise TrainerError("output.unusable", f"{target} is there already", "give a folder that is not there yet")
    try:
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as fault:
        raise TrainerError("output.unusable", f"{target.parent}: {fault.strerror}", "give another folder") from None
    try:
        yield staging
    except OSError as fault:
        raise TrainerError("output.unusable", f"{target.parent}: {fault.strerror}", "free space, then again") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _copy_folder(source: Path, room: Path, max_bytes: int) -> str:
    """Copies a folder's own files; returns a digest over names and contents. Links that leave it are refused."""
    root, whole, total = source.resolve(), hashlib.sha256(), 0
    files = [each for each in sorted(source.iterdir()) if not each.name.startswith(".")]
    if len(files) > MAX_FILES:
        raise TrainerError("model.refused", f"{source}: more than {MAX_FILES} files", "give the model's own folder")
    for each in files:
        if not is_within(each, root):
            raise TrainerError(
                "model.refused", f"{each.name[:80]!r}: a link that leaves the folder", "copy the file in"
            )
        if not each.is_file() or not each.name.isprintable():
            raise TrainerError(
                "model.refused", f"{each.name[:80]!r}: no plain file", "only the model's own files belong here"
            )
        total += each.stat().st_size
    if total > max_bytes:
        raise TrainerError("model.space", f"the model takes {total} bytes; {max_bytes} are allowed", "allow more")
    _want_room(total, room.parent)
    if not any(each.suffix.lower() == ".gguf" for each in files):
        refuse_folder(source)  # before anything large is copied; the copy is judged again
    room.mkdir(mode=0o700)
    for each in files:
        whole.update(f"{_copied(each, room / each.name)}  {each.name}\n".encode())
    return f"sha256:{whole.hexdigest()}"


def _copy_file(source: Path, room: Path, max_bytes: int) -> str:
    with source.open("rb") as stream:
        head = stream.read(8)
    if head[:4] != b"GGUF":
        hint = (
            "give the folder with config.json and tokenizer" if source.suffix == ".safetensors" else "pack the folder"
        )
        raise TrainerError("model.refused", f"{source.name}: a single file is imported where it is GGUF", hint)
    if source.stat().st_size > max_bytes:
        raise TrainerError("model.space", f"the file is larger than {max_bytes} bytes", "allow more")
    gguf_import.check_source(source)
    _want_room(source.stat().st_size * 4, room.parent)
    room.mkdir(mode=0o700)
    return f"sha256:{_copied(source, room / 'model.gguf')}"


def _copied(source: Path, target: Path) -> str:
    digest = hashlib.sha256()
    with source.open("rb") as stream, target.open("xb") as sink:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
            sink.write(chunk)
    return digest.hexdigest()


def _digest(source: Path) -> str:
    with source.open("rb") as stream:
        return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}"


def _want_room(needed: int, place: Path) -> None:
    if (free := shutil.disk_usage(place).free) < needed + (1 << 28):
        raise TrainerError(
            "model.space", f"{needed} bytes are needed, {free} are free", "free space, then import again"
        )


def _as_safetensors(room: Path, staging: Path) -> Path:
    """The folder to keep: what arrived, or what its one GGUF file becomes."""
    files = sorted(each for each in room.iterdir() if each.suffix.lower() == ".gguf")
    if not files:
        return room
    if len(files) > 1:
        raise TrainerError("model.gguf", "several GGUF files", "merge the parts with llama-gguf-split, then import one")
    made = staging / "made"
    made.mkdir(mode=0o700)
    gguf_import.convert(files[0], made)
    for each in room.iterdir():
        if each.name.upper().startswith(("LICENSE", "LICENCE", "README", "NOTICE")) and not (made / each.name).exists():
            shutil.copyfile(each, made / each.name)
    return made


def _put(made: Path, target: Path) -> None:
    for each in made.iterdir():
        if each.name.startswith("."):
            shutil.rmtree(each) if each.is_dir() else each.unlink()
        else:
            each.chmod(0o644)
    made.chmod(0o755)
    os.replace(made, target)


def _said(run: str, path: Path, kind: str, source_digest: str) -> ModelImported:
    refuse_folder(path)
    from trainers.inspection import inspect  # which loads torch; what is refused is refused without it

    found = inspect(path)
    return ModelImported(
        run=run,
        path=str(path),
        kind=kind,
        digest=found.folder.digest,
        source_digest=source_digest or found.folder.digest,
        architecture=found.architecture,
        parameters=found.folder.parameters,
        context_length=found.context_length,
        vocabulary=found.vocabulary,
        embedding_rows=found.embedding_rows,
        has_template=found.has_template,
        licence=found.licence,
        bytes=found.bytes,
    )


def _moved(said: ModelImported, target: Path) -> ModelImported:
    import dataclasses

    return dataclasses.replace(said, path=str(target))

"""Making an export of a released model, and handing it out as one archive with card, proof and signature.

Guarantees that an export is offered only once a process that saw nothing but the sealed file answered within the form's
limits; of a compressed form, which is to lose something, that file gives what was measured, and it loses no more of the
score than the workspace's policy allows. Limits and policy are those of the day on which it leaves. What is handed out
is announced in the ledger before and recorded after; the model is decrypted while it is sent and never lies on a disk
in the clear. Does not: encrypt what leaves, which is the receiver's door.
"""

import hashlib
import io
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from django.conf import settings

from compliance.vault import VaultError
from steward.accounts.permissions import require
from steward.accounts.roles import Permission
from steward.assurance.compressing import arguments_for, most_loss_percent
from steward.audit.actor import Actor, Refused, UserError
from steward.audit.events import Event
from steward.audit.recording import record_intent
from steward.datasets.models import Split
from steward.recovery import CONNECTION_LOST, unforeseen
from steward.releases import export_actions
from steward.releases.evidence.rendering import json_document
from steward.releases.evidence.signature import adapter_manifest, public_key, sign_model
from steward.releases.models import Export, ExportForm, ExportState
from steward.runs.asking import TrainerFailed, ask_trainer, shards_of
from steward.runs.shards import workflow_for
from steward.runs.specs import output_context, run_folder
from steward.vault.models import SealedObject
from steward.vault.objects import open_object
from trainers import events

WORKER = Actor.system("worker")
READ_BYTES = 1 << 20
#: What the trainer says when the exported model does not answer as the trained one.
NOT_ALIKE = "export.parity"

EXPORTS = Export.objects.select_related(
    "workspace",
    "sealed__key",
    "release__model_version__adapter__key",
    "release__model_version__workspace",
    "release__model_version__fine_tune__base_model",
    "release__model_version__fine_tune__dataset_version__dataset__key",
    "release__model_version__fine_tune__dataset_version__redaction",
)


def make_export(export_id: str) -> Export:
    """Makes and proves an export; does nothing if it is over."""
    export = EXPORTS.get(pk=export_id)
    if export.state != ExportState.RUNNING:
        return export
    try:
        *said, ended = _ask(export)
        measured = _measured(export, said)
        if isinstance(ended, events.ExportFinished | events.CompressionFinished) and measured is not None:
            if isinstance(measured, export_actions.CompressedMeasured) and measured.reason:
                _written(export, ended).unlink()
                return export_actions.withdraw_export(
                    actor=WORKER, export=export, measured=measured, message=measured.reason
                )
            sealed, digest = _sealed(export, ended)
            return export_actions.finish_export(
                actor=WORKER, export=export, measured=measured, digest=digest, sealed=sealed
            )
        failed = (
            ended if isinstance(ended, events.RunFailed) else events.RunFailed("", "export", "it stopped", "ask again")
        )
        message = f"{failed.message}; {failed.hint}"
        if failed.code == NOT_ALIKE and measured is not None:
            return export_actions.withdraw_export(actor=WORKER, export=export, measured=measured, message=message)
        return export_actions.fail_export(actor=WORKER, export=export, code=failed.code, message=message)
    except CONNECTION_LOST:
        raise
    except (TrainerFailed, UserError, VaultError, OSError) as error:
        code = getattr(error, "code", type(error).__name__)
        return export_actions.fail_export(actor=WORKER, export=export, code=str(code), message=str(error))
    except Exception as error:
        export_actions.fail_export(actor=WORKER, export=export, code=type(error).__name__, message=unforeseen(error))
        raise


def _ask(export: Export) -> list[events.Event]:
    model_version = export.release.model_version
    workflow = workflow_for(model_version.workspace.domain, model_version.fine_tune.workflow)
    if export.form == ExportForm.COMPRESSED:
        asked = [*arguments_for(model_version, [export.way], workflow.metric), "--keep", export.way]
        with shards_of(export, model_version, list(Split)) as (key, spec):
            return ask_trainer(model_version, "compress", spec, key, asked, export.pk)
    asked = ["--format", export.form, "--metric", workflow.metric, "--max-new-tokens", str(workflow.max_new_tokens)]
    with shards_of(export, model_version, [Split.VALIDATION]) as (key, spec):
        return ask_trainer(model_version, "export", spec, key, asked, export.pk)


def _measured(export: Export, said: Sequence[events.Event]) -> export_actions.Measured | None:
    """What was measured of an export; None if it did not come to that."""
    # The last one: a folder is tried in several precisions.
    proof = next((each for each in reversed(said) if isinstance(each, events.ExportMeasured)), None)
    if proof is None or export.form != ExportForm.COMPRESSED:
        return proof
    tuned, way = (each for each in said if isinstance(each, events.CompressionMeasured))
    return export_actions.CompressedMeasured(tuned, way, proof, most_loss_percent(export.workspace_id))


def _written(export: Export, finished: events.ExportFinished | events.CompressionFinished) -> Path:
    """The file that the trainer left."""
    name = finished.kept_file if isinstance(finished, events.CompressionFinished) else finished.file
    return run_folder(export.release.model_version.fine_tune) / name


def _sealed(export: Export, finished: events.ExportFinished | events.CompressionFinished) -> tuple[SealedObject, str]:
    """The file as an object of the vault, under a name of this export, and the digest of its content."""
    fine_tune = export.release.model_version.fine_tune
    written = _written(export, finished)
    target = written.with_name(f"export-{export.pk}.sealed")
    kind = written.stem if isinstance(finished, events.CompressionFinished) else export.form
    written.rename(target)
    sealed = SealedObject(
        workspace=export.workspace,
        key=export.release.model_version.adapter.key,
        kind=kind,
        bound_to=output_context(fine_tune)["object"],
        path=str(target.relative_to(settings.STEWARD_HOME)),
        plain_bytes=0,
        commitment=bytes.fromhex(finished.commitment),
        sealed_sha256=finished.sealed_digest,
    )
    content = hashlib.sha256()
    with open_object(sealed) as source:
        while piece := source.read(READ_BYTES):
            sealed.plain_bytes += len(piece)
            content.update(piece)
    return sealed, f"sha256:{content.hexdigest()}"


# --- handing out ------------------------------------------------------------------------------------------------------


def hand_out(*, actor: Actor, export: Export) -> Iterator[bytes]:
    """The archive of an export in pieces: the model, its card, `parity.json`, `model.sig` and the public key.

    Raises:
        Denied: no compliance officer.
        Refused: not ready, refused by a rule of today, or its content is not what was proven.
    """
    require(actor, Permission.EXPORT_MODEL, export.workspace, export)
    if export.state != ExportState.READY or export.sealed is None:
        raise Refused("This export is not ready.", code="not_ready", subject=export)
    record_intent(
        Event.EXPORT_HANDED_OUT,
        export,
        actor=actor,
        **export.named_in_ledger,
        audience=export.release.audience,
    )
    members = _manifest(export)
    signature = sign_model(str(export.release.model_version.pk), members)
    extras = {
        "model.sig": signature,
        "model-signing.pub": public_key(),
        "parity.json": json_document(
            {"form": export.form, "way": export.way, "digest": export.digest, **export.figures}
        ),
    }
    package = json_document({**members, **{name: hashlib.sha256(each).hexdigest() for name, each in extras.items()}})
    export_actions.record_handing_out(
        actor=actor, export=export, package=f"sha256:{hashlib.sha256(package).hexdigest()}"
    )
    return _archive(export, extras)


def file_name(export: Export) -> str:
    """What the archive is called when it is saved."""
    return f"{export.way.replace(':', '_') or export.form}-{export.pk}.tar"


def _is_one_file(export: Export) -> bool:
    return export.form.startswith("gguf-")


def _manifest(export: Export) -> dict[str, str]:
    """Name → SHA-256 (hex) of the model's own files, read anew.

    Raises:
        Refused: the content is not what was proven.
    """
    assert export.sealed is not None
    if _is_one_file(export):
        with open_object(export.sealed) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        if f"sha256:{digest}" != export.digest:
            raise Refused("The export is not the one that was proven.", code="digest_changed", subject=export)
        return {"model.gguf": digest}
    return adapter_manifest(export.sealed, export.digest)


def _archive(export: Export, extras: dict[str, bytes]) -> Iterator[bytes]:
    assert export.sealed is not None
    for name, content in sorted(extras.items()):
        yield _header(name, len(content)) + content + bytes(-len(content) % tarfile.BLOCKSIZE)
    with open_object(export.sealed) as file:
        if _is_one_file(export):
            yield _header("model.gguf", export.size_bytes)
            while piece := file.read(READ_BYTES):
                yield piece
            yield bytes(-export.size_bytes % tarfile.BLOCKSIZE)
        else:
            yield from _members(file)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _members(file: io.BufferedReader) -> Iterator[bytes]:
    """The members of the sealed archive, as they are."""
    with tarfile.open(fileobj=file, mode="r|") as inside:
        for info in inside:
            source = inside.extractfile(info)
            assert source is not None
            yield _header(info.name, info.size)
            while piece := source.read(READ_BYTES):
                yield piece
            yield bytes(-info.size % tarfile.BLOCKSIZE)


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o644
    return info.tobuf(tarfile.GNU_FORMAT)

"""Bringing base models in: asked for by an officer or an administrator, done by a job, refused with its reasons."""

import re

from django.conf import settings
from django.utils import timezone

from steward.accounts.models import Workspace
from steward.accounts.permissions import require
from steward.accounts.roles import Permission
from steward.audit.actor import Actor, Refused
from steward.audit.events import Event
from steward.audit.recording import audited, record
from steward.catalog.folders import FolderFacts
from steward.catalog.intake import offered
from steward.catalog.models import BaseModel, ImportKind, ImportState, ModelImport
from trainers.events import ModelImported

_COMMIT = re.compile(r"[0-9a-f]{40}")
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/[A-Za-z0-9][A-Za-z0-9_.-]{0,95}")
_LICENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 .+-]{0,79}")


@audited(Event.BASE_MODEL_IMPORT_REQUESTED)
def import_base_model(
    *, actor: Actor, workspace: Workspace, name: str, licence: str, location: str, revision: str = ""
) -> ModelImport:
    """Asks for a base model to be judged, copied and registered.

    Args:
        location: a name in the intake folder; or, with `revision`, a repository `owner/name` of the site's hub.
        revision: a commit's full hash.
        licence: SPDX name or title; a model without one cannot be released.

    Raises:
        Denied: neither compliance officer nor administrator of the workspace.
        Refused: the name is taken or empty, no licence, nothing of that name in the intake folder, no hub is allowed
            here, or the revision is no commit.
    """
    from steward.catalog.jobs import import_model

    require(actor, Permission.REGISTER_MODEL, workspace)
    name, licence, location, revision = name.strip(), licence.strip(), location.strip(), revision.strip()
    if not name or len(name) > 160 or not name.isprintable():
        raise Refused("Give the model a name of at most 160 characters.", code="name_missing", subject=workspace)
    if not _LICENCE.fullmatch(licence):
        raise Refused("Give the model's licence, for example Apache-2.0.", code="licence_missing", subject=workspace)
    is_taken = BaseModel.objects.filter(name=name).exists()
    if is_taken or ModelImport.objects.filter(name=name, state=ImportState.RUNNING).exists():
        raise Refused(
            "A model of this name is there or on its way. Choose another.", code="name_taken", subject=workspace
        )
    kind = ImportKind.HUB if revision or "/" in location else ImportKind.INTAKE
    if kind is ImportKind.HUB:
        _check_hub(workspace, location, revision)
    elif location not in offered():
        raise Refused(
            "Nothing of this name lies in the intake folder. An operator puts models there.",
            code="not_in_intake",
            subject=workspace,
        )
    asked = ModelImport(
        workspace=workspace,
        name=name,
        licence=licence,
        kind=kind,
        location=location,
        revision=revision,
        requested_by_id=actor.user_id,
    )
    asked.save(force_insert=True)
    record(asked, kind=str(kind))
    import_model.configure(lock=f"import-{asked.pk}").defer(import_id=str(asked.pk))
    return asked


def _check_hub(workspace: Workspace, repository: str, revision: str) -> None:
    if not settings.STEWARD_HUB:
        raise Refused(
            "This installation asks no hub. An operator may allow one (STEWARD_HUB), or lay the model into the intake "
            "folder.",
            code="hub_forbidden",
            subject=workspace,
        )
    if not _REPOSITORY.fullmatch(repository):
        raise Refused("A repository is named owner/name.", code="repository_invalid", subject=workspace)
    if not _COMMIT.fullmatch(revision):
        raise Refused(
            "Pin the revision: the commit's full hash, 40 digits.", code="revision_missing", subject=workspace
        )


@audited(Event.BASE_MODEL_IMPORTED)
def finish_import(*, actor: Actor, asked: ModelImport, facts: FolderFacts, found: ModelImported) -> BaseModel:
    """Registers what was judged and copied.

    Raises:
        Refused: the import is over, or the name was taken meanwhile.
    """
    locked = ModelImport.objects.select_for_update().get(pk=asked.pk)
    if locked.state != ImportState.RUNNING:
        raise Refused("This import is over.", code="wrong_state", subject=locked)
    if BaseModel.objects.filter(name=locked.name).exists():
        raise Refused("A model of this name was registered meanwhile.", code="name_taken", subject=locked)
    origin = f"{locked.location}@{locked.revision}" if locked.revision else f"intake/{locked.location}"
    model = BaseModel(
        name=locked.name,
        path=str(facts.path),
        digest=facts.digest,
        licence=locked.licence,
        source=f"{origin} ({found.kind}, {found.source_digest})"[:300],
        parameters=facts.parameters,
        context_length=facts.context_length,
        disk_bytes=facts.disk_bytes,
    )
    model.save(force_insert=True)
    locked.base_model = model
    locked.state = ImportState.DONE
    locked.facts = {
        "kind": found.kind,
        "source_digest": found.source_digest,
        "architecture": found.architecture,
        "vocabulary": found.vocabulary,
        "embedding_rows": found.embedding_rows,
        "has_template": found.has_template,
        "card_licence": found.licence,
    }
    locked.finished_at = timezone.now()
    locked.save()
    licence = re.sub(r"[^A-Za-z0-9.+-]", "_", locked.licence)
    record(
        locked,
        after=facts.digest,
        kind=re.sub(r"[^a-z]", "_", found.kind),
        source=found.source_digest,
        licence=licence,
        bytes=facts.disk_bytes,
    )
    return model


@audited(Event.BASE_MODEL_IMPORT_FAILED)
def fail_import(*, actor: Actor, asked: ModelImport, code: str, message: str) -> ModelImport:
    """Notes why a model was not taken."""
    locked = ModelImport.objects.select_for_update().get(pk=asked.pk)
    locked.state = ImportState.FAILED
    locked.failure = message[:600]
    locked.finished_at = timezone.now()
    locked.save()
    record(locked, code=code.replace(" ", "_")[:60])
    return locked

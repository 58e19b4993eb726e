"""Everything that changes which base models may be loaded."""

from steward.accounts.models import User
from steward.audit.actor import Actor, Denied, Refused
from steward.audit.events import Event
from steward.audit.recording import audited, record
from steward.catalog.folders import FolderFacts
from steward.catalog.models import BaseModel


@audited(Event.BASE_MODEL_REGISTERED)
def register_base_model(
    *, actor: Actor, name: str, facts: FolderFacts, licence: str, source: str, is_bundled: bool = False
) -> BaseModel:
    """Makes a checked model folder available to all workspaces.

    Args:
        facts: from `folders.inspect_folder`, which refuses pickle, code and damaged files.
        licence: SPDX name or title; a model without one cannot be released.

    Raises:
        Denied: not an administrator of the installation.
        Refused: the name is taken by other content, or no licence is given.
    """
    if not actor.is_system and not User.objects.filter(pk=actor.user_id, is_superuser=True).exists():
        raise Denied("Only an administrator of the installation may register base models.")
    if not licence.strip():
        raise Refused("Give the model's licence.", code="licence_missing")
    known = BaseModel.objects.filter(name=name).first()
    if known is not None and known.digest != facts.digest:
        raise Refused(
            f"A model named {name!r} with other content is registered. Choose another name.", code="name_taken"
        )
    model = known or BaseModel(name=name)
    model.path = str(facts.path)
    model.digest = facts.digest
    model.licence = licence
    model.source = source
    model.parameters = facts.parameters
    model.context_length = facts.context_length
    model.disk_bytes = facts.disk_bytes
    model.is_bundled = is_bundled
    model.save()
    record(model, after=facts.digest, bytes=facts.disk_bytes)
    return model

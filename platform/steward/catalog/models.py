"""Base models that this installation may load: a folder on disk, its digest, its licence; and how each came in."""

import uuid

from django.conf import settings
from django.db import models

from steward.accounts.models import Workspace
from steward.audit.actor import Actor


class BaseModel(models.Model):
    """A local model folder, checked to hold safetensors and no code. Facts beyond these stand in the pack's catalog."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=160, unique=True)
    path = models.CharField(max_length=500, help_text="Folder; the bundled model's is a cache that is made on demand.")
    digest = models.CharField(max_length=71, help_text="SHA-256 over names and contents of the folder's files.")
    licence = models.CharField(max_length=80)
    source = models.CharField(max_length=300)
    parameters = models.BigIntegerField(help_text="Number of weights.")
    context_length = models.PositiveIntegerField(help_text="Tokens.")
    disk_bytes = models.BigIntegerField()
    is_bundled = models.BooleanField(default=False)
    registered_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-is_bundled", "name"]

    def __str__(self) -> str:
        return self.name


class ImportState(models.TextChoices):
    RUNNING = "running", "Running"
    DONE = "done", "Imported"
    FAILED = "failed", "Refused"


class ImportKind(models.TextChoices):
    INTAKE = "intake", "From the intake folder"
    HUB = "hub", "From the hub"


class ModelImportQuerySet(models.QuerySet["ModelImport"]):
    def visible_to(self, actor: Actor) -> "ModelImportQuerySet":
        """Imports asked for in the actor's workspaces."""
        return self.filter(workspace__in=Workspace.objects.visible_to(actor))


class ModelImport(models.Model):
    """One try to bring a base model in. The model, once it is in, serves all workspaces."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(
        Workspace, on_delete=models.PROTECT, related_name="+", help_text="Whose officer or administrator asked."
    )
    name = models.CharField(max_length=160)
    licence = models.CharField(max_length=80, help_text="As the person who asked states it.")
    kind = models.CharField(max_length=8, choices=ImportKind.choices)
    location = models.CharField(max_length=300, help_text="A name in the intake folder, or owner/name at the hub.")
    revision = models.CharField(max_length=40, blank=True, help_text="The commit, at a hub.")
    state = models.CharField(max_length=8, choices=ImportState.choices, default=ImportState.RUNNING)
    facts = models.JSONField(default=dict, help_text="What was found: architecture, digests, the card's own licence.")
    failure = models.CharField(max_length=600, blank=True)
    base_model = models.ForeignKey(BaseModel, on_delete=models.PROTECT, null=True, related_name="imports")
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)

    objects = ModelImportQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return self.name

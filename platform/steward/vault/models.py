"""Keys and objects as rows. A key is stored wrapped under its parent only; a destroyed key has no bytes left."""

import uuid

from django.db import models

from compliance.vault import ObjectContext
from steward.accounts.models import Workspace


class KeyLevel(models.TextChoices):
    """Place in the hierarchy KMS root → workspace → dataset → run. Subject keys stand in `datasets.Subject`."""

    WORKSPACE = "workspace", "Workspace"
    DATASET = "dataset", "Dataset"
    RUN = "run", "Run"
    MODEL = "model", "Model"


class DataKey(models.Model):
    """One key of 32 bytes, wrapped. `wrapped` is None once it was destroyed: what it sealed is gone for good."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="keys")
    level = models.CharField(max_length=12, choices=KeyLevel.choices)
    parent = models.ForeignKey("self", on_delete=models.PROTECT, null=True, related_name="children")
    wrapped = models.BinaryField(null=True)
    epoch = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField(auto_now_add=True)
    destroyed_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=models.Q(level="workspace", parent__isnull=True) | models.Q(parent__isnull=False),
                name="key_has_parent",
            ),
            models.CheckConstraint(
                condition=models.Q(wrapped__isnull=False, destroyed_at__isnull=True)
                | models.Q(wrapped__isnull=True, destroyed_at__isnull=False),
                name="key_destroyed_has_no_bytes",
            ),
            models.UniqueConstraint(
                fields=["workspace"],
                condition=models.Q(level="workspace", destroyed_at__isnull=True),
                name="key_one_per_workspace",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_level_display()} key {self.id}"


class SealedObject(models.Model):
    """A file in the vault: where it lies, under which key, and the context it is bound to."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="sealed_objects")
    key = models.ForeignKey(DataKey, on_delete=models.PROTECT, related_name="sealed")
    kind = models.CharField(max_length=48)
    dataset = models.CharField(max_length=40, default="none")
    bound_to = models.CharField(max_length=40, help_text="The object id that the ciphertext is bound to.")
    path = models.CharField(max_length=300, help_text="Relative to STEWARD_HOME.")
    plain_bytes = models.BigIntegerField()
    commitment = models.BinaryField(help_text="Fails first for a wrong key or context, before any byte is decrypted.")
    sealed_sha256 = models.CharField(max_length=71, help_text="Digest of the ciphertext, safe to publish.")
    created_at = models.DateTimeField(auto_now_add=True)
    destroyed_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"

    @property
    def context(self) -> ObjectContext:
        """The associated data that the ciphertext is bound to."""
        return ObjectContext(
            workspace=str(self.workspace_id), dataset=self.dataset, object=self.bound_to, kind=self.kind, version="1"
        )

"""Base models that this installation may load: a folder on disk, its digest, its licence."""

import uuid

from django.db import models


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

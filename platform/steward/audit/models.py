"""Ledger rows. Entries, nodes and checkpoints are append-only: triggers (see migrations) refuse all else.

What the triggers cannot stop, a superuser who disables them, the signed checkpoints show: see `compliance.ledger`.
"""

from typing import Any

from django.db import models


class OutboxEntry(models.Model):
    """An event that has committed with its action and waits for the sealer to give it an index."""

    sequence = models.BigAutoField(primary_key=True)
    event_id = models.UUIDField(unique=True)
    body = models.BinaryField()

    class Meta:
        db_table = "ledger_outbox"


class EntryQuerySet(models.QuerySet["LedgerEntry"]):
    def visible_to(self, workspace_ids: Any) -> "EntryQuerySet":
        """Entries of the given workspaces, newest first."""
        return self.filter(workspace__in=[str(pk) for pk in workspace_ids]).order_by("-index")


class LedgerEntry(models.Model):
    """One sealed event. `body` is the evidence; the columns beside it are copies to search by."""

    index = models.BigIntegerField(primary_key=True)
    event_id = models.UUIDField(unique=True)
    body = models.BinaryField()
    leaf_hash = models.BinaryField()
    time = models.DateTimeField(db_index=True)
    workspace = models.CharField(max_length=40, null=True, db_index=True)
    actor = models.CharField(max_length=80)
    action = models.CharField(max_length=60)
    outcome = models.CharField(max_length=10)
    object_type = models.CharField(max_length=40)
    object_id = models.CharField(max_length=80, null=True)

    objects = EntryQuerySet.as_manager()

    class Meta:
        db_table = "ledger_entry"
        verbose_name_plural = "ledger entries"
        indexes = [models.Index(fields=["object_type", "object_id"], name="ledger_entry_object")]

    def __str__(self) -> str:
        return f"{self.index} {self.action}"


class LedgerNode(models.Model):
    """Hash of a complete subtree of 2**level leaves, the `position`-th of its level: proofs read O(log n) of them."""

    pk = models.CompositePrimaryKey("level", "position")
    level = models.SmallIntegerField()
    position = models.BigIntegerField()
    hash = models.BinaryField()

    class Meta:
        db_table = "ledger_node"


class LedgerCheckpoint(models.Model):
    """A signed tree head (C2SP tlog-checkpoint in a signed note)."""

    tree_size = models.BigIntegerField(primary_key=True)
    root_hash = models.BinaryField()
    note = models.TextField()
    sealed_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        db_table = "ledger_checkpoint"

    def __str__(self) -> str:
        return f"checkpoint over {self.tree_size} entries"

"""The ledger: entries of the caller's workspaces with proofs, the newest checkpoint, the key that signs it."""

import base64
import json
from typing import Any

from django.http import Http404
from drf_spectacular.utils import OpenApiParameter, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from steward.accounts.roles import Permission
from steward.api.door import Door, one_of, uuid_of
from steward.api.pages import PAGE_PARAMETERS, page, page_of
from steward.api.parameters import WORKSPACE
from steward.audit.events import Event
from steward.audit.models import LedgerEntry
from steward.audit.proofs import inclusion_proof, latest_checkpoint
from steward.keyring import verification_key


class EntryShape(serializers.ModelSerializer[LedgerEntry]):
    facts = serializers.SerializerMethodField(help_text="Counts, digests, enum values and opaque ids.")

    class Meta:
        model = LedgerEntry
        fields = [
            "index",
            "event_id",
            "time",
            "workspace",
            "actor",
            "action",
            "outcome",
            "object_type",
            "object_id",
            "facts",
        ]

    def get_facts(self, entry: LedgerEntry) -> dict[str, Any]:
        return dict(json.loads(bytes(entry.body))["facts"])


class ProofShape(serializers.Serializer[Any]):
    tree_size = serializers.IntegerField()
    root_hash = serializers.CharField(help_text="Hex.")
    hashes = serializers.ListField(child=serializers.CharField(), help_text="RFC 6962 audit path, hex.")
    checkpoint = serializers.CharField(help_text="The signed note over this tree.")


class EntryDetailShape(EntryShape):
    body = serializers.SerializerMethodField(help_text="The canonical JSON whose leaf is in the tree, base64.")
    leaf_hash = serializers.SerializerMethodField(help_text="Hex.")
    proof = serializers.SerializerMethodField(help_text="Proves that this entry is in the tree of the checkpoint.")

    class Meta(EntryShape.Meta):
        fields = [*EntryShape.Meta.fields, "body", "leaf_hash", "proof"]

    def get_body(self, entry: LedgerEntry) -> str:
        return base64.b64encode(bytes(entry.body)).decode()

    def get_leaf_hash(self, entry: LedgerEntry) -> str:
        return bytes(entry.leaf_hash).hex()

    @extend_schema_field(ProofShape)
    def get_proof(self, entry: LedgerEntry) -> dict[str, Any]:
        checkpoint = self.context["checkpoint"]
        return {
            "tree_size": checkpoint.tree_size,
            "root_hash": bytes(checkpoint.root_hash).hex(),
            "hashes": [node.hex() for node in inclusion_proof(entry.index, checkpoint.tree_size)],
            "checkpoint": checkpoint.note,
        }


class CheckpointShape(serializers.Serializer[Any]):
    tree_size = serializers.IntegerField()
    root_hash = serializers.CharField()
    note = serializers.CharField(help_text="C2SP tlog-checkpoint in a signed note.")
    sealed_at = serializers.DateTimeField()


class KeyShape(serializers.Serializer[Any]):
    key = serializers.CharField(help_text="Compare it with the one you were given by another way.")


class Entries(Door):
    @extend_schema(
        responses=page_of(EntryShape, "Entry"),
        parameters=[
            WORKSPACE,
            OpenApiParameter("action", str, enum=[str(event) for event in Event]),
            OpenApiParameter("object_id", str),
            *PAGE_PARAMETERS,
        ],
        operation_id="list_entries",
        tags=["ledger"],
    )
    def get(self, request: Request) -> Response:
        """Entries of the workspaces whose ledger the caller may read, newest first."""
        rows = _entries_of(self)
        if chosen := request.query_params.get("workspace"):
            rows = rows.filter(workspace=str(uuid_of(chosen, "workspace")))
        if action := one_of([str(event) for event in Event], request.query_params.get("action"), "action"):
            rows = rows.filter(action=action)
        if object_id := request.query_params.get("object_id"):
            rows = rows.filter(object_id=_printable(object_id))
        return page(request, rows, EntryShape, ("-index",))


def _entries_of(door: Door) -> Any:
    return LedgerEntry.objects.visible_to(door.workspaces(Permission.VIEW_LEDGER).values_list("pk", flat=True))


def _printable(text: str) -> str:
    if not text.isprintable() or len(text) > 80:
        raise ValidationError({"object_id": "At most 80 printable characters."}, code="invalid")
    return text


class EntryDetail(Door):
    @extend_schema(responses=EntryDetailShape, operation_id="get_entry", tags=["ledger"])
    def get(self, request: Request, index: int) -> Response:
        """One entry with its inclusion proof in the newest checkpoint's tree."""
        entry = _entries_of(self).filter(index=index).first() if index < 1 << 63 else None
        checkpoint = latest_checkpoint()
        if entry is None or checkpoint is None:
            raise Http404
        return Response(EntryDetailShape(entry, context={"checkpoint": checkpoint}).data)


class Checkpoint(Door):
    @extend_schema(responses=CheckpointShape, operation_id="get_checkpoint", tags=["ledger"])
    def get(self, request: Request) -> Response:
        """The newest signed tree head. Keep it: a later one must be consistent with it."""
        self.workspaces(Permission.VIEW_LEDGER)
        newest = latest_checkpoint()
        if newest is None:
            raise Http404
        return Response(
            {
                "tree_size": newest.tree_size,
                "root_hash": bytes(newest.root_hash).hex(),
                "note": newest.note,
                "sealed_at": newest.sealed_at,
            }
        )


class VerifierKey(Door):
    @extend_schema(responses=KeyShape, operation_id="get_verifier_key", tags=["ledger"])
    def get(self, request: Request) -> Response:
        """The public key that checkpoints are signed with, as a note verifier key."""
        return Response({"key": str(verification_key())})

"""How a workspace redacts: versions of its profile and the phrases that are always or never masked, each by two people.

Permissions and refusals are those of the console: officers propose, decide and look at phrases; reviewers may propose a
phrase. A phrase is shown on request only, which is recorded, and no list names it.
"""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from compliance.redaction.profile import ENTITY_TYPES, OPERATORS
from domains.packs import load_pack
from steward.api.door import Door, idempotent, one_of
from steward.api.pages import PAGE_PARAMETERS, page, page_of
from steward.api.parameters import KEY, PROFILES, STATE_OF_ENTRY, STATE_OF_PROFILE, TYPES
from steward.profiles import actions
from steward.profiles.composing import LIMITS, composed, differences, policy_digest
from steward.profiles.models import EntryState, ListEntry, ListKind, ProfileState, ProfileVersion

_VERSIONS = ProfileVersion.objects.select_related("workspace")
_ENTRIES = ListEntry.objects.select_related("workspace")


class SettingsShape(serializers.Serializer[Any]):
    """What is done with one entity type; a proposal names those that differ from the shipped profile."""

    on = serializers.BooleanField(required=False, help_text="Whether it is looked for.")
    threshold = serializers.FloatField(required=False, min_value=0, max_value=1, help_text="Least score of a finding.")
    operator = serializers.ChoiceField(required=False, choices=sorted(OPERATORS))
    reversible = serializers.BooleanField(required=False, help_text="Whether originals are kept, sealed.")
    reason = serializers.CharField(required=False, max_length=300)
    citation = serializers.CharField(required=False, max_length=120)

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if isinstance(data, dict) and (unknown := sorted(set(data) - set(self.fields))):
            raise serializers.ValidationError({unknown[0][:30]: "There is no such setting."}, code="unknown")
        return dict(super().to_internal_value(data))


class Overrides(serializers.DictField):
    """Entity type → settings."""

    child = SettingsShape()

    def to_representation(self, value: Any) -> dict[str, Any]:
        kinds = {kind: settings for kind, settings in value.items() if kind != LIMITS}
        return dict(super().to_representation(kinds))

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        found: dict[str, Any] = super().to_internal_value(data)
        if unknown := sorted(set(found) - ENTITY_TYPES):
            raise serializers.ValidationError(f"No such entity type: {unknown[0][:30]}.", code="type_unknown")
        return found


class LimitsShape(serializers.Serializer[Any]):
    """How far columns that an outsider may know may single people out; null is no limit."""

    k_min = serializers.IntegerField(required=False, allow_null=True, min_value=0)
    l_min = serializers.IntegerField(required=False, allow_null=True, min_value=0)
    max_risk = serializers.FloatField(required=False, allow_null=True, max_value=1)
    average_risk = serializers.FloatField(required=False, allow_null=True, max_value=1)
    small_cells = serializers.IntegerField(required=False, allow_null=True, min_value=0)


class ProfileInForceShape(serializers.Serializer[Any]):
    base = serializers.CharField(help_text="The shipped profile it builds on.")
    title = serializers.CharField()
    basis = serializers.CharField(help_text="The law it follows.")
    version = serializers.UUIDField(allow_null=True, help_text="The approved version; null: as shipped.")
    digest = serializers.CharField(help_text="Of the policy, without the lists.")
    entities = Overrides(help_text="Each entity type with its settings.")
    limits = LimitsShape(help_text="On re-identification; they block an approval.")
    denied = serializers.IntegerField(help_text="Phrases that are always masked.")
    allowed = serializers.IntegerField(help_text="Phrases that are never masked.")


class DifferenceShape(serializers.Serializer[Any]):
    type = serializers.CharField()
    setting = serializers.CharField()
    before = serializers.JSONField()
    after = serializers.JSONField()


class ProfileVersionShape(serializers.ModelSerializer[ProfileVersion]):
    overrides = Overrides(help_text="What differs from the shipped profile.")
    limits = serializers.SerializerMethodField(help_text="Limits that differ from the shipped profile.")

    class Meta:
        model = ProfileVersion
        fields = [
            "id",
            "workspace",
            "base",
            "number",
            "overrides",
            "limits",
            "digest",
            "reason",
            "state",
            "proposed_by",
            "proposed_at",
            "decided_by",
            "decided_at",
            "decision_reason",
        ]

    @extend_schema_field(LimitsShape)
    def get_limits(self, version: ProfileVersion) -> dict[str, Any]:
        return dict(version.overrides.get(LIMITS, {}))


class ProfileVersionDetailShape(ProfileVersionShape):
    changes = serializers.SerializerMethodField(help_text="Against the version in force before it, or the shipped one.")

    class Meta(ProfileVersionShape.Meta):
        fields = [*ProfileVersionShape.Meta.fields, "changes"]

    @extend_schema_field(DifferenceShape(many=True))
    def get_changes(self, version: ProfileVersion) -> Any:
        rows = ProfileVersion.objects.filter(workspace=version.workspace, base=version.base, number__lt=version.number)
        earlier = rows.filter(state=ProfileState.APPROVED).order_by("-number").first()
        return differences(version.base, earlier.overrides if earlier else {}, version.overrides)


class NewProfileVersion(serializers.Serializer[Any]):
    overrides = Overrides(help_text="The whole of what differs from the shipped profile, not an addition.")
    limits = LimitsShape(required=False, help_text="Limits that differ from the shipped profile.")
    reason = serializers.CharField(max_length=500)
    base = serializers.ChoiceField(choices=PROFILES, required=False, help_text="By default the domain's.")


class DecisionReason(serializers.Serializer[Any]):
    reason = serializers.CharField(max_length=500, required=False, allow_blank=True, default="")


class ListEntryShape(serializers.ModelSerializer[ListEntry]):
    class Meta:
        model = ListEntry
        fields = [
            "id",
            "workspace",
            "kind",
            "entity_type",
            "state",
            "proposed_by",
            "proposed_at",
            "decided_by",
            "decided_at",
        ]


class NewListEntry(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(choices=ListKind.choices)
    entity_type = serializers.ChoiceField(choices=TYPES)
    phrase = serializers.CharField(max_length=400, help_text="2 to 200 characters; sealed, and shown on request only.")


class PhraseShape(serializers.Serializer[Any]):
    phrase = serializers.CharField()


class WorkspaceProfile(Door):
    @extend_schema(responses=ProfileInForceShape, operation_id="get_profile", tags=["profiles"])
    def get(self, request: Request, workspace_id: UUID) -> Response:
        """The profile that a redaction of this workspace uses now."""
        workspace = self.find_workspace(workspace_id)
        base = load_pack(workspace.domain).redaction_profile
        version = ProfileVersion.objects.in_force(workspace, base)
        overrides = version.overrides if version else {}
        data = composed(base, overrides)
        names = ("on", "threshold", "operator", "reversible", "reason", "citation")
        entities = {kind: {name: policy[name] for name in names} for kind, policy in data["entities"].items()}
        entries = ListEntry.objects.filter(workspace=workspace, state=EntryState.APPROVED)
        shape = ProfileInForceShape(
            {
                "base": base,
                "title": data["title"],
                "basis": data["basis"],
                "version": version.pk if version else None,
                "digest": version.digest if version else policy_digest(base, {}),
                "entities": entities,
                "limits": data.get(LIMITS, {}),
                "denied": entries.filter(kind=ListKind.DENY).count(),
                "allowed": entries.filter(kind=ListKind.ALLOW).count(),
            }
        )
        return Response(shape.data)


class ProfileVersions(Door):
    @extend_schema(
        responses=page_of(ProfileVersionShape, "ProfileVersion"),
        parameters=[STATE_OF_PROFILE, *PAGE_PARAMETERS],
        operation_id="list_profile_versions",
        tags=["profiles"],
    )
    def get(self, request: Request, workspace_id: UUID) -> Response:
        """The versions of the workspace's profile, newest first."""
        rows = ProfileVersion.objects.filter(workspace=self.find_workspace(workspace_id))
        if state := one_of(ProfileState.values, request.query_params.get("state"), "state"):
            rows = rows.filter(state=state)
        return page(request, rows, ProfileVersionShape, ("-number",))

    @extend_schema(
        request=NewProfileVersion,
        responses={201: ProfileVersionDetailShape},
        parameters=[KEY],
        operation_id="propose_profile",
        tags=["profiles"],
    )
    @idempotent
    def post(self, request: Request, workspace_id: UUID) -> Response:
        """Proposes the next version. It takes effect once another officer approves it."""
        workspace = self.find_workspace(workspace_id)
        asked = self.checked(NewProfileVersion)
        limits = asked.pop("limits", None)
        overrides = asked.pop("overrides") | ({LIMITS: dict(limits)} if limits else {})
        version = actions.propose_profile(actor=self.actor, workspace=workspace, overrides=overrides, **asked)
        return Response(ProfileVersionDetailShape(version).data, status=201)


class ProfileVersionDetail(Door):
    @extend_schema(responses=ProfileVersionDetailShape, operation_id="get_profile_version", tags=["profiles"])
    def get(self, request: Request, profile_id: UUID) -> Response:
        """One version with what it changes."""
        return Response(ProfileVersionDetailShape(self.find(_VERSIONS, pk=profile_id)).data)


class ProfileApproval(Door):
    @extend_schema(
        request=DecisionReason,
        responses=ProfileVersionShape,
        parameters=[KEY],
        operation_id="approve_profile",
        tags=["profiles"],
    )
    @idempotent
    def post(self, request: Request, profile_id: UUID) -> Response:
        """Puts a proposed version in force: by another officer than who proposed it."""
        found = self.find(_VERSIONS, pk=profile_id)
        approved = actions.approve_profile(actor=self.actor, version=found, **self.checked(DecisionReason))
        return Response(ProfileVersionShape(approved).data)


class ProfileRejection(Door):
    @extend_schema(
        request=DecisionReason,
        responses=ProfileVersionShape,
        parameters=[KEY],
        operation_id="reject_profile",
        tags=["profiles"],
    )
    @idempotent
    def post(self, request: Request, profile_id: UUID) -> Response:
        """Closes a proposal: by another officer than who proposed it. Give a reason."""
        found = self.find(_VERSIONS, pk=profile_id)
        rejected = actions.reject_profile(actor=self.actor, version=found, **self.checked(DecisionReason))
        return Response(ProfileVersionShape(rejected).data)


class ListEntries(Door):
    @extend_schema(
        responses=page_of(ListEntryShape, "ListEntry"),
        parameters=[STATE_OF_ENTRY, *PAGE_PARAMETERS],
        operation_id="list_phrases",
        tags=["profiles"],
    )
    def get(self, request: Request, workspace_id: UUID) -> Response:
        """The entries of the deny and allow lists, newest first; without their phrases."""
        rows = ListEntry.objects.filter(workspace=self.find_workspace(workspace_id))
        if state := one_of(EntryState.values, request.query_params.get("state"), "state"):
            rows = rows.filter(state=state)
        return page(request, rows, ListEntryShape, ("-proposed_at", "-id"))

    @extend_schema(
        request=NewListEntry, responses={201: ListEntryShape}, operation_id="propose_phrase", tags=["profiles"]
    )
    def post(self, request: Request, workspace_id: UUID) -> Response:
        """Proposes a phrase; another officer decides on it.

        No idempotency key is taken: what is remembered of a request could be tried against a list of names. A phrase
        that was proposed before is refused anyway.
        """
        workspace = self.find_workspace(workspace_id)
        asked = self.checked(NewListEntry)
        entry = actions.propose_entry(
            actor=self.actor,
            workspace=workspace,
            kind=ListKind(asked["kind"]),
            entity_type=asked["entity_type"],
            phrase=asked["phrase"],
        )
        return Response(ListEntryShape(entry).data, status=201)


class EntryPhrase(Door):
    @extend_schema(request=None, responses=PhraseShape, operation_id="show_phrase", tags=["profiles"])
    def post(self, request: Request, entry_id: UUID) -> Response:
        """Shows an officer the phrase of an entry; that it was shown is recorded. The answer is not remembered."""
        return Response({"phrase": actions.show_entry(actor=self.actor, entry=self.find(_ENTRIES, pk=entry_id))})


class EntryApproval(Door):
    @extend_schema(
        request=None, responses=ListEntryShape, parameters=[KEY], operation_id="approve_phrase", tags=["profiles"]
    )
    @idempotent
    def post(self, request: Request, entry_id: UUID) -> Response:
        """Puts a phrase in force: by another officer than who proposed it."""
        entry = actions.approve_entry(actor=self.actor, entry=self.find(_ENTRIES, pk=entry_id))
        return Response(ListEntryShape(entry).data)


class EntryRejection(Door):
    @extend_schema(
        request=None, responses=ListEntryShape, parameters=[KEY], operation_id="reject_phrase", tags=["profiles"]
    )
    @idempotent
    def post(self, request: Request, entry_id: UUID) -> Response:
        """Turns a proposed phrase down: by another officer than who proposed it."""
        entry = actions.reject_entry(actor=self.actor, entry=self.find(_ENTRIES, pk=entry_id))
        return Response(ListEntryShape(entry).data)


class EntryRetirement(Door):
    @extend_schema(
        request=None, responses=ListEntryShape, parameters=[KEY], operation_id="retire_phrase", tags=["profiles"]
    )
    @idempotent
    def post(self, request: Request, entry_id: UUID) -> Response:
        """Takes a phrase out of force; a denied one not by who proposed it."""
        entry = actions.retire_entry(actor=self.actor, entry=self.find(_ENTRIES, pk=entry_id))
        return Response(ListEntryShape(entry).data)

"""Workspaces, the workflows they may use, base models, and who the caller is."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from domains.packs import load_pack
from domains.workflows import Workflow
from steward.accounts.models import Workspace
from steward.accounts.permissions import permissions_of, roles_of
from steward.api.door import Door
from steward.api.pages import PAGE_PARAMETERS, page, page_of
from steward.catalog.models import BaseModel


class WorkspaceShape(serializers.ModelSerializer[Workspace]):
    class Meta:
        model = Workspace
        fields = ["id", "slug", "name", "domain", "policy_version", "created_at"]


class WorkspaceDetailShape(WorkspaceShape):
    policy = serializers.DictField(child=serializers.IntegerField(), help_text="What each rule means: see the console.")
    roles = serializers.SerializerMethodField(help_text="The caller's roles here.")
    permissions = serializers.SerializerMethodField(help_text="What the caller may do here, scopes applied.")

    class Meta(WorkspaceShape.Meta):
        fields = [*WorkspaceShape.Meta.fields, "policy", "roles", "permissions"]

    def get_roles(self, workspace: Workspace) -> list[str]:
        return sorted(str(role) for role in roles_of(self.context["actor"], workspace))

    def get_permissions(self, workspace: Workspace) -> list[str]:
        return sorted(str(each) for each in permissions_of(self.context["actor"], workspace))


class WorkflowShape(serializers.Serializer[Any]):
    name = serializers.CharField()
    title = serializers.CharField()
    description = serializers.CharField()
    record_fields = serializers.ListField(child=serializers.CharField(), help_text="What a record must hold.")
    metric = serializers.CharField()
    recipe = serializers.DictField(help_text="Training settings; `changes` of a fine-tune replace them.")


class BaseModelShape(serializers.ModelSerializer[BaseModel]):
    class Meta:
        model = BaseModel
        fields = [
            "id",
            "name",
            "digest",
            "licence",
            "source",
            "parameters",
            "context_length",
            "disk_bytes",
            "is_bundled",
            "registered_at",
        ]


class MeShape(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    username = serializers.CharField()
    display_name = serializers.CharField()
    scopes = serializers.ListField(child=serializers.CharField(), allow_null=True, help_text="Null for a session.")


class Me(Door):
    @extend_schema(responses=MeShape, operation_id="me", tags=["workspaces"])
    def get(self, request: Request) -> Response:
        """Who the caller is, and the scopes of the token."""
        user, scopes = request.user, self.actor.scopes
        return Response(
            {
                "id": user.pk,
                "username": user.username,
                "display_name": user.display_name,
                "scopes": None if scopes is None else sorted(scopes),
            }
        )


class Workspaces(Door):
    @extend_schema(
        responses=page_of(WorkspaceShape, "Workspace"),
        parameters=PAGE_PARAMETERS,
        operation_id="list_workspaces",
        tags=["workspaces"],
    )
    def get(self, request: Request) -> Response:
        """The workspaces the caller belongs to."""
        return page(request, self.workspaces(), WorkspaceShape, ("name", "id"))


class WorkspaceDetail(Door):
    @extend_schema(responses=WorkspaceDetailShape, operation_id="get_workspace", tags=["workspaces"])
    def get(self, request: Request, workspace_id: UUID) -> Response:
        """A workspace with its policy and what the caller may do in it."""
        workspace = self.find_workspace(workspace_id)
        return Response(WorkspaceDetailShape(workspace, context={"actor": self.actor}).data)


class WorkspaceWorkflows(Door):
    @extend_schema(responses=WorkflowShape(many=True), operation_id="list_workflows", tags=["workspaces"])
    def get(self, request: Request, workspace_id: UUID) -> Response:
        """The workflows of the workspace's domain pack."""
        pack = load_pack(self.find_workspace(workspace_id).domain)
        return Response([_workflow(each) for each in pack.all_workflows])


def _workflow(workflow: Workflow) -> dict[str, Any]:
    return {
        "name": workflow.name,
        "title": workflow.title,
        "description": workflow.description,
        "record_fields": list(workflow.mapping.fields),
        "metric": workflow.metric,
        "recipe": workflow.recipe.spec_fields(),
    }


class BaseModels(Door):
    @extend_schema(
        responses=page_of(BaseModelShape, "BaseModel"),
        parameters=PAGE_PARAMETERS,
        operation_id="list_base_models",
        tags=["base models"],
    )
    def get(self, request: Request) -> Response:
        """The base models that this installation may load."""
        everything = BaseModel.objects.order_by() if self.workspaces().exists() else BaseModel.objects.none()
        return page(request, everything, BaseModelShape, ("name",))

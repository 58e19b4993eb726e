"""Query parameters and headers that several resources share, as the OpenAPI description names them."""

from drf_spectacular.utils import OpenApiParameter

from compliance.redaction.profile import ENTITY_TYPES, available_profiles
from steward.datasets.models import VersionState
from steward.profiles.models import EntryState, ProfileState

PROFILES = [(name, name) for name in available_profiles()]
TYPES = [(name, name) for name in sorted(ENTITY_TYPES)]
WORKSPACE = OpenApiParameter(
    "workspace",
    {"type": "string", "format": "uuid"},
    description="Only of this workspace; by default of all the caller's.",
)
STATE_OF_VERSION = OpenApiParameter("state", str, enum=VersionState.values)
STATE_OF_PROFILE = OpenApiParameter("state", str, enum=ProfileState.values)
STATE_OF_ENTRY = OpenApiParameter("state", str, enum=EntryState.values)
KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": 255},
    OpenApiParameter.HEADER,
    description="Repeating the request with this key within a day has one effect and gives the first answer again.",
)

"""Filters and tags that templates share: numbers, sizes, durations, states as pills, navigation.

Guarantees that a filter given nothing shows a dash rather than failing. Does not mark anything safe that came from
data: only markup built here is.
"""

from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django import template
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from steward.accounts.models import Workspace
from steward.accounts.permissions import roles_of
from steward.accounts.roles import Permission, Role
from steward.audit.actor import Actor
from steward.web.marking import Slot

register = template.Library()
DASH = "–"

# How each state looks; the words are the models' own. Unknown states stay grey.
TONES = {
    "importing": "info live",
    "failed": "bad",
    "imported": "warn",
    "redacted": "warn",
    "approved": "good",
    "rejected": "bad",
    "awaiting": "warn",
    "queued": "info",
    "running": "info live",
    "cancelling": "warn live",
    "pausing": "warn live",
    "paused": "warn",
    "succeeded": "good",
    "cancelled": "",
    "done": "good",
    "passed": "good",
    "error": "bad",
    "requested": "warn",
    "refused": "bad",
    "denied": "bad",
    "proposed": "warn",
    "intent": "info",
    "released": "good",
    "withheld": "bad",
    "waits": "warn",
    "ready": "good",
    "withdrawn": "bad",
}
ROOMS = (
    ("board", "Board", "b", Permission.VIEW_WORKSPACE),
    ("datasets", "Datasets", "d", Permission.VIEW_WORKSPACE),
    ("fine_tunes", "Fine-tunes", "f", Permission.VIEW_WORKSPACE),
    ("model_versions", "Models", "m", Permission.VIEW_WORKSPACE),
    ("ledger", "Ledger", "l", Permission.VIEW_LEDGER),
)


def _is_absent(value: object) -> bool:
    """None, or what a template makes of a name that is not there."""
    return value is None or value == ""


@register.simple_tag
def pill(state: str, label: str = "") -> SafeString:
    """A state as a coloured pill with its word."""
    return format_html('<span class="pill {}">{}</span>', TONES.get(state, ""), label or state)


@register.filter
def aside(slots: list[Slot]) -> list[Slot]:
    """Of a record's texts those of tools' definitions, and names."""
    return [slot for slot in slots if slot.is_aside]


@register.filter
def has_marks(slots: list[Slot]) -> bool:
    """Whether something was found in any of the texts."""
    return any(slot.has_marks for slot in slots)


@register.filter
def number(value: float | int | None) -> str:
    """12345 → 12,345."""
    return DASH if _is_absent(value) else f"{value:,.0f}"


@register.filter
def figure(value: float | None, digits: int = 3) -> str:
    """A measured value with a fixed number of digits behind the point."""
    return DASH if _is_absent(value) else f"{value:,.{digits}f}"


@register.filter
def percent(value: float | None, digits: int = 1) -> str:
    """A share of one as per cent: 0.988 → 98.8 %."""
    return DASH if _is_absent(value) else f"{100 * value:.{digits}f} %"


@register.filter
def signed(value: float | None, digits: int = 3) -> str:
    """A difference with its sign."""
    return DASH if _is_absent(value) else f"{value:+,.{digits}f}".replace("-", "−")


@register.filter
def power(value: float | None) -> str:
    """A small figure as people write it: 0.0002 → 2e-4."""
    if _is_absent(value):
        return DASH
    digits, _, exponent = f"{value:.2e}".partition("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(exponent)}".replace("-", "−") if value else "0"


@register.filter
def compact(value: float | int | None) -> str:
    """134500000 → 134.5 M."""
    if _is_absent(value):
        return DASH
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            scale = 1e3 if unit == "k" else size
            return f"{value / scale:.3g} {unit}"
    return f"{value:,.0f}"


@register.filter
def bytes_size(value: float | int | None) -> str:
    """Bytes in binary units: 1536 → 1.5 KiB."""
    if _is_absent(value):
        return DASH
    size, units = float(value), ["B", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size:,.0f} {units[0]}" if size >= 100 or units[0] == "B" else f"{size:.3g} {units[0]}"


@register.filter
def duration(seconds: float | None) -> str:
    """Seconds as a person says them: 3725 → 1 h 2 min."""
    if _is_absent(seconds):
        return DASH
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@register.filter
def brief(digest: str | None) -> str:
    """The first and last digits of a digest; the whole stands in the title beside it."""
    if not digest:
        return DASH
    kind, _, body = digest.rpartition(":")
    return f"{kind}:{body[:8]}…{body[-4:]}" if kind else f"{body[:8]}…{body[-4:]}"


@register.filter
def share(part: float | None, whole: float | None) -> float:
    """Percent of a whole, 0 to 100, for a bar."""
    return round(min(100.0, 100.0 * part / whole), 2) if part and whole else 0.0


@register.filter
def item(mapping: dict[str, Any], key: str) -> Any:
    """One value of a dictionary by a key that is itself a variable."""
    return mapping.get(key)


@register.filter
def query(conditions: dict[str, str], more: str = "") -> str:
    """Conditions as a query string, with `more` behind them."""
    return "&".join(part for part in (urlencode(conditions), more) if part)


@register.simple_tag
def moment(when: datetime | None) -> SafeString | str:
    """A time in UTC; a script shows it in the reader's own zone."""
    if when is None:
        return DASH
    utc = when.astimezone(timezone.get_default_timezone())
    return format_html('<time datetime="{}">{}</time>', utc.isoformat(timespec="seconds"), f"{utc:%Y-%m-%d %H:%M} UTC")


@register.simple_tag(takes_context=True)
def navigation(context: template.Context) -> dict[str, Any]:
    """What the top bar shows: rooms of the workspace at hand, the person's other workspaces, their roles here."""
    request = context.get("request")
    user = getattr(request, "user", None)
    if request is None or user is None or not user.is_authenticated:
        return {"workspace": None, "rooms": [], "others": [], "roles": []}
    actor = Actor.of(user)
    workspace = getattr(request, "workspace", None)
    rooms = []
    if workspace is not None:
        for name, title, key, permission in ROOMS:
            url = reverse(f"web:{name}", args=[workspace.slug])
            is_here = request.path == url if name == "board" else request.path.startswith(url)
            if permission in request.permissions:
                rooms.append({"title": title, "url": url, "key": key, "is_here": is_here})
    return {
        "workspace": workspace,
        "rooms": rooms,
        "others": list(Workspace.objects.visible_to(actor)),
        "roles": sorted(Role(role).label for role in roles_of(actor, workspace)) if workspace is not None else [],
    }

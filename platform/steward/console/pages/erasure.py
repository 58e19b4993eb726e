"""Erasing one person from a dataset, with what had learnt of them by then."""

from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse

from steward.accounts.roles import Permission
from steward.console.access import actor_of, person, workspaces_for
from steward.console.deciding import attempt
from steward.console.forms import ErasureForm
from steward.datasets.models import Dataset
from steward.runs.erasure import erase_subject


def erase(request: HttpRequest, dataset_id: UUID) -> HttpResponse:
    """The form, and after it the receipt, which is shown this once; the ledger keeps both entries."""
    from steward.console.site import site

    rows = Dataset.objects.select_related("workspace", "key")
    found = rows.filter(workspace__in=workspaces_for(person(request), Permission.SHRED_SUBJECT), pk=dataset_id).first()
    if found is None:
        raise Http404
    form = ErasureForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        asked = {name: form.cleaned_data[name] for name in ("subject", "ground")}
        erased = attempt(
            request,
            lambda: erase_subject(actor=actor_of(request), dataset=found, **asked),
            "The person is erased. Both entries of it are in the ledger.",
        )
        if erased is not None:
            return site.page(request, "erased", f"Erased from {found}", object=found, erased=erased)
    note = (
        "The person's key is destroyed, and with it their records in every version of this dataset, raw and redacted. "
        "Nobody can bring them back."
    )
    return site.page(request, "form", f"Erase a person from {found}", form=form, submit="Erase for good", note=note)

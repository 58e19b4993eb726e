"""Sealing and opening against raw AES-256-GCM and against Tink's Python streaming AEAD, all in one thread.

``run()`` gives the figures. Each is the best of ``RUNS`` in this thread's own processor time, measured in turns, so
that a busy machine is unfair to all alike. The raw cipher reads and writes the same streams, with buffers made before.
"""

import io
import os
import platform
import time

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from tink import new_keyset_handle, streaming_aead

from compliance.vault import ObjectContext, RecordCipher, new_key, open_reader, seal_writer
from compliance.vault.segments import SEGMENT_BYTES, TAG_BYTES

RUNS = 25
SIZE_BYTES = 16 << 20
RECORDS = 10_000
RECORD = b"x" * 200
CONTEXT = ObjectContext("workspace", "dataset", "object", "shard", "1")


class Discard(io.RawIOBase):
    """Takes everything and keeps nothing, so that only the cipher is measured."""

    def writable(self):
        return True

    def write(self, data):
        return len(data)


class Kept(io.BytesIO):
    """Remembers what was in it when Tink closes it."""

    def close(self):
        self.content = self.getvalue()
        super().close()


def run():
    content, key, tink = os.urandom(SIZE_BYTES), new_key(), tink_primitive()
    sink = io.BytesIO()
    with seal_writer(sink, key, CONTEXT) as writer:
        writer.write(content)
    sealed = sink.getvalue()
    with tink.new_encrypting_stream(tinks := Kept(), b"context") as stream:
        stream.write(content)
    raw = RawSegments(content)
    rates = best(
        SIZE_BYTES / 1e9,
        {
            "raw_seal": raw.seal,
            "raw_open": raw.open,
            "seal": lambda: seal(content, key),
            "open": lambda: open_(sealed, key, writer.commitment),
            "tink_seal": lambda: tink_seal(tink, content),
            "tink_open": lambda: tink_open(tink, tinks.content),
        },
    )
    records = best(RECORDS, {"encrypt": lambda: encrypt_records(key), "raw": lambda: encrypt_raw(key)})
    raw_name, tink_name = "raw AES-256-GCM on the same stream, 1 MiB", "Tink Python streaming AEAD"
    return {
        "vault": row(rates["seal"], "GB/s sealed", raw_name, rates["raw_seal"]),
        "vault_open": row(rates["open"], "GB/s opened", raw_name, rates["raw_open"]),
        "vault_tink": row(rates["seal"], "GB/s sealed", tink_name, rates["tink_seal"]),
        "vault_tink_open": row(rates["open"], "GB/s opened", tink_name, rates["tink_open"]),
        "vault_records": row(records["encrypt"], "records/s of 200 bytes", "raw AES-256-GCM", records["raw"]),
    }


def tink_primitive():
    streaming_aead.register()
    handle = new_keyset_handle(streaming_aead.streaming_aead_key_templates.AES256_GCM_HKDF_1MB)
    return handle.primitive(streaming_aead.StreamingAead)


class RawSegments:
    """What no format can beat: the cipher alone on whole segments."""

    def __init__(self, content):
        self._aead, self._nonce = AESGCM(os.urandom(32)), os.urandom(12)
        self._content = memoryview(content)
        self._buffer = bytearray(SEGMENT_BYTES)
        self._sealed = bytearray(SEGMENT_BYTES + TAG_BYTES)
        segments = range(0, len(content), SEGMENT_BYTES)
        pieces = (self._content[start : start + SEGMENT_BYTES] for start in segments)
        self._stream = b"".join(self._aead.encrypt(self._nonce, piece, None) for piece in pieces)

    def seal(self):
        sink = Discard()
        for start in range(0, len(self._content), SEGMENT_BYTES):
            self._aead.encrypt_into(self._nonce, self._content[start : start + SEGMENT_BYTES], None, self._sealed)
            sink.write(self._sealed)

    def open(self):
        source = io.BytesIO(self._stream)
        while source.readinto(self._sealed):
            self._aead.decrypt_into(self._nonce, self._sealed, None, self._buffer)


def seal(content, key):
    with seal_writer(Discard(), key, CONTEXT) as writer:
        view = memoryview(content)
        for start in range(0, len(view), SEGMENT_BYTES):
            writer.write(view[start : start + SEGMENT_BYTES])


def open_(sealed, key, commitment):
    reader = open_reader(io.BytesIO(sealed), key, CONTEXT, commitment)
    buffer = bytearray(SEGMENT_BYTES)
    while reader.readinto(buffer):
        pass


def tink_seal(tink, content):
    with tink.new_encrypting_stream(Discard(), b"context") as stream:
        view = memoryview(content)
        for start in range(0, len(view), SEGMENT_BYTES):
            stream.write(view[start : start + SEGMENT_BYTES])


def tink_open(tink, sealed):
    with tink.new_decrypting_stream(io.BytesIO(sealed), b"context") as stream:
        while stream.read(SEGMENT_BYTES):
            pass


def encrypt_records(key):
    cipher = RecordCipher(key)
    for _ in range(RECORDS):
        cipher.encrypt(RECORD, b"record")


def encrypt_raw(key):
    aead = AESGCM(key)
    for _ in range(RECORDS):
        aead.encrypt(os.urandom(12), RECORD, b"record")


def best(amount, tasks):
    """Amount a second of the fastest run of each task."""
    seconds = dict.fromkeys(tasks, float("inf"))
    for _ in range(RUNS):
        for name, task in tasks.items():
            started = time.thread_time()
            task()
            seconds[name] = min(seconds[name], time.thread_time() - started)
    return {name: amount / value for name, value in seconds.items()}


def row(figure, unit, peer, peer_figure):
    return {
        "figure": round(figure, 3),
        "unit": unit,
        "peer": peer,
        "peer_figure": round(peer_figure, 3),
        "ratio": round(figure / peer_figure, 3),
        "runs": RUNS,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
    }

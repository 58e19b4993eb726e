"""The wire format is Tink's: what one writes, the other reads."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tink import proto_keyset_format, secret_key_access, streaming_aead
from tink.core import TinkError
from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2

from compliance.vault import ObjectContext, open_reader, seal_writer
from compliance.vault.segments import HEADER_BYTES, SEGMENT_BYTES, TAG_BYTES

CONTEXT = ObjectContext("w1", "d7", "o9", "shard", "1")
KEY = bytes(range(32))
FIRST = SEGMENT_BYTES - TAG_BYTES - HEADER_BYTES
PAYLOAD = SEGMENT_BYTES - TAG_BYTES
BORDERS = [0, 1, FIRST - 1, FIRST, FIRST + 1, FIRST + PAYLOAD, FIRST + PAYLOAD + 1]
CONTENT = bytes(i * i % 251 for i in range(1 << 16)) * 40

sizes = st.sampled_from(BORDERS) | st.integers(0, len(CONTENT))


class Kept(io.BytesIO):
    """Tink closes its sink; this one remembers what was in it."""

    def close(self):
        self.content = self.getvalue()
        super().close()


def tink_primitive(key):
    streaming_aead.register()
    template = streaming_aead.streaming_aead_key_templates.AES256_GCM_HKDF_1MB
    wanted = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKeyFormat.FromString(template.value)
    assert wanted.params.hkdf_hash_type == common_pb2.SHA256
    raw = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(params=wanted.params, key_value=key)
    data = tink_pb2.KeyData(
        type_url=template.type_url,
        value=raw.SerializeToString(),
        key_material_type=tink_pb2.KeyData.SYMMETRIC,
    )
    keyset = tink_pb2.Keyset(primary_key_id=1)
    keyset.key.add(key_id=1, status=tink_pb2.ENABLED, output_prefix_type=tink_pb2.RAW, key_data=data)
    handle = proto_keyset_format.parse(keyset.SerializeToString(), secret_key_access.TOKEN)
    return handle.primitive(streaming_aead.StreamingAead)


@pytest.fixture(scope="module")
def tink():
    return tink_primitive(KEY)


def ours(content):
    sink = io.BytesIO()
    with seal_writer(sink, KEY, CONTEXT) as writer:
        writer.write(content)
    return sink.getvalue()


def theirs(tink, content):
    sink = Kept()
    with tink.new_encrypting_stream(sink, CONTEXT.associated_data()) as writer:
        writer.write(content)
    return sink.content


@settings(max_examples=20, deadline=None)
@given(size=sizes)
def test_tink_reads_what_we_seal(tink, size):
    sealed = ours(CONTENT[:size])
    with tink.new_decrypting_stream(io.BytesIO(sealed), CONTEXT.associated_data()) as reader:
        assert reader.read() == CONTENT[:size]


@settings(max_examples=20, deadline=None)
@given(size=sizes)
def test_we_read_what_tink_seals(tink, size):
    sealed = theirs(tink, CONTENT[:size])
    assert open_reader(io.BytesIO(sealed), KEY, CONTEXT).read() == CONTENT[:size]
    assert len(sealed) == len(ours(CONTENT[:size]))


def test_tink_refuses_our_object_in_another_context(tink):
    with pytest.raises(TinkError), tink.new_decrypting_stream(io.BytesIO(ours(b"x")), b"elsewhere") as reader:
        reader.read()

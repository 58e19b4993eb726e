"""Keys, commitments, wrapping, records and contexts."""

import hashlib
import hmac

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compliance.vault import (
    Corrupt,
    ObjectContext,
    RecordCipher,
    WrongContext,
    WrongKey,
    WrongKeyOrContext,
    commitment,
    decrypt_record,
    encrypt_record,
    keyed_digest,
    new_key,
    unwrap_key,
    wrap_key,
)

KEY = bytes(range(32))
CONTEXT = ObjectContext("w1", "d7", "o9", "shard", "1")


def test_commitment_is_hkdf_of_key_label_and_context():
    extracted = hmac.new(bytes(32), KEY, hashlib.sha256).digest()
    info = b'steward/commit\x00{"dataset":"d7","kind":"shard","object":"o9","version":"1","workspace":"w1"}'
    assert commitment(KEY, CONTEXT) == hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()


def test_commitment_differs_for_every_key_and_context():
    other = ObjectContext("w1", "d7", "o9", "shard", "2")
    assert len({commitment(KEY, CONTEXT), commitment(new_key(), CONTEXT), commitment(KEY, other)}) == 3


def test_wrapped_key_opens_only_under_its_key_and_context():
    kek, context = new_key(), {"dataset": "d7"}
    wrapped = wrap_key(kek, KEY, context)
    assert len(wrapped) == 60
    assert unwrap_key(kek, wrapped, context) == KEY
    assert wrap_key(kek, KEY, context) != wrapped
    for wrong_kek, wrong_context in ((new_key(), context), (kek, {"dataset": "d8"}), (kek, {})):
        with pytest.raises(WrongKeyOrContext):
            unwrap_key(wrong_kek, wrapped, wrong_context)


def test_every_altered_or_missing_byte_of_a_wrapped_key_is_noticed():
    kek = new_key()
    wrapped = wrap_key(kek, KEY, {})
    for place in range(len(wrapped)):
        altered = bytearray(wrapped)
        altered[place] ^= 0x80
        with pytest.raises(WrongKeyOrContext):
            unwrap_key(kek, bytes(altered), {})
        with pytest.raises(Corrupt):
            unwrap_key(kek, wrapped[:place], {})


def test_a_wrapped_key_is_not_a_record_of_the_same_key():
    with pytest.raises(WrongKey):
        decrypt_record(KEY, wrap_key(KEY, new_key(), {}), b"{}")


@settings(deadline=None)
@given(st.binary(max_size=2000), st.binary(max_size=50))
def test_records_come_back_under_their_associated_data_only(plaintext, aad):
    cipher = RecordCipher(KEY)
    sealed = cipher.encrypt(plaintext, aad)
    assert len(sealed) == len(plaintext) + 28
    assert cipher.decrypt(sealed, aad) == decrypt_record(KEY, sealed, aad) == plaintext
    with pytest.raises(WrongContext):
        cipher.decrypt(sealed, aad + b"x")
    with pytest.raises(WrongKey):
        decrypt_record(new_key(), sealed, aad)


def test_every_altered_or_missing_byte_of_a_record_is_noticed():
    sealed = encrypt_record(KEY, b"confidential", b"record 7")
    for place in range(len(sealed)):
        altered = bytearray(sealed)
        altered[place] ^= 1
        for bad in (bytes(altered), sealed[:place]):
            with pytest.raises((WrongKeyOrContext, Corrupt)):
                decrypt_record(KEY, bad, b"record 7")


def test_records_of_one_text_differ():
    assert encrypt_record(KEY, b"same", b"") != encrypt_record(KEY, b"same", b"")


def test_keyed_digest_is_hmac_and_needs_the_key():
    # Computed with the standard library, which shares no code with ours but this primitive.
    assert keyed_digest(KEY, b"MRN 12345") == "hmac:" + hmac.digest(KEY, b"MRN 12345", "sha256").hex()
    assert keyed_digest(new_key(), b"MRN 12345") != keyed_digest(KEY, b"MRN 12345")


def test_short_keys_are_refused_everywhere():
    for use in (
        lambda key: wrap_key(key, KEY, {}),
        lambda key: wrap_key(KEY, key, {}),
        lambda key: unwrap_key(key, bytes(60), {}),
        lambda key: commitment(key, CONTEXT),
        lambda key: keyed_digest(key, b""),
        RecordCipher,
    ):
        with pytest.raises(ValueError, match="32 bytes"):
            use(b"short")


def test_a_context_survives_json_and_refuses_anything_else():
    assert ObjectContext.from_json(CONTEXT.to_json()) == CONTEXT
    with pytest.raises(ValueError, match="exactly the fields"):
        ObjectContext.from_json({**CONTEXT.to_json(), "more": "x"})
    with pytest.raises(ValueError, match="exactly the fields"):
        ObjectContext.from_json({"workspace": "w1"})
    with pytest.raises(TypeError, match="version"):
        ObjectContext("w1", "d7", "o9", "shard", 1)


@settings(deadline=None)
@given(st.lists(st.text(max_size=5), min_size=5, max_size=5), st.lists(st.text(max_size=5), min_size=5, max_size=5))
def test_different_contexts_have_different_associated_data(one, other):
    try:
        data = [ObjectContext(*names).associated_data() for names in (one, other)]
    except ValueError:
        return  # a lone surrogate has no canonical form
    assert (data[0] == data[1]) == (one == other)

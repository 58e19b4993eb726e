"""Signed notes and checkpoints against the vectors of golang.org/x/mod/sumdb/note and the C2SP examples."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compliance.ledger.checkpoint import (
    MAX_NOTE_BYTES,
    Checkpoint,
    NoteError,
    VerificationKey,
    open_checkpoint,
    open_note,
    parse_checkpoint,
    sign_checkpoint,
    sign_note,
    verification_key,
)

# Source: golang.org/x/mod, sumdb/note/note_test.go.
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_SEED = base64.b64decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")[1:]
GO_TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
GO_SIGNATURE = "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
GO_NOTE = f"{GO_TEXT}\n— PeterNeumann {GO_SIGNATURE}\n"
ENOCH_VKEY = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop"

SIGNING_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
ORIGIN = "hospital.example/ledger"
KEY = verification_key(ORIGIN, SIGNING_KEY.public_key())
CHECKPOINT = Checkpoint(ORIGIN, 20852163, bytes(range(32)))


def test_the_published_note_opens_and_is_made_again_byte_for_byte():
    key = VerificationKey.parse(GO_VKEY)
    assert open_note(GO_NOTE, [key]) == (GO_TEXT, key)
    assert sign_note(GO_TEXT, "PeterNeumann", Ed25519PrivateKey.from_private_bytes(GO_SEED)) == GO_NOTE


@pytest.mark.parametrize("text", [GO_VKEY, ENOCH_VKEY])
def test_published_keys_keep_their_form(text):
    assert str(VerificationKey.parse(text)) == text


def test_the_example_of_the_checkpoint_specification_is_read():
    text = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    checkpoint = parse_checkpoint(text)
    assert (checkpoint.origin, checkpoint.size) == ("example.com/behind-the-sofa", 20852163)
    assert checkpoint.text() == text


def test_a_checkpoint_opens_under_its_key():
    note = sign_checkpoint(CHECKPOINT, SIGNING_KEY)
    assert open_checkpoint(note, [KEY]) == CHECKPOINT
    assert open_checkpoint(note, [VerificationKey.parse(GO_VKEY), KEY]) == CHECKPOINT


def test_every_part_of_a_verification_key_is_checked():
    for start in range(len(GO_VKEY)):
        for end in range(start, len(GO_VKEY)):
            with pytest.raises(NoteError):
                VerificationKey.parse(GO_VKEY[start:end] if (start, end) != (0, len(GO_VKEY)) else "")
    for place in range(len(GO_VKEY)):
        with pytest.raises(NoteError):
            VerificationKey.parse(GO_VKEY[:place] + chr(ord(GO_VKEY[place]) + 1) + GO_VKEY[place + 1 :])


def test_every_altered_character_of_a_note_is_noticed():
    note = sign_checkpoint(CHECKPOINT, SIGNING_KEY)
    for place in range(len(note)):
        with pytest.raises(NoteError):
            open_checkpoint(note[:place] + chr(ord(note[place]) ^ 1) + note[place + 1 :], [KEY])
        with pytest.raises(NoteError):
            open_checkpoint(note[:place], [KEY])


def test_signatures_of_strangers_are_ignored_but_never_enough():
    note = sign_checkpoint(CHECKPOINT, SIGNING_KEY)
    stranger = Ed25519PrivateKey.generate()
    cosigned = note + sign_note(CHECKPOINT.text(), "witness.example", stranger).split("\n\n")[1]
    assert open_checkpoint(cosigned, [KEY]) == CHECKPOINT
    with pytest.raises(NoteError, match="not signed by a key"):
        open_checkpoint(note, [verification_key(ORIGIN, stranger.public_key())])
    with pytest.raises(NoteError, match="not signed by a key"):
        open_checkpoint(note, [])


def test_a_bad_signature_of_a_known_key_spoils_a_note_with_a_good_one():
    other = Ed25519PrivateKey.generate()
    other_key = verification_key(ORIGIN, other.public_key())
    note = sign_checkpoint(CHECKPOINT, SIGNING_KEY)
    bad = base64.b64encode(other_key.key_id + bytes(64)).decode()
    with pytest.raises(NoteError, match="altered"):
        open_checkpoint(f"{note}— {ORIGIN} {bad}\n", [KEY, other_key])


def test_a_key_of_one_ledger_does_not_sign_for_another():
    note = sign_note(Checkpoint("bank.example/ledger", 1, bytes(32)).text(), ORIGIN, SIGNING_KEY)
    with pytest.raises(NoteError, match="another ledger"):
        open_checkpoint(note, [KEY])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "o\n1\n",
        f"\n1\n{'A' * 43}=\n",
        f"o\n01\n{'A' * 43}=\n",
        f"o\n-1\n{'A' * 43}=\n",
        f"o\n1.0\n{'A' * 43}=\n",
        f"o\n٣\n{'A' * 43}=\n",
        "o\n1\nAAAA\n",
        f"o\n1\n{'A' * 42}B=\n",
        f"o\n1\n{'A' * 43}=",
        f"o\n1\n{'A' * 43}=\nextension\n",
        f"o\n1\n{'A' * 43}=\n\n",
    ],
)
def test_what_is_no_checkpoint_is_refused(text):
    with pytest.raises(NoteError):
        parse_checkpoint(text)


@pytest.mark.parametrize(
    "note",
    [
        "",
        "text",
        "text\n\n",
        "text\n\n— name",
        "text\n\n- name AAAAAAA=\n",
        "text\n\n— name +AAAA\n",
        "text\n\n—  AAAAAAA=\n",
        "text\x00\n\n— name AAAAAAA=\n",
        "x" * MAX_NOTE_BYTES + "\n\n— name AAAAAAA=\n",
    ],
)
def test_what_is_no_note_is_refused(note):
    with pytest.raises(NoteError):
        open_note(note, [KEY])


@pytest.mark.parametrize(
    "name", ["", "two words", "a+b", "tab\there", "nbsp\u00a0here", "esc\u009b2J", "right\u202eleft"]
)
def test_names_that_would_confuse_are_refused(name):
    with pytest.raises(NoteError):
        sign_checkpoint(Checkpoint(name, 1, bytes(32)), SIGNING_KEY)


@pytest.mark.parametrize("text", ["no newline", "carriage\r\n", "null\x00\n"])
def test_texts_that_would_confuse_are_refused(text):
    with pytest.raises(NoteError, match="text"):
        sign_note(text, ORIGIN, SIGNING_KEY)

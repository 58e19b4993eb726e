"""The offline verifier: what holds, and every way to cheat that must not."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from compliance.ledger.checkpoint import Checkpoint, sign_checkpoint, verification_key
from compliance.ledger.members import VerificationError
from compliance.ledger.merkle import CompactRange, leaf_hash
from compliance.ledger.verify import verify_bundle


def rewritten(ledger, index, data):
    """The ledger of somebody who changes an entry and everything that follows from it, but has no key."""
    ledger.entries[index] = replace(ledger.entries[index], body=data, leaf_hash=leaf_hash(data), filed={})
    return ledger


def resigned(ledger):
    """The same by somebody who has the signing key as well: every checkpoint is made anew."""
    tree, notes = CompactRange(), []
    for entry in ledger.entries:
        tree.append(entry.leaf_hash)
        if tree.size % 10 == 0:
            notes.append(sign_checkpoint(Checkpoint("hospital.example/ledger", tree.size, tree.root()), ledger.key))
    ledger.notes = notes
    return ledger


def fails(path, *arguments, index=None, match=None, **options):
    with pytest.raises(VerificationError, match=match) as caught:
        verify_bundle(path, *arguments, **options)
    assert caught.value.index == index


def test_a_full_export_holds(ledger, tmp_path):
    report = verify_bundle(ledger.export(tmp_path / "export.tar"), [ledger.vkey], [ledger.notes[2]])
    assert (report.kind, report.is_trusted, report.entries, report.size) == ("export", True, 60, 60)
    assert (report.checkpoints, report.held, report.root) == (6, [30], ledger.tree.root())


# Attack 1: a superuser edits one row.


@pytest.mark.parametrize("index", [0, 1, 29, 30, 59])
def test_an_edited_body_is_named(ledger, tmp_path, index):
    entry = ledger.entries[index]
    ledger.entries[index] = replace(entry, body=entry.body.replace(b"user:1", b"user:2"))
    fails(ledger.export(tmp_path / "e.tar"), [ledger.vkey], index=index, match=f"entry {index} was changed")


@pytest.mark.parametrize("index", [0, 31, 59])
def test_an_edited_leaf_hash_is_named(ledger, tmp_path, index):
    ledger.entries[index] = replace(ledger.entries[index], leaf_hash=bytes(32))
    fails(ledger.export(tmp_path / "e.tar"), [ledger.vkey], index=index, match=f"entry {index} was changed")


def test_an_edited_column_is_named(ledger, tmp_path):
    ledger.entries[41] = replace(ledger.entries[41], filed={"actor": "user:2"})
    fails(ledger.export(tmp_path / "e.tar"), [ledger.vkey], index=41, match="column 'actor'")


@pytest.mark.parametrize(("index", "first"), [(0, 0), (9, 0), (10, 10), (34, 30), (59, 50)])
def test_an_entry_rewritten_with_its_hash_is_bracketed_by_checkpoints(ledger, tmp_path, index, first):
    data = ledger.entries[index].body.replace(b"user:1", b"user:2")
    rewritten(ledger, index, data)
    match = f"entries from {first} to {first + 9}"
    fails(ledger.export(tmp_path / "e.tar"), [ledger.vkey], index=first, match=match)


def test_a_history_rewritten_with_the_signing_key_fails_against_a_held_checkpoint(ledger, tmp_path):
    held = [ledger.notes[0], ledger.notes[3]]
    data = ledger.entries[34].body.replace(b"user:1", b"user:2")
    path = resigned(rewritten(ledger, 34, data)).export(tmp_path / "e.tar")
    assert verify_bundle(path, [ledger.vkey]).entries == 60
    fails(path, [ledger.vkey], held, index=10, match="entries from 10 to 39 .* held checkpoint")


def test_two_entries_in_each_others_place_are_found(ledger, tmp_path):
    one, other = ledger.entries[12], ledger.entries[13]
    ledger.entries[12:14] = [replace(other, index=12), replace(one, index=13)]
    fails(ledger.export(tmp_path / "e.tar"), [ledger.vkey], index=10, match="entries from 10 to 19")


def test_an_entry_that_was_taken_out_is_named(ledger, tmp_path):
    del ledger.entries[25]
    fails(ledger.export(tmp_path / "e.tar"), [ledger.vkey], index=25, match="entry 25 is missing")


def test_an_event_that_is_recorded_twice_is_named(ledger, tmp_path):
    ledger.append(ledger.entries[5].body)
    ledger.seal()
    fails(ledger.export(tmp_path / "e.tar"), [ledger.vkey], index=60, match="entry 60 repeats")


def test_an_entry_slipped_in_behind_the_last_checkpoint_is_named(ledger, tmp_path):
    ledger.append(ledger.entries[5].body.replace(b'"records":5', b'"records":6').replace(b"00000006", b"0000dead"))
    fails(ledger.export(tmp_path / "e.tar"), [ledger.vkey], index=60, match="under no signed checkpoint")


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b"not json",
        b"[" * 4000,
        b'{"schema":"steward.ledger.entry/1"}',
        b'{"a":1,"a":1}',
        b'{"b":1,"a":2}',
        b"null",
    ],
)
def test_a_signed_body_that_is_no_entry_is_named(ledger, tmp_path, data):
    ledger.append(data)
    ledger.entries[-1] = replace(ledger.entries[-1], filed={})
    ledger.seal()
    fails(ledger.export(tmp_path / "e.tar"), [ledger.vkey], index=60)


def test_any_byte_of_the_entries_changed_in_the_archive_is_named(ledger, tmp_path):
    data = bytearray(ledger.export(tmp_path / "e.tar").read_bytes())
    start = data.index(ledger.entries[20].line())
    for place in range(start, start + len(ledger.entries[20].line()), 7):
        changed = bytearray(data)
        changed[place] ^= 1
        (tmp_path / "changed.tar").write_bytes(changed)
        fails(tmp_path / "changed.tar", [ledger.vkey], index=20, match="entry 20 ")


# Attack 2: the tail and the local checkpoints are deleted.


def test_a_deleted_tail_fails_against_its_own_checkpoints(ledger, tmp_path):
    del ledger.entries[55:]
    fails(ledger.export(tmp_path / "e.tar"), [ledger.vkey], index=55, match="entry 55 .* missing.*signed checkpoint")


def test_a_tail_deleted_with_its_checkpoints_fails_against_a_held_one(ledger, tmp_path):
    held = ledger.notes[5]
    del ledger.entries[40:]
    del ledger.notes[4:]
    path = ledger.export(tmp_path / "e.tar")
    assert verify_bundle(path, [ledger.vkey]).size == 40
    fails(path, [ledger.vkey], [held], index=40, match="entry 40 .* missing.*held checkpoint of size 60")


def test_everything_deleted_fails(ledger, tmp_path):
    ledger.entries, ledger.notes = [], []
    fails(ledger.export(tmp_path / "e.tar"), [ledger.vkey], index=0, match="under no signed checkpoint")


# Attack 3: an old checkpoint is replayed, or the ledger is forked.


def test_a_fork_fails_against_a_held_checkpoint(ledger, new_ledger, tmp_path):
    fork = new_ledger(key=ledger.key).fill(40).fill(60, actor="user:2")
    fork.entries = [replace(entry, filed={}) for entry in fork.entries]
    path = fork.export(tmp_path / "e.tar")
    assert verify_bundle(path, [ledger.vkey], [ledger.notes[3]]).held == [40]
    fails(path, [ledger.vkey], [ledger.notes[3], ledger.notes[5]], index=40, match="from 40 to 59")


def test_two_checkpoints_of_one_size_that_differ_are_a_fork(ledger, tmp_path):
    ledger.notes.insert(3, sign_checkpoint(Checkpoint("hospital.example/ledger", 30, bytes(32)), ledger.key))
    fails(ledger.export(tmp_path / "e.tar"), [ledger.vkey], index=30, match="a fork")


def test_a_replayed_checkpoint_is_out_of_order(ledger, tmp_path):
    ledger.notes.append(ledger.notes[2])
    fails(ledger.export(tmp_path / "e.tar"), [ledger.vkey], match="comes after a larger one")


def test_the_same_checkpoint_twice_in_a_row_is_no_harm(ledger, tmp_path):
    ledger.notes.insert(3, ledger.notes[2])
    assert verify_bundle(ledger.export(tmp_path / "e.tar"), [ledger.vkey]).checkpoints == 7


# Keys.


def test_without_a_key_the_report_is_not_trusted(ledger, tmp_path):
    report = verify_bundle(ledger.export(tmp_path / "e.tar"))
    assert not report.is_trusted
    assert report.keys == (ledger.vkey,)


def test_another_key_of_the_same_name_does_not_open_it(ledger, tmp_path):
    stranger = verification_key("hospital.example/ledger", Ed25519PrivateKey.generate().public_key())
    fails(ledger.export(tmp_path / "e.tar"), [stranger], match="line 1 of ledger/checkpoints.jsonl")


def test_a_forged_ledger_with_a_key_of_its_own_fails_under_the_true_key(ledger, new_ledger, tmp_path):
    path = new_ledger().fill(60).export(tmp_path / "e.tar")
    assert not verify_bundle(path).is_trusted
    fails(path, [ledger.vkey], match="not signed by a key")
    fails(path, [], [ledger.notes[0]], match="held checkpoint does not hold")


def test_keys_may_change_over_time(ledger, tmp_path):
    old = ledger.vkey
    ledger.key = Ed25519PrivateKey.generate()
    ledger.fill(80)
    path = ledger.export(tmp_path / "e.tar")
    assert verify_bundle(path, [old, ledger.vkey]).checkpoints == 8
    fails(path, [old], match="line 7 of")
    fails(path, [ledger.vkey], match="line 1 of")


def test_checkpoints_of_another_ledger_in_between_are_found(ledger, tmp_path):
    other = Ed25519PrivateKey.generate()
    other_key = verification_key("bank.example/ledger", other.public_key())
    ledger.notes.append(sign_checkpoint(Checkpoint("bank.example/ledger", 60, ledger.tree.root()), other))
    fails(ledger.export(tmp_path / "e.tar"), [ledger.vkey, other_key], match="of another ledger")

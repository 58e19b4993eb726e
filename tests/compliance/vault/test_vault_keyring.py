"""The passphrase keyring: epochs, shredding, and several processes at once."""

import base64
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from compliance.vault import (
    Corrupt,
    KeyDestroyed,
    PassphraseKeyring,
    VaultError,
    WrongContext,
    WrongKey,
    WrongKeyOrContext,
    epoch_of,
    new_key,
)

PASSPHRASE = "correct horse"
CONTEXT = {"workspace": "w1", "key": "k1"}
KEY = bytes(range(32))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "keyring.json"


@pytest.fixture
def keyring(path):
    return PassphraseKeyring.create(path, PASSPHRASE, scrypt_n=2)


def test_a_new_keyring_has_the_promised_cost_and_is_for_its_owner_only(path):
    PassphraseKeyring.create(path, PASSPHRASE)
    kdf = json.loads(path.read_bytes())["kdf"]
    assert (kdf["name"], kdf["n"], kdf["r"], kdf["p"]) == ("scrypt", 2**17, 8, 1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_keys_come_back_after_opening_again(keyring, path):
    wrapped = keyring.wrap(KEY, CONTEXT)
    assert PassphraseKeyring(path, PASSPHRASE).unwrap(wrapped, CONTEXT) == KEY


def test_wrapped_keys_are_bound_to_context_and_keyring(keyring, tmp_path):
    wrapped = keyring.wrap(KEY, CONTEXT)
    with pytest.raises(WrongContext):
        keyring.unwrap(wrapped, {**CONTEXT, "key": "k2"})
    stranger = PassphraseKeyring.create(tmp_path / "other.json", PASSPHRASE, scrypt_n=2)
    with pytest.raises(WrongKey):
        stranger.unwrap(wrapped, CONTEXT)


def test_a_wrapped_key_cannot_be_moved_to_another_epoch(keyring):
    wrapped = keyring.wrap(KEY, CONTEXT)
    keyring.rotate()
    moved = wrapped[:1] + (2).to_bytes(4, "big") + wrapped[5:]
    with pytest.raises(WrongKeyOrContext):
        keyring.unwrap(moved, CONTEXT)


@pytest.mark.parametrize("bad", [b"", b"x" * 65, b"\x01" * 64, b"\x02" * 65])
def test_what_no_keyring_wrapped_is_refused(keyring, bad):
    with pytest.raises(Corrupt):
        keyring.unwrap(bad, CONTEXT)


def test_a_wrong_passphrase_says_so_and_what_to_do_next(keyring, path):
    with pytest.raises(WrongKey, match="keyboard layout") as caught:
        PassphraseKeyring(path, "wrong horse")
    assert "horse" not in str(caught.value)


def test_an_empty_passphrase_is_refused(path):
    with pytest.raises(ValueError, match="empty"):
        PassphraseKeyring.create(path, "")


def test_an_existing_keyring_is_never_replaced(keyring, path):
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        PassphraseKeyring.create(path, PASSPHRASE, scrypt_n=2)
    assert path.read_bytes() == before


def test_rotation_keeps_old_keys_readable_and_wraps_under_the_new_epoch(keyring):
    old = keyring.wrap(KEY, CONTEXT)
    assert keyring.rotate() == keyring.current_epoch == 2
    assert keyring.unwrap(old, CONTEXT) == KEY
    new = keyring.rewrap(old, CONTEXT)
    assert (epoch_of(old), epoch_of(new)) == (1, 2)
    assert keyring.unwrap(new, CONTEXT) == KEY


def test_shredding_an_epoch_closes_what_was_not_rewrapped_for_ever(keyring, path):
    left, saved = keyring.wrap(KEY, CONTEXT), keyring.wrap(KEY, CONTEXT)
    keyring.rotate()
    saved = keyring.rewrap(saved, CONTEXT)
    root = json.loads(path.read_bytes())["epochs"]["1"]
    keyring.destroy(1)
    for opened in (keyring, PassphraseKeyring(path, PASSPHRASE)):
        with pytest.raises(KeyDestroyed):
            opened.unwrap(left, CONTEXT)
        assert opened.unwrap(saved, CONTEXT) == KEY
        assert opened.epochs() == {1: False, 2: True}
    assert root not in path.read_text()
    keyring.destroy(1)


def test_the_current_and_an_unknown_epoch_cannot_be_shredded(keyring):
    with pytest.raises(VaultError, match="rotate"):
        keyring.destroy(1)
    with pytest.raises(VaultError, match="no epoch 9"):
        keyring.destroy(9)
    assert keyring.epochs() == {1: True}


def test_an_open_keyring_follows_what_another_process_did(keyring, path):
    other = PassphraseKeyring(path, PASSPHRASE)
    old = other.wrap(KEY, CONTEXT)
    keyring.rotate()
    keyring.destroy(1)
    assert other.current_epoch == 2
    with pytest.raises(KeyDestroyed):
        other.unwrap(old, CONTEXT)


def test_a_changed_passphrase_keeps_the_keys_and_shuts_out_the_old_one(keyring, path):
    keyring.rotate()
    keyring.rotate()
    keyring.destroy(2)
    other = PassphraseKeyring(path, PASSPHRASE)
    wrapped = keyring.wrap(KEY, CONTEXT)
    salt = json.loads(path.read_bytes())["kdf"]["salt"]
    keyring.change_passphrase("battery staple")
    assert keyring.unwrap(wrapped, CONTEXT) == KEY
    assert PassphraseKeyring(path, "battery staple").unwrap(wrapped, CONTEXT) == KEY
    assert json.loads(path.read_bytes())["kdf"]["salt"] != salt
    with pytest.raises(WrongKey):
        PassphraseKeyring(path, PASSPHRASE)
    with pytest.raises(WrongKey, match="start the process again"):
        other.unwrap(wrapped, CONTEXT)


def test_the_file_holds_no_key_in_clear(keyring, path):
    text = path.read_bytes()
    for secret in [keyring._state.kek, *keyring._state.roots.values()]:
        assert base64.b64encode(secret) not in text
        assert secret.hex().encode() not in text


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "steward.keyring/2"},
        {"kdf": {"name": "scrypt", "salt": "AAAAAAAAAAAAAAAAAAAAAA==", "n": 2**30, "r": 8, "p": 1}},
        {"kdf": {"name": "scrypt", "salt": "AAAAAAAAAAAAAAAAAAAAAA==", "n": 2**14 + 1, "r": 8, "p": 1}},
        {"kdf": {"name": "none"}},
        {"epochs": {"1": "not base64"}},
        {"epochs": {"1": "AAAA"}},
        {"epochs": []},
        {"epochs": {"one": None}},
        {"current": None},
        {"current": 7},
    ],
)
def test_a_damaged_file_is_refused_and_named(keyring, path, change):
    path.write_text(json.dumps({**json.loads(path.read_bytes()), **change}))
    with pytest.raises((Corrupt, WrongKey), match=r"keyring\.json"):
        PassphraseKeyring(path, PASSPHRASE)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff", b"[" * 100_000, b" " * (2 << 20)])
def test_a_file_that_is_no_keyring_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(Corrupt):
        PassphraseKeyring(path, PASSPHRASE)


def test_a_failed_write_leaves_the_old_keyring(keyring, path, monkeypatch):
    before = path.read_bytes()

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="space"):
        keyring.rotate()
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert sorted(os.listdir(path.parent)) == ["keyring.json", "keyring.json.lock"]
    assert keyring.current_epoch == 1


def test_keyrings_that_change_one_file_at_once_lose_nothing(keyring, path):
    def rotate(number):
        mine = PassphraseKeyring(path, PASSPHRASE)
        for _ in range(5):
            mine.rotate()
            assert mine.unwrap(mine.wrap(KEY, CONTEXT), CONTEXT) == KEY

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(rotate, range(3)))
    assert sorted(keyring.epochs()) == list(range(1, 17))


def test_one_keyring_serves_many_threads_while_it_changes(keyring):
    def use(number):
        for _ in range(30):
            wrapped = keyring.wrap(KEY, CONTEXT)
            assert keyring.unwrap(wrapped, CONTEXT) == KEY

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(use, number) for number in range(3)]
        for _ in range(10):
            keyring.rotate()
        for one in working:
            one.result()


def test_wrap_needs_a_key_of_32_bytes(keyring):
    with pytest.raises(ValueError, match="32 bytes"):
        keyring.wrap(new_key() + b"x", CONTEXT)

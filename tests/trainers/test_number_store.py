"""Numbers beyond memory: what goes in comes out, and a disk sees ciphertext only."""

import os
import tempfile
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainers import number_store
from trainers.errors import TrainerError
from trainers.number_store import BLOCK, NumberStore

NUMBERS = st.integers(0, 2**31 - 1)


@given(
    parts=st.lists(st.tuples(NUMBERS, st.integers(0, 3 * BLOCK)), max_size=6),
    cuts=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), max_size=8),
    kept=st.sampled_from([0, 4 * BLOCK, 1 << 30]),
)
def test_any_stretch_reads_as_it_was_appended_wherever_it_lies(parts, cuts, kept):
    store, plain = NumberStore(kept), array("i")
    for first, count in parts:
        some = [(first + place) % 2**31 for place in range(count)]
        store.extend(some)
        plain.extend(some)
    assert len(store) == len(plain)
    for cut in cuts:
        start, end = sorted(int(share * len(plain)) for share in cut)
        assert store.between(start, end) == plain[start:end]
    with pytest.raises(IndexError):
        store.between(0, len(plain) + 1)


@pytest.fixture
def spilt(monkeypatch):
    """A store of which all whole blocks lie in a file, and that file."""
    files = []

    def watched(**settings):
        files.append(real(**settings))
        return files[-1]

    real = tempfile.TemporaryFile
    monkeypatch.setattr(number_store.tempfile, "TemporaryFile", watched)
    store = NumberStore(0)
    store.extend([0x41424344] * (2 * BLOCK))
    return store, files[0]


def test_what_lies_on_the_disk_is_sealed_and_has_no_name(spilt):
    store, file = spilt
    content = os.pread(file.fileno(), 1 << 20, 0)
    assert len(content) == 2 * (4 * BLOCK + 16)
    assert b"DCBA" not in content
    assert content[: 4 * BLOCK] != content[4 * BLOCK + 16 : 8 * BLOCK + 16]
    assert os.fstat(file.fileno()).st_nlink == 0
    assert store.between(BLOCK - 1, BLOCK + 1).tolist() == [0x41424344] * 2


@pytest.mark.parametrize("harm", ["a bit", "blocks swapped"])
def test_a_disk_that_gives_back_something_else_is_an_error(harm, spilt):
    store, file = spilt
    size = 4 * BLOCK + 16
    content = os.pread(file.fileno(), 2 * size, 0)
    spoilt = bytes([content[0] ^ 1]) + content[1:] if harm == "a bit" else content[size:] + content[:size]
    os.pwrite(file.fileno(), spoilt, 0)
    with pytest.raises(TrainerError) as caught:
        store.between(0, 1)
    assert caught.value.code == "disk.changed"


def test_a_full_disk_is_named(monkeypatch):
    full = open("/dev/full", "r+b", buffering=0)  # noqa: SIM115 - the store's file from here on
    monkeypatch.setattr(number_store.tempfile, "TemporaryFile", lambda **_: full)
    with full, pytest.raises(TrainerError) as caught:
        NumberStore(0).extend([1] * BLOCK)
    assert caught.value.code == "disk.full"

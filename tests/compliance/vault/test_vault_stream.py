"""Sealed objects: round trips, borders of segments, and what an attacker can do to the bytes."""

import gc
import io
import os
import tracemalloc
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compliance.vault import (
    Corrupt,
    ObjectContext,
    VaultError,
    WrongContext,
    WrongKey,
    WrongKeyOrContext,
    new_key,
    open_reader,
    plaintext_size,
    seal_writer,
    sealed_size,
)
from compliance.vault.segments import HEADER_BYTES, SEGMENT_BYTES, TAG_BYTES, SegmentCipher

KEY = bytes(range(32))
CONTEXT = ObjectContext("w1", "d7", "o9", "shard", "1")
OTHER_CONTEXT = ObjectContext("w2", "d7", "o9", "shard", "1")
FIRST = SEGMENT_BYTES - TAG_BYTES - HEADER_BYTES
PAYLOAD = SEGMENT_BYTES - TAG_BYTES
BORDERS = [0, 1, FIRST - 1, FIRST, FIRST + 1, FIRST + PAYLOAD - 1, FIRST + PAYLOAD, FIRST + PAYLOAD + 1]
#: Three full segments and a bit; its content differs everywhere, so that a swap cannot go unseen.
CONTENT = os.urandom(FIRST + 2 * PAYLOAD + 1000)


def seal(content, key=KEY, context=CONTEXT):
    sink = io.BytesIO()
    with seal_writer(sink, key, context) as writer:
        writer.write(content)
    return sink.getvalue(), writer.commitment


def read_until_error(sealed, **options):
    """What a reader hands out before its error, and that error (None at a proper end)."""
    got = bytearray()
    try:
        reader = open_reader(io.BytesIO(sealed), options.pop("key", KEY), options.pop("context", CONTEXT), **options)
        while part := reader.read(1 << 16):
            got += part
    except VaultError as error:
        return bytes(got), error
    return bytes(got), None


@pytest.fixture(scope="module")
def sealed():
    return seal(CONTENT)


@pytest.mark.parametrize("size", BORDERS)
def test_content_comes_back_at_every_border_of_a_segment(size):
    content = CONTENT[:size]
    sealed, commitment = seal(content)
    assert open_reader(io.BytesIO(sealed), KEY, CONTEXT, commitment).read() == content
    assert len(sealed) == sealed_size(size)
    assert plaintext_size(len(sealed)) == size


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(0, SEGMENT_BYTES + 100), max_size=4),
    st.integers(700, 2 * SEGMENT_BYTES),
)
def test_content_does_not_depend_on_how_it_is_cut_into_writes_and_reads(writes, read_bytes):
    content = CONTENT[: sum(writes)]
    sink, view = io.BytesIO(), memoryview(content)
    with seal_writer(sink, KEY, CONTEXT) as writer:
        for size in writes:
            assert writer.write(view[:size]) == min(size, len(view))
            view = view[size:]
    assert writer.plaintext_bytes == len(content)
    reader = open_reader(io.BytesIO(sink.getvalue()), KEY, CONTEXT)
    assert b"".join(iter(lambda: reader.read(read_bytes), b"")) == content


@settings(deadline=None)
@given(st.integers(0, 1 << 40))
def test_sizes_can_be_told_from_each_other(size):
    assert plaintext_size(sealed_size(size)) == size


def test_lengths_that_no_object_has_are_refused():
    for size in (0, HEADER_BYTES, HEADER_BYTES + TAG_BYTES - 1, SEGMENT_BYTES + 1, SEGMENT_BYTES + TAG_BYTES):
        with pytest.raises(Corrupt):
            plaintext_size(size)


def test_lines_come_out_through_a_buffered_reader_and_straight():
    content = b"".join(b"line %d %s\n" % (number, b"x" * (number % 300)) for number in range(20_000))
    sealed, commitment = seal(content)
    buffered = io.BufferedReader(open_reader(io.BytesIO(sealed), KEY, CONTEXT, commitment), 1 << 20)
    assert list(buffered) == content.splitlines(keepends=True)
    assert list(open_reader(io.BytesIO(sealed), KEY, CONTEXT)) == content.splitlines(keepends=True)


def test_a_source_that_trickles_and_only_reads_is_enough(sealed):
    class Trickle:
        def __init__(self, data):
            self._data = io.BytesIO(data)

        def read(self, size):
            return self._data.read(min(size, 99_991))

    assert open_reader(Trickle(sealed[0]), KEY, CONTEXT).read() == CONTENT


def test_two_objects_of_one_content_share_no_bytes_worth_comparing():
    first, second = seal(b"same")[0], seal(b"same")[0]
    assert first[1:] != second[1:]
    assert first[HEADER_BYTES:] != second[HEADER_BYTES:]


def test_memory_stays_at_two_segments_for_each_side():
    class Discard:
        def write(self, data):
            return len(data)

    piece = bytes(100_000)
    tracemalloc.start()
    writer = seal_writer(Discard(), KEY, CONTEXT)
    for _ in range(160):
        writer.write(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5 * SEGMENT_BYTES
    assert writer.plaintext_bytes == 16_000_000

    source = io.BytesIO(seal(bytes(8 << 20))[0])
    buffer = bytearray(100_000)
    tracemalloc.start()
    reader = open_reader(source, KEY, CONTEXT)
    while reader.readinto(buffer):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5 * SEGMENT_BYTES


# Attack 4: segments swapped, dropped, appended, cut everywhere.


def test_a_small_object_cut_at_any_byte_gives_an_error_and_nothing_else():
    sealed, commitment = seal(b"forty-two bytes of something confidential.")
    for cut in range(len(sealed)):
        got, error = read_until_error(sealed[:cut], commitment=commitment)
        assert got == b""
        assert isinstance(error, Corrupt)


def test_a_large_object_cut_near_any_border_gives_whole_segments_and_then_an_error(sealed):
    borders = [0, HEADER_BYTES, SEGMENT_BYTES, 2 * SEGMENT_BYTES, 3 * SEGMENT_BYTES, len(sealed[0])]
    cuts = {border + shift for border in borders for shift in (-TAG_BYTES - 1, -TAG_BYTES, -1, 0, 1, TAG_BYTES)}
    for cut in sorted(cut for cut in cuts if 0 <= cut < len(sealed[0])):
        got, error = read_until_error(sealed[0][:cut], commitment=sealed[1])
        assert isinstance(error, Corrupt), cut
        assert got == CONTENT[: len(got)]
        assert len(got) in (0, FIRST, FIRST + PAYLOAD, FIRST + 2 * PAYLOAD)
        assert len(got) <= cut


def test_any_altered_byte_gives_an_error_and_no_plaintext_of_its_segment():
    sealed, commitment = seal(b"confidential")
    for place in range(len(sealed)):
        altered = bytearray(sealed)
        altered[place] ^= 1
        got, error = read_until_error(bytes(altered), commitment=commitment)
        assert got == b""
        assert isinstance(error, Corrupt)


@pytest.mark.parametrize(
    ("order", "whole"),
    [
        ([1, 0, 2, 3], 0),
        ([0, 2, 1, 3], 1),
        ([0, 2, 3], 1),
        ([0, 1, 3], 2),
        ([1, 2, 3], 0),
        ([0, 1, 2], 2),
        ([0, 1, 1, 2, 3], 2),
        ([0, 1, 2, 3, 3], 3),
        ([0, 1, 2, 3, 1], 3),
    ],
    ids=["swap-first", "swap", "drop", "drop-later", "drop-first", "drop-last", "repeat", "append-last", "append"],
)
def test_moved_segments_give_an_error_after_the_last_good_one(sealed, order, whole):
    data = sealed[0]
    pieces = [data[HEADER_BYTES:SEGMENT_BYTES]]
    pieces += [data[start : start + SEGMENT_BYTES] for start in range(SEGMENT_BYTES, len(data), SEGMENT_BYTES)]
    forged = data[:HEADER_BYTES] + b"".join(pieces[number] for number in order)
    got, error = read_until_error(forged, commitment=sealed[1])
    assert isinstance(error, Corrupt)
    # A segment of another length than its place shifts all that follows, so less may come out, but never more.
    assert got == CONTENT[: len(got)]
    assert len(got) <= (FIRST + (whole - 1) * PAYLOAD if whole else 0)


@pytest.mark.parametrize("tail", [b"\0", b"x" * TAG_BYTES, b"y" * SEGMENT_BYTES])
def test_bytes_behind_the_end_are_an_error(sealed, tail):
    got, error = read_until_error(sealed[0] + tail, commitment=sealed[1])
    assert isinstance(error, Corrupt)
    assert len(got) < len(CONTENT)


def test_a_segment_of_another_object_of_the_same_key_is_an_error(sealed):
    other = seal(CONTENT)[0]
    forged = sealed[0][:SEGMENT_BYTES] + other[SEGMENT_BYTES : 2 * SEGMENT_BYTES] + sealed[0][2 * SEGMENT_BYTES :]
    got, error = read_until_error(forged, commitment=sealed[1])
    assert isinstance(error, Corrupt)
    assert got == CONTENT[:FIRST]


def test_an_empty_last_segment_behind_a_full_one_is_refused():
    """The key holder could make it; accepted, one content would have two sealed forms and appending would be easier."""
    sealed, commitment = seal(CONTENT[:FIRST])
    segments = SegmentCipher(KEY, sealed[:HEADER_BYTES], CONTEXT)
    forged = bytearray(len(sealed) + TAG_BYTES)
    forged[:HEADER_BYTES] = sealed[:HEADER_BYTES]
    segments.seal([memoryview(CONTENT)[:FIRST]], memoryview(forged)[HEADER_BYTES : len(sealed)], is_last=False)
    segments.seal([], memoryview(forged)[len(sealed) :], is_last=True)
    got, error = read_until_error(bytes(forged), commitment=commitment)
    assert isinstance(error, Corrupt)
    assert got == CONTENT[:FIRST]


def test_a_reader_that_failed_keeps_failing(sealed):
    altered = bytearray(sealed[0])
    altered[SEGMENT_BYTES + 5] ^= 1
    reader = open_reader(io.BytesIO(bytes(altered)), KEY, CONTEXT)
    assert reader.read(FIRST) == CONTENT[:FIRST]
    for _ in range(3):
        with pytest.raises(Corrupt, match="segment 1"):
            reader.read(1)


@pytest.mark.parametrize("size", [100, 2 * SEGMENT_BYTES], ids=["small", "large"])
def test_a_failed_read_leaves_no_plaintext_in_any_buffer(sealed, size):
    altered = bytearray(sealed[0])
    altered[100] ^= 1
    reader = open_reader(io.BytesIO(bytes(altered)), KEY, CONTEXT, sealed[1])
    buffer = bytearray(size)
    with pytest.raises(Corrupt):
        reader.readinto(buffer)
    assert not any(buffer)
    assert not any(reader._plain)


# Attack 5: right key, wrong context; and the other ways round.


def test_wrong_key_or_context_fails_at_the_commitment_before_anything_is_read(sealed):
    class Untouched:
        def read(self, size):
            raise AssertionError("the object was read")

        readinto = read

    for key, context in ((new_key(), CONTEXT), (KEY, OTHER_CONTEXT)):
        with pytest.raises(WrongKeyOrContext):
            open_reader(Untouched(), key, context, sealed[1])


def test_wrong_key_or_context_fails_without_a_commitment_too(sealed):
    for options in ({"key": new_key()}, {"context": OTHER_CONTEXT}):
        got, error = read_until_error(sealed[0], **options)
        assert got == b""
        assert isinstance(error, WrongKey)
        assert isinstance(error, WrongContext)


@pytest.mark.parametrize("name", ["workspace", "dataset", "object", "kind", "version"])
def test_every_field_of_the_context_counts(name):
    sealed, commitment = seal(b"x")
    other = ObjectContext.from_json({**CONTEXT.to_json(), name: "else"})
    assert read_until_error(sealed, context=other)[1] is not None
    with pytest.raises(WrongContext):
        open_reader(io.BytesIO(sealed), KEY, other, commitment)


# Writers that do not reach their end.


def test_leaving_by_an_exception_leaves_no_valid_object():
    for content in (b"", b"short", CONTENT[: FIRST + 1]):
        sink = io.BytesIO()
        with suppress(RuntimeError), seal_writer(sink, KEY, CONTEXT) as writer:
            writer.write(content)
            raise RuntimeError
        assert read_until_error(sink.getvalue())[1] is not None
        with pytest.raises(ValueError, match="closed"):
            writer.write(b"more")


def test_a_forgotten_writer_leaves_no_valid_object():
    sink = io.BytesIO()
    writer = seal_writer(sink, KEY, CONTEXT)
    writer.write(b"half")
    del writer
    gc.collect()
    assert read_until_error(sink.getvalue())[1] is not None


@pytest.mark.parametrize("room", [0, 20, HEADER_BYTES, SEGMENT_BYTES, SEGMENT_BYTES + 5])
def test_a_full_disk_is_reported_and_leaves_no_valid_object(room):
    class Disk(io.BytesIO):
        def write(self, data):
            if self.tell() + len(data) > room:
                raise OSError(28, "No space left on device")
            return super().write(data)

    disk = Disk()
    with pytest.raises(OSError, match="space"), seal_writer(disk, KEY, CONTEXT) as writer:
        writer.write(CONTENT)
    assert read_until_error(disk.getvalue())[1] is not None


def test_a_writer_whose_sink_failed_cannot_be_closed_as_if_nothing_had_been():
    class Failing(io.BytesIO):
        def write(self, data):
            if len(data) > HEADER_BYTES:
                raise OSError(5, "Input/output error")
            return super().write(data)

    writer = seal_writer(Failing(), KEY, CONTEXT)
    with pytest.raises(OSError, match="Input/output"):
        writer.write(CONTENT)
    with pytest.raises(ValueError, match="given up"):
        writer.close()


def test_a_sink_that_takes_less_than_it_is_given_gets_the_rest():
    class Narrow(io.BytesIO):
        def write(self, data):
            return super().write(bytes(data[:70_001]))

    narrow = Narrow()
    with seal_writer(narrow, KEY, CONTEXT) as writer:
        writer.write(CONTENT)
    assert read_until_error(narrow.getvalue()) == (CONTENT, None)


@pytest.mark.parametrize("key", [b"", b"x" * 16, b"x" * 33])
def test_keys_of_another_length_are_refused(key):
    with pytest.raises(ValueError, match="32 bytes"):
        seal_writer(io.BytesIO(), key, CONTEXT)
    with pytest.raises(ValueError, match="32 bytes"):
        open_reader(io.BytesIO(), key, CONTEXT)

"""The channel to a trainer elsewhere: only the two who hold the keys talk, and only in the order they spoke."""

import contextlib
import io
import itertools
import socket
import threading

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers.channel import MAX_FRAME_BYTES, ChannelError, Session, accept, connect, key_from, public


@contextlib.contextmanager
def connected():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def lines():
    with contextlib.ExitStack() as stack:
        yield stack


def meet(lines, platform, trainer, *, expects=None, told=None, runs=("r1", "r1")):
    """Sessions, or the errors, of both sides after a handshake over a real connection."""
    ours, theirs = lines.enter_context(connected())
    outcome = {}

    def side(name, line, handshake, *arguments):
        line.settimeout(5)
        try:
            outcome[name] = handshake(line.makefile("rwb"), *arguments)
        except ChannelError as error:
            outcome[name] = error
        finally:
            if not isinstance(outcome.get(name), Session):
                line.close()

    answer = (accept, runs[1], trainer, public(expects or platform))
    thread = threading.Thread(target=side, args=("trainer", theirs, *answer))
    thread.start()
    side("platform", ours, connect, runs[0], platform, told or public(trainer))
    thread.join()
    return outcome["platform"], outcome["trainer"]


def keys():
    return X25519PrivateKey.generate(), X25519PrivateKey.generate()


def test_both_sides_hear_what_was_said(lines):
    platform, trainer = meet(lines, *keys())
    for content in (b"", b"hello", bytes(range(256)) * 200):
        platform.send(content)
        assert trainer.receive() == content
        trainer.send(content[::-1])
        assert platform.receive() == content[::-1]
    with pytest.raises(ChannelError, match="too long"):
        platform.send(bytes(MAX_FRAME_BYTES))


@pytest.mark.parametrize("wrong", ["platform", "trainer", "run", "no key"])
def test_whoever_has_another_key_or_means_another_run_hears_nothing(wrong, lines):
    platform, trainer = keys()
    stranger = X25519PrivateKey.generate()
    options = {
        "platform": {"expects": stranger},
        "trainer": {"told": public(stranger)},
        "run": {"runs": ("r1", "r2")},
        "no key": {"told": bytes(32)},
    }[wrong]
    sides = meet(lines, platform, trainer, **options)
    assert all(isinstance(side, ChannelError) for side in sides)


def test_the_platform_s_key_is_the_same_for_a_successor_and_another_for_each_attempt():
    places = itertools.product((b"a" * 32, b"b" * 32), "xy", (1, 2))
    made = {public(key_from(*place)) for place in places}
    assert len(made) == 8
    assert public(key_from(b"a" * 32, "x", 1)) in made


class Recorded(io.RawIOBase):
    """Half a connection whose bytes are kept."""

    def __init__(self):
        self.sent = bytearray()

    def write(self, data):
        self.sent += data
        return len(data)

    def flush(self):
        pass


def frames(contents):
    """The sealed frames of some messages, and a function that makes a fresh reader of bytes."""
    line = Recorded()
    session = Session(line, b"s" * 32, b"r" * 32)
    pieces = []
    for content in contents:
        before = len(line.sent)
        session.send(content)
        pieces.append(bytes(line.sent[before:]))
    return pieces, lambda data: Session(io.BytesIO(data), b"r" * 32, b"s" * 32)


def heard(session):
    said = []
    try:
        while True:
            said.append(session.receive())
    except ChannelError:
        return said


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=5), st.data())
@settings(deadline=None)
def test_a_changed_bit_is_noticed_where_it_is(contents, data):
    pieces, reader = frames(contents)
    line = bytearray(b"".join(pieces))
    place = data.draw(st.integers(0, len(line) - 1))
    line[place] ^= 1 << data.draw(st.integers(0, 7))
    said = heard(reader(bytes(line)))
    assert said == contents[: len(said)]
    assert len(said) < len(contents)
    assert sum(map(len, pieces[: len(said)])) <= place


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=2, max_size=5), st.data())
@settings(deadline=None)
def test_frames_that_are_repeated_left_out_or_swapped_are_noticed(contents, data):
    pieces, reader = frames(contents)
    order = data.draw(st.lists(st.integers(0, len(pieces) - 1), max_size=6))
    said = heard(reader(b"".join(pieces[index] for index in order)))
    right = 0
    while right < len(order) and order[right] == right:
        right += 1
    assert said == contents[:right]


def test_a_recorded_session_cannot_be_played_again(lines):
    platform, trainer = keys()
    recorded = Recorded()

    class Both(io.RawIOBase):
        def __init__(self, line):
            self.line = line

        def read(self, size):
            return self.line.read(size)

        def write(self, data):
            recorded.write(data)
            return self.line.write(data)

        def flush(self):
            self.line.flush()

    ours, theirs = lines.enter_context(connected())
    thread = threading.Thread(
        target=lambda: accept(theirs.makefile("rwb"), "r", trainer, public(platform)), daemon=True
    )
    thread.start()
    connect(Both(ours.makefile("rwb")), "r", platform, public(trainer)).send(b"start")
    thread.join(5)

    class Replayed(io.RawIOBase):
        def __init__(self):
            self.line = io.BytesIO(bytes(recorded.sent))

        def read(self, size):
            return self.line.read(size)

        def write(self, data):
            return len(data)

        def flush(self):
            pass

    with pytest.raises(ChannelError, match="does not open"):
        accept(Replayed(), "r", trainer, public(platform))

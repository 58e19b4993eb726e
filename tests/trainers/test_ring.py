"""A ring of members sums as one would, bit for bit the same for all, and lets nobody read, write or enter."""

import contextlib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainers.started import RING_SECRET as SECRET
from tests.trainers.started import address, doors
from trainers import parallel, ring
from trainers.channel import ring_secret
from trainers.errors import TrainerError
from trainers.keys import RingPlace
from trainers.ring import Outlet, meet


@contextlib.contextmanager
def rings(count, secrets=None, between=lambda member, place: place):
    """So many members in as many threads; `between` may lead the way to a member elsewhere."""
    opened = doors(count)
    places = [between(rank, address(door)) for rank, door in enumerate(opened)]
    with ThreadPoolExecutor(count) as pool, contextlib.ExitStack() as stack:
        for door in opened:
            stack.enter_context(door)
        made = [
            pool.submit(meet, "r1", RingPlace((secrets or {}).get(rank, SECRET), rank, tuple(places)), opened[rank])
            for rank in range(count)
        ]
        members = []
        for each in made:
            with contextlib.suppress(TrainerError):
                members.append(each.result(30))
                stack.callback(members[-1].close, is_done=False)
        yield members, [each.exception(30) for each in made], pool


def all_do(pool, members, work):
    return [each.result(30) for each in [pool.submit(work, member) for member in members]]


@pytest.fixture(scope="module")
def trio():
    with rings(3) as (members, _, pool):
        yield members, pool


values = st.floats(-1e6, 1e6, width=32)


@given(st.lists(values, max_size=40), st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.int64]))
@settings(deadline=None, max_examples=60)
def test_every_member_has_the_same_bits_and_they_are_the_sum(trio, numbers, dtype):
    members, pool = trio
    own = [(torch.tensor(numbers, dtype=torch.float64) * (rank + 1) + rank).to(dtype) for rank in range(3)]
    summed = [each.clone() for each in own]
    all_do(pool, members, lambda member: member.add(summed[member.rank]))
    assert all(torch.equal(each, summed[0]) for each in summed)
    expected = sum(each.double() for each in own)
    scale = sum(each.double().abs() for each in own)
    worst = {torch.float32: 1e-6, torch.float64: 1e-14, torch.bfloat16: 2e-2, torch.int64: 0}[dtype]
    assert ((summed[0].double() - expected).abs() <= worst * scale).all()


def test_a_vector_of_many_frames_keeps_its_shape_and_a_number_is_summed_in_fp64(trio, monkeypatch):
    members, pool = trio
    monkeypatch.setattr(ring, "FRAME_BYTES", 4096)
    source = torch.Generator().manual_seed(1)
    own = [torch.randn(7, 5001, generator=source) for _ in range(3)]
    summed = [each.clone() for each in own]
    all_do(pool, members, lambda member: member.add(summed[member.rank]))
    assert all(torch.equal(each, summed[0]) for each in summed)
    torch.testing.assert_close(summed[0], own[0] + own[1] + own[2])
    totals = all_do(pool, members, lambda member: member.total(0.1 + member.rank))
    assert totals == [pytest.approx(3.3, abs=1e-15)] * 3
    assert len({*totals}) == 1
    lengths = [9, 4, 4, 2, 1, 7]
    parts = [member.share(list(range(6)), lengths) for member in members]
    assert sorted(index for part in parts for index in part) == list(range(6))


@pytest.mark.parametrize("count", [1, 2, 3, 7, 100])
def test_slices_of_a_sum_cover_a_vector_of_any_length(trio, count):
    members, pool = trio
    parts = all_do(pool, members, lambda member: member.scatter(torch.arange(count).float() * (member.rank + 1)))
    wholes = all_do(pool, members, lambda member: member.gather(parts[member.rank]))
    length = -(-count // 3)
    expected = torch.cat([torch.arange(count) * 6.0, torch.zeros(3 * length - count)])
    assert all(torch.equal(each, expected) for each in wholes)
    assert all(torch.equal(part, expected[rank * length :][:length]) for rank, part in enumerate(parts))


def test_the_others_wait_for_what_the_first_does_alone_for_longer_than_their_patience(monkeypatch):
    monkeypatch.setattr(ring, "PATIENCE", timedelta(seconds=1))
    monkeypatch.setattr(parallel, "BEAT_SECONDS", 0.2)

    def work(member, go_on_saying):
        if member.rank:
            parallel.await_first(member)
            return member.total(1.0)
        with parallel.awaited(member) as go_on:
            until = time.monotonic() + 3
            while time.monotonic() < until:
                time.sleep(0.05)
                if go_on_saying:
                    go_on()
        return member.total(1.0)

    with rings(3) as (members, _, pool):
        assert all_do(pool, members, lambda member: work(member, True)) == [3.0] * 3
    with rings(3) as (members, _, pool), pytest.raises(TrainerError) as raised:
        all_do(pool, members, lambda member: work(member, False))
    assert raised.value.code == "parallel.lost"


def test_the_loss_of_another_ends_what_the_first_does_alone_and_the_loss_of_the_first_the_wait(monkeypatch):
    monkeypatch.setattr(parallel, "BEAT_SECONDS", 0.1)

    def answer(member):
        with parallel.awaited(member) as go_on:
            while True:
                time.sleep(0.05)
                go_on()

    for lost, work in ((1, answer), (0, parallel.await_first)):
        with rings(2) as (members, _, pool):
            at_work = pool.submit(work, members[1 - lost])
            members[lost].close(is_done=False)
            with pytest.raises(TrainerError) as raised:
                at_work.result(20)
            assert raised.value.code == "parallel.lost"


class Wire:
    """A way to a member that keeps what passes, and may change it, cut it or play it again."""

    def __init__(self, target, harm=None):
        self.seen, self._harm, self._target = bytearray(), harm, target
        self._door = socket.create_server(("127.0.0.1", 0))
        self.address = address(self._door)
        threading.Thread(target=self._carry, daemon=True).start()

    def _carry(self):
        with (
            contextlib.suppress(OSError),  # either end may leave first
            self._door,
            self._door.accept()[0] as near,
            socket.create_connection(self._target) as far,
        ):
            threading.Thread(target=self._back, args=(far, near), daemon=True).start()
            while data := near.recv(1 << 16):
                self.seen += data
                far.sendall(self._harm(data, self.seen) if self._harm else data)
            far.shutdown(socket.SHUT_RDWR)

    def _back(self, far, near):
        with contextlib.suppress(OSError):
            while data := far.recv(1 << 16):
                near.sendall(data)
            near.shutdown(socket.SHUT_RDWR)


def wired(harm=None):
    wires = {}

    def between(rank, place):
        wires[rank] = Wire(place, harm if rank == 1 else None)
        return wires[rank].address

    return wires, between


def test_nothing_of_the_numbers_is_seen_on_the_network():
    wires, between = wired()
    with rings(2, between=between) as (members, _, pool):
        own = [torch.full((6000,), 1234.5678 + rank) for rank in range(2)]
        needles = [each[:2].numpy().tobytes() for each in (*own, own[0] + own[1])]
        all_do(pool, members, lambda member: member.add(own[member.rank]))
        seen = bytes(wires[0].seen + wires[1].seen)
    assert len(seen) > 2 * 6000 * 4
    assert not any(needle in seen for needle in needles)
    assert SECRET not in seen


@pytest.mark.parametrize("harm", ["changed", "cut", "played again"])
def test_a_frame_that_is_changed_cut_or_played_again_ends_the_run(harm):
    def harmed(data, seen):
        if len(seen) < 3000:
            return data  # the handshake
        if harm == "changed":
            return data[:-1] + bytes([data[-1] ^ 1])
        return data[:-9] if harm == "cut" else data + data

    _, between = wired(harmed)

    def work(member):
        with pytest.raises(TrainerError) as error:
            member.add(*(torch.ones(2000) for _ in range(9)))
        member.close(is_done=False)
        return error.value.code

    with rings(2, between=between) as (members, _, pool):
        assert all_do(pool, members, work) == ["parallel.lost"] * 2


def test_a_member_with_another_secret_finds_no_place(monkeypatch):
    monkeypatch.setattr(ring, "MEETING_SECONDS", 3.0)
    other = ring_secret(SECRET, "r1", 2)
    assert other not in (SECRET, ring_secret(SECRET, "r1", 1), ring_secret(SECRET, "r2", 2))
    with rings(3, {1: other}) as (members, errors, _):
        assert members == []
        assert [each.code for each in errors] == ["parallel.lost"] * 3


def test_a_stranger_at_the_door_does_not_keep_the_members_apart(monkeypatch):
    monkeypatch.setattr(ring, "STRANGER_SECONDS", 0.5)
    (own, other), size = doors(2), 2
    places = (address(own), address(other))
    with own, other, socket.create_connection(places[0]) as silent, ThreadPoolExecutor(2) as pool:
        silent.sendall(b"GET / HTTP/1.1\r\n\r\n")
        made = [pool.submit(meet, "r1", RingPlace(SECRET, rank, places), (own, other)[rank]) for rank in range(size)]
        members = [each.result(20) for each in made]
        assert all_do(pool, members, lambda member: member.total(1.0)) == [2.0, 2.0]
        for member in members:
            member.close(is_done=False)


def test_one_that_leaves_takes_the_others_along():
    with rings(3) as (members, _, pool):
        members[1].close(is_done=False)

        def work(member):
            with pytest.raises(TrainerError) as error:
                member.add(torch.ones(5))
            member.close(is_done=False)
            return error.value.code

        begun = time.monotonic()
        assert all_do(pool, [members[0], members[2]], work) == ["parallel.lost"] * 2
        assert time.monotonic() - begun < 5


def test_one_that_leaves_has_said_everything_before():
    said = []

    def send(content):
        time.sleep(0.1)
        said.append(content)

    link = SimpleNamespace(session=SimpleNamespace(send=send), close=lambda: said.append("closed"))
    outlet = Outlet(link)
    for number in range(4):
        outlet.put(bytes([number]))
    outlet.close(is_done=False)
    assert said == [b"\0", b"\1", b"\2", b"\3", "closed"]


def test_one_that_leaves_does_not_wait_long_for_a_neighbour_that_does_not_listen(monkeypatch):
    monkeypatch.setattr(ring, "PARTING_SECONDS", 0.2)
    hanging = threading.Event()
    link = SimpleNamespace(session=SimpleNamespace(send=lambda content: hanging.wait(20)), close=hanging.set)
    outlet = Outlet(link)
    for number in range(1 + ring.IN_FLIGHT):
        outlet.put(bytes([number]))
    begun = time.monotonic()
    outlet.close(is_done=False)
    assert time.monotonic() - begun < 5
    assert hanging.is_set()


def test_a_closed_port_is_named(monkeypatch):
    monkeypatch.setattr(ring, "REACH_SECONDS", 1.0)
    own, gone = doors(2)
    places = (address(own), address(gone))
    gone.close()
    with (
        own,
        pytest.raises(TrainerError, match=f"rank 1 at 127.0.0.1, port {places[1][1]}, cannot be reached") as error,
    ):
        meet("r1", RingPlace(SECRET, 0, places), own)
    assert error.value.code == "parallel.unreachable"


def test_a_member_that_is_gone_before_the_ring_closed_ends_the_others_within_seconds():
    opened = doors(3)
    places = tuple(address(door) for door in opened)
    with opened[0], opened[2], ThreadPoolExecutor(2) as pool:
        made = [pool.submit(meet, "r1", RingPlace(SECRET, rank, places), opened[rank]) for rank in (0, 2)]
        time.sleep(1.5)  # the first has connected to the second, which does not answer yet
        assert not any(each.done() for each in made)
        opened[1].close()
        begun = time.monotonic()
        assert [each.exception(30).code for each in made] == ["parallel.lost"] * 2
        assert time.monotonic() - begun < 5


def test_a_member_that_is_gone_while_the_others_load_is_noticed_and_one_that_leaves_later_is_not():
    with rings(3) as (members, _, pool):
        lost = [threading.Event() for _ in members]
        for member, event in zip(members, lost, strict=True):
            member.watch(event.set)
        time.sleep(1)
        assert not any(event.is_set() for event in lost)
        members[1].close(is_done=False)
        assert lost[0].wait(5)
        assert lost[2].wait(5)
        assert not lost[1].is_set()
    with rings(2) as (members, _, pool):
        lost = [threading.Event() for _ in members]
        for member, event in zip(members, lost, strict=True):
            member.watch(event.set)
        all_do(pool, members, lambda member: member.total(1.0))
        members[1].close(is_done=True)
        assert not lost[0].wait(1.5)

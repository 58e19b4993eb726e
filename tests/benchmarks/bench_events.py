"""Durable events a second: 32 writers with the sealer at work, beside a hash chain under an advisory lock.

``run()`` gives two rows. `ledger`: each event is built as a ledger entry and inserted into the outbox in a transaction
of its own, on a server of its own with fsync on, while another process seals (tree, searchable columns, checkpoint).
The clock stops once the last event is sealed. `ledger_recorded`: the same through the function that actions record
with, Django's layers included. The peer is the classic design with the same bodies, server and connections: a writer
takes the lock, reads the last hash, inserts body and new hash, commits; nothing is proven or searchable by column.
"""

import contextlib
import hashlib
import json
import multiprocessing
import os
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

WRITERS = 32
PROCESSES = 4
SECONDS = 4.0
RUNS = 2
CHAIN_LOCK = 7_001
SEAL_EVERY_SECONDS = 0.1
PEER = "hash chain under an advisory lock"
FORK = multiprocessing.get_context("fork")
Writer = Callable[[Callable[[], bool]], int]


def run() -> dict[str, dict[str, Any]]:
    """Measure in a home of its own, which is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="steward-bench-") as home:
        os.environ |= {"STEWARD_HOME": home, "DJANGO_SETTINGS_MODULE": "steward.settings", "STEWARD_LOG_LEVEL": "ERROR"}
        os.environ.pop("DATABASE_URL", None)
        import django

        from steward import embedded

        with embedded.hold(Path(home, "postgres")):
            django.setup()
            prepare()
            best = {"outbox": 0.0, "recorded": 0.0, "chain": 0.0}
            for _ in range(RUNS):
                for name, writer in (("outbox", outbox), ("recorded", recorded), ("chain", chain)):
                    best[name] = max(best[name], events_per_second(writer, is_sealed=writer is not chain))
    return {
        name: {
            "figure": round(best[way]),
            "unit": f"durable events/s, {WRITERS} writers, {said}",
            "peer": PEER,
            "peer_figure": round(best["chain"]),
            "ratio": round(best[way] / best["chain"], 3),
            "runs": RUNS,
        }
        for name, way, said in (
            ("ledger", "outbox", "sealed"),
            ("ledger_recorded", "recorded", "sealed, through record()"),
        )
    }


def prepare() -> None:
    from django.core.management import call_command
    from django.db import connection

    call_command("migrate", interactive=False, verbosity=0)
    from steward.audit.sealer import seal_once

    seal_once()
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE bench_chain (index bigserial PRIMARY KEY, body bytea, hash bytea)")
    connection.close()


def events_per_second(writer: Writer, *, is_sealed: bool) -> float:
    """All writers' events over the time from the first to the last one committed, and sealed if that is asked for."""
    gate, results, stop = FORK.Barrier(PROCESSES + 1), FORK.Queue(), FORK.Event()
    writers = [FORK.Process(target=write, args=(writer, gate, results)) for _ in range(PROCESSES)]
    sealer = FORK.Process(target=seal, args=(stop,))
    for process in [*writers, sealer]:
        process.start()
    gate.wait()
    begun = time.perf_counter()
    events = sum(results.get() for _ in writers)
    stop.set()
    if is_sealed:
        sealer.join()
    seconds = time.perf_counter() - begun
    for process in [*writers, sealer]:
        process.join()
        assert process.exitcode == 0
    return events / seconds


def write(writer: Writer, gate: Any, results: Any) -> None:
    """One process of writers, each a thread with a connection of its own."""
    counts: list[int] = []
    ready = threading.Barrier(WRITERS // PROCESSES + 1)
    ends = [0.0]

    def work() -> None:
        ready.wait()
        counts.append(writer(lambda: time.perf_counter() < ends[0]))

    threads = [threading.Thread(target=work) for _ in range(WRITERS // PROCESSES)]
    for thread in threads:
        thread.start()
    gate.wait()
    ends[0] = time.perf_counter() + SECONDS
    ready.wait()
    for thread in threads:
        thread.join()
    results.put(sum(counts))


def seal(stop: Any) -> None:
    from steward.audit.sealer import seal_once

    while True:
        is_last = stop.is_set()
        while seal_once():
            pass
        if is_last:
            return
        stop.wait(SEAL_EVERY_SECONDS)


@contextlib.contextmanager
def connected() -> Iterator[Any]:
    """A plain connection to the platform's database."""
    import psycopg
    from django.db import connection

    known = connection.get_connection_params()
    wanted = {name: known[name] for name in ("dbname", "user", "password", "host", "port") if known.get(name)}
    with psycopg.connect(**wanted, autocommit=True) as made:
        yield made


def outbox(goes_on: Callable[[], bool]) -> int:
    count = 0
    with connected() as connection:
        while goes_on():
            event, body = an_event()
            connection.execute("INSERT INTO ledger_outbox (event_id, body) VALUES (%s, %b)", (event, body))
            count += 1
    return count


def recorded(goes_on: Callable[[], bool]) -> int:
    from django.db import connection, transaction

    from steward.accounts.models import Workspace
    from steward.audit.actor import Actor
    from steward.audit.events import Event
    from steward.audit.recording import _append

    subject, actor, count = Workspace(pk=uuid.uuid4()), Actor.system("bench"), 0
    while goes_on():
        with transaction.atomic(durable=True):
            _append(Event.SAMPLE_DRAWN, actor, "done", subject, None, None, {"size": count})
        count += 1
    connection.close()
    return count


def chain(goes_on: Callable[[], bool]) -> int:
    count = 0
    with connected() as connection:
        while goes_on():
            _, body = an_event()
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (CHAIN_LOCK,))
                last = connection.execute("SELECT hash FROM bench_chain ORDER BY index DESC LIMIT 1").fetchone()
                value = hashlib.sha256((last[0] if last else b"") + body).digest()
                connection.execute("INSERT INTO bench_chain (body, hash) VALUES (%b, %b)", (body, value))
            count += 1
    return count


def an_event() -> tuple[uuid.UUID, bytes]:
    from compliance.ledger.entry import build_body

    event = uuid.uuid4()
    return event, build_body(
        event_id=event,
        time=datetime.now(UTC),
        workspace="5f0c7a3e-6d1f-4c6a-9b57-1f5b4a1f7a11",
        actor="user:5f0c7a3e",
        action="sample.reviewed",
        outcome="done",
        object_type="sampleitem",
        object_id=str(event),
        before=None,
        after=None,
        facts={"verdict": "clean", "missed": 0},
    )


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))

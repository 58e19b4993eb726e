"""Every page that looks at a dataset, at 100,000 records, against the house's own limit of 150 ms a page.

``run()`` gives the slowest page's time: the 95th percentile of its requests, through the whole of Django (session,
permissions, decryption, template) but without a network. The records are really imported and sealed; detection alone
is stood in for, since it would take an hour and no page waits for it.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RECORDS = 100_000
REQUESTS = 30
LIMIT_MS = 150


def run() -> dict[str, dict[str, Any]]:
    """Measure in a home of its own, which is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="steward-bench-") as home:
        os.environ |= {"STEWARD_HOME": home, "DJANGO_SETTINGS_MODULE": "steward.settings", "STEWARD_LOG_LEVEL": "ERROR"}
        os.environ.pop("DATABASE_URL", None)
        import django

        from steward import embedded

        with embedded.hold(Path(home, "postgres")):
            django.setup()
            pages = measured()
    print(", ".join(f"{name} {milliseconds:.0f} ms" for name, milliseconds in pages.items()), file=sys.stderr)
    slowest = max(pages, key=lambda name: pages[name])
    return {
        "web": {
            "figure": round(pages[slowest], 1),
            "unit": f"ms, slowest page ({slowest}) at {RECORDS:,} records, 95th percentile",
            "peer": "limit of the house",
            "peer_figure": LIMIT_MS,
            "ratio": round(LIMIT_MS / pages[slowest], 3),
            "runs": REQUESTS,
        }
    }


def measured() -> dict[str, float]:
    """Milliseconds of each page, 95th percentile."""
    from django.core.management import call_command
    from django.test import Client
    from django.test.utils import setup_test_environment

    call_command("migrate", interactive=False, verbosity=0)
    setup_test_environment()
    from steward.accounts.models import User
    from steward.audit.models import LedgerEntry
    from tests.steward.house import House

    house = House(policy={"missed_per_1000_max": 1000})
    version = filled(house)
    client = Client()
    user = User.objects.get(pk=house.analyst.user_id)
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    root, at = f"/w/{house.workspace.slug}/", f"/w/{house.workspace.slug}/datasets/versions/{version.pk}/"
    paths = {
        "board": root,
        "datasets": f"{root}datasets/",
        "dataset": f"{root}datasets/{version.dataset_id}/",
        "version": at,
        "first records": f"{at}records/",
        "last records": f"{at}records/?after={RECORDS - 30}",
        "doubtful records": f"{at}records/?only=doubtful",
        "record": f"{at}records/{RECORDS // 2}/",
        "review": f"{at}review/",
        "new fine-tune": f"{root}fine-tunes/new/",
        "ledger": f"{root}ledger/",
        "entry": f"{root}ledger/{LedgerEntry.objects.visible_to([house.workspace.pk])[0].index}/",
    }
    return {name: percentile(client, path) for name, path in paths.items()}


def percentile(client: Any, path: str) -> float:
    times = []
    for _ in range(REQUESTS + 2):
        started = time.perf_counter()
        answer = client.get(path)
        times.append(1000 * (time.perf_counter() - started))
        assert answer.status_code == 200, (path, answer.status_code)
    return sorted(times[2:])[int(0.95 * REQUESTS) - 1]


def filled(house: Any) -> Any:
    """A redacted version with a drawn sample."""
    from steward.audit.sealer import seal_once
    from steward.datasets import actions, importing, intake, redacting

    redacting.INLINE_BELOW_RECORDS = RECORDS + 1
    redacting.redact_batch = stand_in
    dataset = house.dataset()
    version = intake.receive_file(actor=house.analyst, dataset=dataset, filename="visits.jsonl", chunks=content())
    version = importing.import_version(str(version.pk))
    run = redacting.redact_version(str(actions.start_redaction(actor=house.analyst, version=version).pk))
    actions.draw_sample(actor=house.reviewer, run=run)
    while seal_once():
        pass
    version.refresh_from_db()
    return version


def content() -> Iterator[bytes]:
    for number in range(RECORDS):
        row = {
            "prompt": f"Mrs. Quackenbush, visit {number}: what was done about the dressing on her left forearm?",
            "completion": f"Dressing changed, plan {number}. Review in two days, sooner if the wound weeps.",
            "patient_id": f"patient-{number // 8}",
        }
        yield json.dumps(row).encode() + b"\n"


def stand_in(profile: Any, key: bytes, batch: list[Any], known: Any) -> list[Any]:
    """What redaction yields, with one name found in each record, but nothing looked for."""
    from steward.datasets.redaction_work import RedactedTexts

    found = {
        "start": 5, "end": 16, "replacement_start": 5, "replacement_end": 16, "type": "PERSON", "score": 0.9,
        "rule": "person.title", "operator": "surrogate",
    }  # fmt: skip
    return [
        RedactedTexts([text for text, _ in each.texts], [[found]] + [[] for _ in each.texts[1:]], False, [[]], [])
        for each in batch
    ]


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))

"""A house with two released adapters on one tiny base, which can really be served."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import transaction

from tests.trainers.conftest import Workbench, make_model, records

SPEC = {"lora": {"rank": 4, "alpha": 8}}


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny base and two adapters for it, as runs ship them."""
    import torch
    from transformers import AutoModelForCausalLM

    from tests.steward.tool_talks import TEMPLATE
    from tests.trainers.test_engine import ship
    from trainers.spec import load_spec

    folder = make_model(tmp_path_factory.mktemp("served-base"), tie_word_embeddings=False, max_position_embeddings=1024)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        model.lm_head.weight[1] = 0.0  # the end token, which is then never the likeliest
    model.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE)  # without tools it writes what the one before did
    bench = Workbench(tmp_path_factory.mktemp("bench"), folder)
    for name in ("train", "validation"):
        bench.seal(name, records(2))
    spec = load_spec(bench.spec(**SPEC))
    return SimpleNamespace(folder=folder, adapters=[ship(folder, spec, seed=seed) for seed in (1, 2)])


@pytest.fixture
def served(archives: Any, transactional_db: None) -> Any:
    """The house, its two released model versions, and what ends the serving process afterwards."""
    from steward.runs.serving import stop_serving
    from tests.steward.house import House, visits

    outer = transaction.atomic()
    outer._from_testcase = True  # type: ignore[attr-defined]  # actions open a transaction that must be the outermost
    with outer:
        house = House(policy={"missed_per_1000_max": 1000})
        version = house.approved(visits(30))
        base = _registered(archives.folder)
        models = [
            _released(house, version, base, archive, name)
            for archive, name in zip(archives.adapters, "ab", strict=True)
        ]
    yield SimpleNamespace(house=house, models=models, ids=[str(each.pk) for each in models])
    stop_serving()


def _registered(folder: Path) -> Any:
    from steward.catalog.actions import register_base_model
    from steward.catalog.folders import inspect_folder
    from tests.steward.house import SYSTEM

    facts = inspect_folder(folder)
    return register_base_model(actor=SYSTEM, name="tiny", facts=facts, licence="Apache-2.0", source="tests")


def _released(house: Any, version: Any, base: Any, archive: bytes, name: str) -> Any:
    from compliance.vault import ObjectContext, seal_writer
    from steward.releases import actions as releases
    from steward.releases.models import Audience
    from steward.runs import actions as runs
    from steward.runs.specs import output_context, run_folder
    from steward.vault.keys import open_key
    from tests.steward.releases.conftest import _evaluated
    from trainers.events import RunFinished

    fine_tune = runs.request_fine_tune(actor=house.analyst, version=version, base_model=base, name=name, changes=SPEC)
    fine_tune = runs.dispatch_fine_tune(actor=house.analyst, fine_tune=fine_tune)
    path = run_folder(fine_tune) / "adapter.sealed"
    with open(path, "wb") as sink:
        writer = seal_writer(sink, open_key(fine_tune.output_key), ObjectContext(**output_context(fine_tune)))
        with writer:
            writer.write(archive)
    runs.finish_fine_tune(
        actor=house.analyst,
        fine_tune=fine_tune,
        finished=RunFinished(
            run=str(fine_tune.pk), adapter_digest=f"sha256:{hashlib.sha256(archive).hexdigest()}",
            sealed_digest=f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}",
            commitment=writer.commitment.hex(), adapter_bytes=len(archive), step=1, best_step=1, best_loss=0.5,
            stopped_early=False, seconds=1.0, tokens=10, flops=10, memory_bytes=1,
        ),
    )  # fmt: skip
    fine_tune.refresh_from_db()
    _evaluated(house, fine_tune.model_version)
    release = releases.request_release(
        actor=house.analyst, model_version=fine_tune.model_version, audience=Audience.INTERNAL, purpose="tests"
    )
    releases.approve_release(actor=house.officer, release=release, reason="")
    return fine_tune.model_version


@pytest.fixture(scope="module")
def furnished_rooms(django_db_setup: None, django_db_blocker: Any) -> Iterator[Any]:
    from tests.steward.rooms import furnished  # Django must be set up first

    with furnished(django_db_blocker) as rooms:
        yield rooms


@pytest.fixture
def rooms(furnished_rooms: Any, db: None) -> Any:
    """The module's rooms; what the test does to them is undone."""
    return furnished_rooms

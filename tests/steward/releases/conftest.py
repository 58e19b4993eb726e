"""A released model whose training was made up: everything else went through actions."""

import contextlib
import hashlib
import io
import json
import tarfile
from types import SimpleNamespace
from typing import Any

import pytest

BASE_SCORES = [0.0, 0.0, 1.0, 0.0]
TUNED_SCORES = [1.0, 1.0, 1.0, 0.0]
# What a person may type; the user's name in it must not leave the house.
PURPOSE = "Coding of notes for Grace Hopper's ward | internal"
ADAPTER = {"README.md": b"facts", "adapter_config.json": b"{}", "adapter_model.safetensors": bytes(9000)}
REASON = "Checked with Grace Hopper on Tuesday"


def adapter_archive() -> bytes:
    """A small adapter as the trainer packs it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in ADAPTER.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def requested(db: None) -> Any:
    """A house, and a release in it that waits for a decision."""
    return requested_release()


@pytest.fixture
def release(db: None) -> Any:
    """A release that an officer has approved."""
    return approved_release()


@pytest.fixture(scope="module")
def evidence(django_db_setup: None, django_db_blocker: Any) -> Any:
    """Documents of such a release, built once for all tests that only read them, and what they must (not) say."""
    from django.db import transaction

    from steward.accounts.models import User
    from steward.releases.evidence import build_documents

    outer = transaction.atomic()
    outer._from_testcase = True  # as in Django's own TestCase: actions open a transaction that must be the outermost
    with django_db_blocker.unblock(), outer:
        release = approved_release()
        people = list(User.objects.all())
        shown = SimpleNamespace(
            documents=build_documents(release),
            again=build_documents(type(release).objects.get(pk=release.pk)),
            archive=adapter_archive(),
            adapter_digest=release.adapter_digest,
            names={value for user in people for value in (user.username, user.display_name, user.email) if value},
            officer=str(release.decided_by.pseudonym),
        )
        transaction.set_rollback(True)
    return shown


def approved_release() -> Any:
    """A release asked for by an analyst and given by an officer, whose name and reasons must not leave the house."""
    from steward.releases import actions as releases

    house, release = requested_release()
    return releases.approve_release(actor=house.officer, release=release, reason=REASON)


def requested_release() -> Any:
    """The house, and a release in it that waits for a decision."""
    from steward.accounts.models import User
    from steward.releases import actions as releases
    from steward.releases.models import Audience
    from tests.steward.house import House, visits

    house = House(policy={"missed_per_1000_max": 1000})
    User.objects.filter(pk=house.officer.user_id).update(display_name="Grace Hopper", email="grace@ward.example")
    version = house.approved(visits(30))
    model_version = _trained(house, version)
    _evaluated(house, model_version)
    release = releases.request_release(
        actor=house.analyst, model_version=model_version, audience=Audience.INTERNAL, purpose=PURPOSE
    )
    return house, release


def _trained(house: Any, version: Any) -> Any:
    """A model version whose adapter nobody trained."""
    from compliance.vault import ObjectContext, seal_writer
    from steward.catalog.models import BaseModel
    from steward.runs import actions as runs
    from steward.runs.specs import output_context, run_folder
    from steward.vault.keys import open_key
    from trainers.events import RunFinished

    base = BaseModel.objects.create(
        name="Tiny-1M", path="/nowhere", digest=f"sha256:{'b' * 64}", licence="Apache-2.0", source="made for tests",
        parameters=1_000_000, context_length=2048, disk_bytes=4_000_000,
    )  # fmt: skip
    fine_tune = runs.request_fine_tune(
        actor=house.analyst, version=version, base_model=base, name="tuned", changes={"seed": 7}
    )
    fine_tune = runs.dispatch_fine_tune(actor=house.analyst, fine_tune=fine_tune)
    fine_tune.facts |= {"device": "cpu", "precision": "bf16", "data_train": {"records": 15, "tokens": 900}}
    fine_tune.step = 4
    fine_tune.save()
    archive = adapter_archive()
    context = ObjectContext(**output_context(fine_tune))
    with open(run_folder(fine_tune) / "adapter.sealed", "wb") as sink:
        writer = seal_writer(sink, open_key(fine_tune.output_key), context)
        with writer:
            writer.write(archive)
    sealed = (run_folder(fine_tune) / "adapter.sealed").read_bytes()
    runs.finish_fine_tune(
        actor=house.analyst,
        fine_tune=fine_tune,
        finished=RunFinished(
            run=str(fine_tune.pk), adapter_digest=f"sha256:{hashlib.sha256(archive).hexdigest()}",
            sealed_digest=f"sha256:{hashlib.sha256(sealed).hexdigest()}", commitment=writer.commitment.hex(),
            adapter_bytes=len(archive), step=4, best_step=3, best_loss=0.5, stopped_early=False, seconds=12.5,
            tokens=3600, flops=7_200_000_000, memory_bytes=1 << 30,
        ),
    )  # fmt: skip
    fine_tune.refresh_from_db()
    return fine_tune.model_version


def _evaluated(house: Any, model_version: Any) -> None:
    """Scores and passed gates that nobody measured."""
    from steward.assurance import actions as assurance
    from steward.assurance.gates import GateOutcome
    from steward.assurance.judgement import Judgement
    from steward.runs.shards import workflow_for
    from steward.vault.keys import make_key
    from steward.vault.models import KeyLevel
    from steward.vault.objects import ObjectWriter
    from trainers.events import EvaluateFinished

    evaluation = model_version.evaluations.get()
    with contextlib.ExitStack() as stack:
        writer = stack.enter_context(ObjectWriter(model_version.workspace, model_version.adapter.key, "predictions"))
        writer.write(json.dumps({"id": "1", "reference": "r", "base": "b", "tuned": "t"}).encode())
    assurance.finish_evaluation(
        actor=house.analyst,
        evaluation=evaluation,
        finished=EvaluateFinished(
            run="r", metric=evaluation.metric, ids=["3", "9", "14", "20"], base_scores=BASE_SCORES,
            tuned_scores=TUNED_SCORES, base_mean=0.25, tuned_mean=0.75, base_loss=2.0, tuned_loss=0.5, refused=0,
            predictions_digest="", sealed_digest="", commitment="", seconds=1.0,
        ),
        judgement=Judgement(BASE_SCORES, TUNED_SCORES),
        predictions=writer.sealed,
        key=make_key(model_version.workspace, KeyLevel.RUN),
    )  # fmt: skip
    workflow = workflow_for(model_version.workspace.domain, model_version.fine_tune.workflow)
    outcomes = [
        GateOutcome(gate, "passed", 0.5 if gate.passes(0.5) else gate.threshold, gate.reason, "Sees little.")
        for gate in workflow.gates
    ]
    assurance.store_gates(actor=house.analyst, evaluation=evaluation, outcomes=outcomes)

"""A model that was really trained is compressed and exported by real trainer processes; what leaves loads elsewhere."""

import io
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from steward.accounts.models import User
from steward.assurance import compressing
from steward.assurance.compression_actions import request_compression
from steward.assurance.models import EvaluationState
from steward.releases import exports
from steward.releases.export_actions import request_export
from steward.releases.models import ExportState, Release, ReleaseState
from steward.runs import actions, following
from steward.runs.specs import run_folder
from tests.steward.house import House, visits

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SMALL = {"lora": {"rank": 4, "alpha": 8}, "precision": "fp32", "batch_tokens": 400, "max_length": 512}


def test_a_trained_model_is_compressed_exported_and_loaded_elsewhere(
    house: House, tiny_base: Any, tmp_path: Path
) -> None:
    fine_tune = actions.request_fine_tune(
        actor=house.analyst,
        version=house.approved(visits(45)),
        base_model=tiny_base,
        name="try",
        changes={**SMALL, "epochs": 12},
    )
    done = following.drive(str(fine_tune.pk))
    model_version = done.model_version

    asked = request_compression(actor=house.analyst, model_version=model_version, ways=["int8", "blocks-1"])
    compression = compressing.compress(str(asked.pk))
    assert (compression.state, compression.failure) == (EvaluationState.DONE, "")
    assert [row["way"] for row in compression.rows] == ["tuned", "int8", "blocks-1"]
    assert compression.rows[0]["scored"] > 0

    # Gates and the second person are tested elsewhere.
    people = [User.objects.get(pk=actor.user_id) for actor in (house.analyst, house.officer)]
    release = Release.objects.create(
        workspace=house.workspace,
        model_version=model_version,
        adapter_digest=model_version.adapter_digest,
        audience="internal",
        state=ReleaseState.APPROVED,
        purpose="tests",
        requested_by=people[0],
        decided_by=people[1],
        decided_at=timezone.now(),
    )
    export = exports.make_export(str(request_export(actor=house.officer, release=release, form="merged").pk))
    assert (export.state, export.failure) == (ExportState.READY, "")
    assert export.figures["agreement"] >= export.figures["least_agreement"]
    assert export.figures["scored"] > 0
    whole = b"".join(exports.hand_out(actor=house.officer, export=exports.EXPORTS.get(pk=export.pk)))
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        tar.extractall(tmp_path / "model", filter="data")
    assert {"model.sig", "model-signing.pub", "parity.json", "README.md"} <= {
        each.name for each in (tmp_path / "model").iterdir()
    }
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert AutoModelForCausalLM.from_pretrained(tmp_path / "model").num_parameters() > 10_000
    assert AutoTokenizer.from_pretrained(tmp_path / "model").chat_template
    asked_for = request_export(actor=house.officer, release=release, form="compressed", way="blocks-1")
    smaller = exports.make_export(str(asked_for.pk))
    assert (smaller.state, smaller.failure) == (ExportState.READY, "")
    assert smaller.figures["parameters"] < compression.rows[0]["parameters"]
    whole = b"".join(exports.hand_out(actor=house.officer, export=exports.EXPORTS.get(pk=smaller.pk)))
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        tar.extractall(tmp_path / "smaller", filter="data")
    assert "compressed as blocks-1" in (tmp_path / "smaller" / "README.md").read_text()
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "smaller").config.num_hidden_layers == 1
    left = ["grep", "-rlaF", "-e", "Dressing changed", "-e", "__metadata__", str(run_folder(done))]
    left.append(str(settings.STEWARD_OBJECTS))
    assert subprocess.run(left, capture_output=True, text=True, check=False).stdout == ""
    assert not list(run_folder(done).glob("*.json")) or {each.name for each in run_folder(done).glob("*.json")} <= {
        "spec.json",
        "compression.json",
    }

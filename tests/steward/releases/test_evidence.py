"""The documents of an evidence bundle: the same each time, of published shapes, and without anybody's name or text."""

import hashlib
import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from compliance.ledger.bundle import contents_digest_of, write_bundle
from compliance.ledger.rows import VerificationError
from compliance.ledger.verify import verify_bundle
from domains.metrics import bootstrap_interval, paired_difference
from steward.audit.proofs import evidence_files, seal_all
from steward.keyring import verification_key
from steward.releases import actions
from steward.releases.bundles import WORKER, build_evidence, relevant_entries
from steward.releases.evidence import AdapterChanged, Incomplete, build_documents
from steward.releases.evidence.rendering import json_document, table

DOCUMENTS = {
    "README.md",
    "model-card.md",
    "model-card.json",
    "datasheet.md",
    "redaction-report.json",
    "redaction-report.md",
    "gates.json",
    "approvals.json",
    "mlbom.cdx.json",
    "provenance.intoto.json",
    "model.sig",
    "model-signing.pub",
    "verifier/verify.py",
}


def test_a_bundle_holds_every_document_and_the_same_bytes_each_time(evidence: Any) -> None:
    assert evidence.documents.keys() >= DOCUMENTS
    assert evidence.again == evidence.documents


def test_no_name_no_record_text_and_no_secret_is_in_a_document(evidence: Any) -> None:
    own = [content for name, content in evidence.documents.items() if not name.startswith("verifier/")]
    everything = b"\n".join(own).decode()
    home = str(settings.STEWARD_HOME)
    for text in [*evidence.names, "Quackenbush", "Dressing", "Checked with", "patient-", "PRIVATE KEY", home]:
        assert text not in everything, text
    assert evidence.officer in everything
    assert f"Coding of notes for {evidence.officer}'s ward" in everything


def test_the_bill_of_materials_is_valid_cyclonedx_and_joins_model_base_and_data(evidence: Any) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = evidence.documents["mlbom.cdx.json"].decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text.replace('"SHA-256"', '"SHA-9"')) is not None
    bill = json.loads(text)
    model, (base, data, *_) = bill["metadata"]["component"], bill["components"]
    assert base["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert (model["type"], base["type"], data["type"]) == ("machine-learning-model", "machine-learning-model", "data")
    assert model["hashes"][0]["content"] == hashlib.sha256(evidence.archive).hexdigest()
    metrics = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert [metric["value"] for metric in metrics] == ["0.250000", "0.750000", "0.500000"]
    depends = {each["ref"]: each["dependsOn"] for each in bill["dependencies"]}
    assert {base["bom-ref"], data["bom-ref"]} <= set(depends[model["bom-ref"]])


def test_the_provenance_is_an_in_toto_statement_about_the_adapter(evidence: Any) -> None:
    from google.protobuf import json_format
    from in_toto_attestation.v1 import statement, statement_pb2

    parsed = json_format.Parse(evidence.documents["provenance.intoto.json"], statement_pb2.Statement())
    statement.Statement.copy_from_pb(parsed).validate()
    assert parsed.subject[0].digest["sha256"] == hashlib.sha256(evidence.archive).hexdigest()
    assert parsed.predicate_type == "https://slsa.dev/provenance/v1"


def test_the_provenance_predicate_is_slsa_and_names_code_base_and_data(evidence: Any) -> None:
    from google.protobuf import json_format
    from in_toto_attestation.predicates.provenance.v1 import provenance_pb2

    predicate = json.loads(evidence.documents["provenance.intoto.json"])["predicate"]
    compute = predicate["runDetails"]["metadata"].pop("steward_compute")  # the one field that SLSA does not know
    json_format.ParseDict(predicate, provenance_pb2.Provenance())
    assert (compute["flops"], compute["tokens"]) == (7_200_000_000, 3600)
    assert predicate["buildDefinition"]["externalParameters"]["recipe"]["seed"] == 7
    names = {each["name"] for each in predicate["buildDefinition"]["resolvedDependencies"]}
    assert {"steward", "base-model", "dataset-version", "upload.sealed", "shard-train.sealed"} <= names


def test_the_command_in_the_readme_verifies_the_signature_and_notices_every_change(
    evidence: Any, tmp_path: Path
) -> None:
    for name in ("model.sig", "model-signing.pub"):
        (tmp_path / name).write_bytes(evidence.documents[name])
    folder = tmp_path / "ADAPTER_FOLDER"
    with tarfile.open(fileobj=io.BytesIO(evidence.archive)) as archive:
        archive.extractall(folder, filter="data")
    readme = evidence.documents["README.md"].decode()
    [command] = [line.split() for line in readme.splitlines() if line.startswith("model_signing ")]

    def verify() -> "subprocess.CompletedProcess[str]":
        run = [sys.executable, "-m", *command]
        return subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    whole = verify()
    assert whole.returncode == 0, whole.stderr
    (folder / "adapter_model.safetensors").write_bytes(bytes(8999) + b"\1")
    (folder / "extra.bin").write_bytes(b"")
    changed = verify()
    assert changed.returncode != 0
    assert "Hash mismatch for \\'adapter_model.safetensors" in changed.stderr
    assert "Extra files" in changed.stderr


def test_scores_and_intervals_can_be_computed_again_from_the_documents(evidence: Any) -> None:
    gates = json.loads(evidence.documents["gates.json"])
    rows = gates["scores"]["by_record"]
    base, tuned = [row["base"] for row in rows], [row["tuned"] for row in rows]
    assert [row["record"] for row in rows] == [3, 9, 14, 20]
    for name, again in {"tuned": bootstrap_interval(tuned), "gain": paired_difference(base, tuned)}.items():
        stated = gates["evaluation"][name]
        assert (stated["score"], stated["low"], stated["high"]) == (again.estimate, again.low, again.high)
    assert all(gate["has_passed"] and gate["measure"] and gate["limits"] for gate in gates["gates"])


def test_the_redaction_report_states_the_exact_bound_and_cites_the_profile(evidence: Any) -> None:
    report = json.loads(evidence.documents["redaction-report.json"])
    assert report["residual_risk"]["sample_size"] == report["sample"]["reviewed"] == 30
    # All 30 records were read and none had a miss: nothing is left to chance.
    assert report["residual_risk"]["upper_bound_ppm"] == 0
    assert report["sample"]["reviewers"] == 1
    assert any(policy["citation"].startswith("45 CFR 164.514") for policy in report["entity_policies"])


def test_approvals_show_two_people_and_what_they_were_bound_to(evidence: Any) -> None:
    given = json.loads(evidence.documents["approvals.json"])
    assert given["release"]["bound_to"] == evidence.adapter_digest
    assert given["release"]["requested_by"]["roles_now"] == ["analyst"]
    assert given["release"]["decided_by"] == {"pseudonym": evidence.officer, "roles_now": ["compliance_officer"]}
    assert given["release"]["requested_by"]["pseudonym"] != evidence.officer
    assert given["release"]["reason"].startswith("hmac:")
    assert given["waivers"] == []


def test_the_whole_bundle_verifies_in_a_process_that_has_only_the_verifier(release: Any, tmp_path: Path) -> None:
    path = Path(settings.STEWARD_HOME, build_evidence(str(release.pk)).path)
    with tarfile.open(path) as archive:
        archive.extractall(tmp_path, filter="data")
    verifier = str(tmp_path / "verifier" / "verify.py")
    command = [sys.executable, "-I", verifier, str(path), "--key", str(verification_key())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_document_exchanged_after_it_was_recorded_is_noticed(release: Any, tmp_path: Path) -> None:
    documents = build_documents(release)
    digest = contents_digest_of(documents)
    actions.seal_evidence(actor=WORKER, release=release, contents=digest, members=len(documents))
    seal_all()
    forged = documents | {"approvals.json": documents["approvals.json"].replace(b"approved", b"refused!")}
    write_bundle(tmp_path / "evidence.tar", {**forged, **evidence_files(relevant_entries(release))})
    with pytest.raises(VerificationError, match="no entry in the bundle records these files"):
        verify_bundle(tmp_path / "evidence.tar", [verification_key()])


def test_nothing_is_signed_or_shown_that_does_not_add_up(release: Any) -> None:
    """One release for all cases: each is put right again before the next."""
    decided_at, release.decided_at = release.decided_at, None
    with pytest.raises(Incomplete, match="not decided"):
        build_documents(release)
    release.decided_at = decided_at
    version = release.model_version.fine_tune.dataset_version
    residual, version.residual = version.residual, version.residual | {"upper_bound_ppm": 5}
    with pytest.raises(Incomplete, match="does not follow"):
        build_documents(release)
    version.residual = residual
    release.adapter_digest = f"sha256:{'0' * 64}"
    release.model_version.gate_results.update(adapter_digest=release.adapter_digest)
    with pytest.raises(AdapterChanged):
        build_documents(release)
    release.model_version.gate_results.all().delete()
    with pytest.raises(Incomplete, match="no gate"):
        build_documents(release)


def test_no_value_breaks_a_table_or_becomes_markup() -> None:
    assert table(("a",), [("x | y\n<b>`z`</b>",)]).splitlines()[2] == r"| x \| y \<b\>\`z\`\</b\> |"


def test_a_number_that_json_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        json_document({"loss": float("nan")})


def test_the_documents_of_a_tagger_name_its_base_and_hold_what_its_figure_is_made_of(release: Any) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    from domains.intervals import pooled

    fine_tune = release.model_version.fine_tune
    fine_tune.recipe |= {"method": "token-classification", "classification": {"labels": ["DRUG"]}}
    fine_tune.save(update_fields=["recipe"])
    evaluation = release.model_version.evaluations.get()
    evaluation.metric, evaluation.baseline = "span_f1", {"kind": "phrases", "phrases": 214}
    parts = {"base": [[0, 2], [2, 4], [2, 3], [0, 1]], "tuned": [[2, 2], [4, 4], [2, 3], [0, 1]]}
    evaluation.scores["parts"] = parts
    columns = {"ids": evaluation.scores["ids"][:2], "base": [-3.0, -2.5], "tuned": [-1.0, -0.5]}
    evaluation.scores["further"] = {"reference_likelihood": columns}
    evaluation.save()
    documents = build_documents(release)
    card = json.loads(documents["model-card.json"])
    assert "a list of the 214 phrases" in card["evaluation"]["base_is"]
    assert card["evaluation"]["metric_title"] == "Span F1"
    bill = documents["mlbom.cdx.json"].decode()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill) is None
    assert "Span F1, phrases of the training records" in bill
    assert "start, end and label of each span" in bill
    scores = json.loads(documents["gates.json"])["scores"]
    assert pooled([row["tuned_parts"] for row in scores["by_record"]]) == pooled(parts["tuned"]) == 0.8
    assert "ratio" in scores["parts_are"]
    likelihoods = scores["reference_likelihood"]
    assert "nats" in likelihoods["is"]
    assert [(row["base"], row["tuned"]) for row in likelihoods["by_record"]] == [(-3.0, -1.0), (-2.5, -0.5)]
    assert [str(row["record"]) for row in likelihoods["by_record"]] == evaluation.scores["ids"][:2]

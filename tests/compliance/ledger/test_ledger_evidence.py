"""Evidence bundles: what holds, and every way to cheat that must not."""

import json
import subprocess
import tarfile
from dataclasses import replace

import pytest

from compliance.ledger.bundle import (
    ExportedEntry,
    contents_digest_of,
    evidence_ledger,
    write_bundle,
)
from compliance.ledger.members import BundleError, VerificationError
from compliance.ledger.merkle import leaf_hash
from compliance.ledger.verify import verify_bundle

FILES = {"model-card.md": b"# A model\n", "gates/results.json": b"{}\n"}


def fails(path, *arguments, index=None, match=None, **options):
    with pytest.raises(VerificationError, match=match) as caught:
        verify_bundle(path, *arguments, **options)
    assert caught.value.index == index


def test_evidence_holds_and_its_files_are_those_that_were_recorded(ledger, tmp_path):
    path = ledger.evidence(tmp_path / "evidence.tar", FILES, consistency=[20])
    report = verify_bundle(path, [ledger.vkey], [ledger.notes[1]])
    assert (report.kind, report.entries, report.size, report.bound_by) == ("evidence", 3, 61, 60)
    assert report.contents == contents_digest_of(FILES)
    assert (report.held, report.files) == ([20], 6)


def test_a_bundle_is_the_same_byte_for_byte_and_an_ordinary_archive(ledger, tmp_path):
    files = ledger.evidence_files(FILES)
    write_bundle(tmp_path / "one.tar", files)
    write_bundle(tmp_path / "two.tar", dict(reversed(files.items())))
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar", format=tarfile.USTAR_FORMAT) as tar:
        assert sorted(tar.getnames()) == sorted([*files, "SHA256SUMS"])
        assert {(m.mtime, m.uid, m.gid, m.mode, m.isreg()) for m in tar} == {(0, 0, 0, 0o644, True)}
        tar.extractall(tmp_path / "folder", filter="data")
    assert (tmp_path / "folder/model-card.md").read_bytes() == FILES["model-card.md"]
    assert verify_bundle(tmp_path / "folder", [ledger.vkey]).bound_by == 60
    sums = subprocess.run(["sha256sum", "-c", "--strict", "SHA256SUMS"], cwd=tmp_path / "folder", capture_output=True)
    assert sums.returncode == 0


def test_files_on_disk_go_in_as_they_are(ledger, tmp_path):
    (tmp_path / "large").write_bytes(b"x" * 3_000_000)
    files = {"adapter.sealed": tmp_path / "large"}
    assert verify_bundle(ledger.evidence(tmp_path / "e.tar", files), [ledger.vkey]).files == 4


def test_evidence_of_a_fork_fails_against_a_held_checkpoint(ledger, new_ledger, tmp_path):
    fork = new_ledger(key=ledger.key).fill(60, actor="user:2")
    fork.entries = [replace(entry, filed={}) for entry in fork.entries]
    path = fork.evidence(tmp_path / "e.tar", FILES, consistency=[60])
    fails(path, [ledger.vkey], [ledger.notes[5]], match="does not continue the held one of size 60")
    ledger.append(fork.entries[60].body.replace(b'"records":60', b'"records":61'))
    fails(path, [ledger.vkey], [ledger.seal()], match="does not continue the held one of size 61")


def test_evidence_that_cannot_be_compared_with_a_held_checkpoint_does_not_pass(ledger, tmp_path):
    path = ledger.evidence(tmp_path / "e.tar", FILES)
    fails(path, [ledger.vkey], [ledger.notes[0]], match="no consistency proof")
    ledger.fill(70)
    fails(path, [ledger.vkey], [ledger.notes[-1]], match="newer than the bundle's")


def test_a_changed_missing_or_added_file_is_named(ledger, tmp_path):
    write_bundle(tmp_path / "e.tar", ledger.evidence_files(FILES))
    with tarfile.open(tmp_path / "e.tar") as tar:
        tar.extractall(tmp_path / "folder", filter="data")
    card = tmp_path / "folder/model-card.md"
    card.write_bytes(b"# A better model\n")
    fails(tmp_path / "folder", [ledger.vkey], match="model-card.md was changed")
    card.unlink()
    fails(tmp_path / "folder", [ledger.vkey], match="model-card.md' is missing")
    card.write_bytes(FILES["model-card.md"])
    (tmp_path / "folder/extra").write_bytes(b"")
    fails(tmp_path / "folder", [ledger.vkey], match="extra' is not listed")


@pytest.mark.parametrize(
    "files", [{**FILES, "model-card.md": b"forged"}, {**FILES, "more": b""}, {"gates/results.json": b"{}\n"}]
)
def test_files_exchanged_together_with_their_checksums_fail(ledger, tmp_path, files):
    sealed = ledger.evidence_files(FILES)
    forged = {name: data for name, data in sealed.items() if name.startswith("ledger/")}
    write_bundle(tmp_path / "e.tar", {**forged, **files})
    fails(tmp_path / "e.tar", [ledger.vkey], match="no entry in the bundle records these files")


def test_evidence_without_checksums_fails(ledger, tmp_path):
    for name, data in ledger.evidence_files(FILES).items():
        (tmp_path / "e" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "e" / name).write_bytes(data)
    with pytest.raises(BundleError, match="no SHA256SUMS"):
        verify_bundle(tmp_path / "e", [ledger.vkey])


def evidence_of(ledger, path, entries):
    write_bundle(path, evidence_ledger(entries, ledger.notes[-1], [ledger.vkey]))
    return path


def test_an_entry_that_was_never_recorded_has_no_proof_that_holds(ledger, tmp_path):
    true = ledger.proven(12)
    data = true.body.replace(b"user:1", b"user:2")
    forged = ExportedEntry(12, data, leaf_hash(data), true.proof)
    fails(evidence_of(ledger, tmp_path / "e.tar", [forged]), [ledger.vkey], index=12, match="not in the signed ledger")


def test_a_true_entry_at_another_index_is_found(ledger, tmp_path):
    moved = replace(ledger.proven(12), index=13)
    fails(evidence_of(ledger, tmp_path / "e.tar", [moved]), [ledger.vkey], index=13, match="not in the signed ledger")
    beyond = replace(ledger.proven(12), index=1 << 40)
    fails(evidence_of(ledger, tmp_path / "f.tar", [beyond]), [ledger.vkey], index=1 << 40, match="no leaf")


def test_evidence_in_disorder_or_without_entries_or_proofs_fails(ledger, tmp_path):
    entries = [ledger.proven(12), ledger.proven(12)]
    fails(evidence_of(ledger, tmp_path / "a.tar", entries), [ledger.vkey], index=12, match="repeated")
    fails(evidence_of(ledger, tmp_path / "b.tar", []), [ledger.vkey], match="proves nothing")
    with pytest.raises(ValueError, match="no proof"):
        evidence_of(ledger, tmp_path / "c.tar", [ledger.entries[12]])
    line = ledger.entries[12].line()
    files = evidence_ledger([ledger.proven(12)], ledger.notes[-1], [ledger.vkey]) | {"ledger/entries.jsonl": line}
    write_bundle(tmp_path / "d.tar", files)
    fails(tmp_path / "d.tar", [ledger.vkey], index=12, match="no proof")


# Rows that are made to confuse.


def test_a_bundle_is_either_an_export_or_evidence(ledger, tmp_path):
    files = ledger.evidence_files(FILES)
    write_bundle(tmp_path / "both.tar", {**files, "ledger/checkpoints.jsonl": b""})
    write_bundle(tmp_path / "none.tar", FILES)
    for name in ("both.tar", "none.tar"):
        with pytest.raises(BundleError, match="must have either"):
            verify_bundle(tmp_path / name, [ledger.vkey])


def test_nothing_hides_among_the_ledgers_own_files(ledger, tmp_path):
    write_bundle(tmp_path / "e.tar", {**ledger.evidence_files(FILES), "ledger/summary.html": b"all is well"})
    with pytest.raises(BundleError, match=r"ledger/summary\.html"):
        verify_bundle(tmp_path / "e.tar", [ledger.vkey])


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 10_000,
        b'{"index":true}',
        b'{"index":-1}',
        b'{"index":1e3}',
        b'{"index":0,"more":1}',
        b'{"index":' + b"9" * 5000 + b"}",
        b"x" * 100_000,
    ],
)
def test_a_line_that_is_no_entry_is_refused(ledger, tmp_path, line):
    files = evidence_ledger([ledger.proven(0)], ledger.notes[-1], [ledger.vkey])
    write_bundle(tmp_path / "e.tar", {**files, "ledger/entries.jsonl": line + b"\n"})
    with pytest.raises(BundleError, match="line 1 of"):
        verify_bundle(tmp_path / "e.tar", [ledger.vkey])


@pytest.mark.parametrize(
    "fields",
    [
        {"body": "%%%"},
        {"body": None},
        {"leaf_hash": "zz"},
        {"leaf_hash": 7},
        {"filed": []},
        {"filed": {"unknown": None}},
        {"filed": {"facts": {"records": 0.0}, "outcome": 1}},
    ],
)
def test_an_entry_with_a_malformed_field_is_named(ledger, tmp_path, fields):
    row = {**json.loads(ledger.proven(0).line()), **fields}
    files = evidence_ledger([ledger.proven(0)], ledger.notes[-1], [ledger.vkey])
    write_bundle(tmp_path / "e.tar", {**files, "ledger/entries.jsonl": json.dumps(row).encode() + b"\n"})
    fails(tmp_path / "e.tar", [ledger.vkey], index=0)


@pytest.mark.parametrize("proof", [None, "x", [7], ["00"], ["zz" * 32], [["00" * 32]]])
def test_a_malformed_proof_is_refused(ledger, tmp_path, proof):
    row = {**json.loads(ledger.proven(0).line()), "proof": proof}
    files = evidence_ledger([ledger.proven(0)], ledger.notes[-1], [ledger.vkey])
    write_bundle(tmp_path / "e.tar", {**files, "ledger/entries.jsonl": json.dumps(row).encode() + b"\n"})
    with pytest.raises(BundleError, match="malformed proof"):
        verify_bundle(tmp_path / "e.tar", [ledger.vkey])

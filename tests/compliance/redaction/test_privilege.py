"""Privileged passages are held back with their reasons; ordinary business, filings and contracts pass."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from compliance.redaction import Redactor, load_profile, screen
from compliance.redaction.__main__ import main

PRIVILEGED = [
    "PRIVILEGED AND CONFIDENTIAL\nHere is where we stand on the Henderson matter.",
    "Attorney-Client Communication: please review before Friday.",
    "This memo is attorney work product prepared in anticipation of litigation.",
    "Draft prepared at the request of counsel; do not circulate.",
    "Could you give us your legal advice on whether the non-compete holds?",
    "Our outside counsel advised that the indemnity claim is weak and we should settle.",
    "From: Dana Whitlock <dana@whitlocklaw.com>\nMy advice is to reject the offer and prepare for trial.",
    "I spoke with our general counsel about the litigation strategy yesterday.",
    "Pursuant to Rule 502(b) we demand the return of the documents that were inadvertently produced.",
    "This is shared under the joint defense privilege.",
    "In-house counsel believes the chances of winning at trial are poor; settlement authority is two million.",
    "I am writing to request legal advice concerning the audit letter.",
]
ORDINARY = [
    "The quarterly sales meeting moves to Thursday at ten.",
    "This Agreement shall be governed by the laws of Delaware and the parties agree to its terms.",
    "The prevailing party shall recover reasonable attorneys' fees hereunder.",
    "The Receiving Party shall protect Confidential Information of the Disclosing Party.",
    "The court held that the statute did not apply and remanded the case.",
    "The applicant was represented by Mr Jan Kowalczyk, a lawyer practising in Lublin.",
    "Each party has had the opportunity to consult independent legal counsel before signing this Agreement.",
    "We published a newsletter about new employment rules.",
    "Awards are subject to recovery under the company's clawback policy.",
    "Please confirm the shipping address for the order.",
    "Notices shall be sent to the General Counsel of the Company at the address above.",
    "The patient was seen for follow-up of hypertension.",
]


@pytest.mark.parametrize("text", PRIVILEGED)
def test_likely_privileged_text_is_held_back_and_says_why(text: str) -> None:
    passages = screen(text)
    assert passages[0].score >= 0.5
    assert passages[0].reasons


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_passes(text: str) -> None:
    assert screen(text) == []


def test_passages_have_exact_places_and_lie_apart() -> None:
    parts = [random.Random(3).choice(PRIVILEGED + ORDINARY) for _ in range(40)]
    text = "\n\n".join(parts)
    end = 0
    for passage in screen(text):
        assert end <= passage.start < passage.end <= len(text)
        assert any(text[passage.start : passage.end] in part for part in PRIVILEGED)
        end = passage.end


def test_a_marking_that_stands_alone_marks_what_follows() -> None:
    text = "ATTORNEY-CLIENT PRIVILEGED\n\nWe could offer them half.\n\nLunch is at noon."
    assert [text[p.start : p.end] for p in screen(text)] == ["ATTORNEY-CLIENT PRIVILEGED", "We could offer them half."]


def test_the_legal_profile_marks_a_record_and_the_others_do_not() -> None:
    text = "Our outside counsel advised that we settle; this is privileged and confidential."
    for name, count in (("legal", 1), ("healthcare", 0), ("finance", 0)):
        assert len(Redactor(load_profile(name), bytes(32))(text).privileged) == count


def test_the_command_writes_passages_without_their_text(tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text(
        json.dumps({"id": 1, "text": PRIVILEGED[0]}) + "\n" + json.dumps({"id": 2, "text": ORDINARY[0]}) + "\n"
    )
    assert main(["screen", str(source), str(target)]) == 0
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert [len(row["passages"]) for row in rows] == [1, 0]
    assert set(rows[0]["passages"][0]) == {"start", "end", "score", "reasons"}

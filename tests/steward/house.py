"""A house with people in it, built through actions only.

Example: `House().approved(visits(12))` is a dataset version that an officer has approved.
"""

import itertools
import json
from collections.abc import Iterable
from typing import Any

from steward.accounts import actions as accounts
from steward.accounts.models import User, Workspace
from steward.accounts.roles import Role
from steward.audit.actor import Actor
from steward.datasets import actions as datasets
from steward.datasets.importing import import_version
from steward.datasets.intake import receive_file
from steward.datasets.models import Dataset, DatasetVersion, RedactionRun, SampleItem, Verdict
from steward.datasets.redacting import redact_version

SYSTEM = Actor.system("tests")
_numbers = itertools.count(1)


class House:
    """One workspace with an analyst, an officer, a reviewer and an auditor, and short ways to common states."""

    def __init__(self, domain: str = "healthcare", policy: dict[str, Any] | None = None) -> None:
        self.number = next(_numbers)
        self.workspace: Workspace = accounts.create_workspace(
            actor=SYSTEM, slug=f"ward-{self.number}", name=f"Ward {self.number}", domain=domain
        )
        self.analyst = self.person(Role.ANALYST)
        self.officer = self.person(Role.COMPLIANCE_OFFICER)
        self.reviewer = self.person(Role.REVIEWER)
        self.auditor = self.person(Role.AUDITOR)
        if policy:
            self.workspace = accounts.change_policy(
                actor=self.officer, workspace=self.workspace, policy=self.workspace.policy | policy
            )

    def person(self, *roles: Role) -> Actor:
        user = self.user(*roles)
        return Actor.of(user)

    def user(self, *roles: Role) -> User:
        user = accounts.create_user(actor=SYSTEM, username=f"person-{next(_numbers)}")
        for role in roles:
            accounts.grant_role(actor=SYSTEM, workspace=self.workspace, user=user, role=role)
        return user

    def dataset(self, name: str = "notes", workflow: str = "") -> Dataset:
        return datasets.create_dataset(
            actor=self.analyst, workspace=self.workspace, name=name, purpose="tests", workflow=workflow
        )

    def upload(self, dataset: Dataset, content: bytes, filename: str = "data.jsonl", **columns: str) -> DatasetVersion:
        return receive_file(
            actor=self.analyst, dataset=dataset, filename=filename, chunks=[content], columns=columns or None
        )

    def imported(self, rows: Iterable[dict[str, Any]], dataset: Dataset | None = None) -> DatasetVersion:
        version = self.upload(dataset or self.dataset(f"notes {next(_numbers)}"), lines(rows))
        return import_version(str(version.pk))

    def redacted(self, rows: Iterable[dict[str, Any]]) -> DatasetVersion:
        version = self.imported(rows)
        self.redact(version)
        version.refresh_from_db()
        return version

    def redact(self, version: DatasetVersion) -> RedactionRun:
        run = datasets.start_redaction(actor=self.analyst, version=version)
        return redact_version(str(run.pk))

    def reviewed(self, rows: Iterable[dict[str, Any]]) -> DatasetVersion:
        return self._review(self.redacted(rows))

    def _review(self, version: DatasetVersion) -> DatasetVersion:
        assert version.redaction is not None
        datasets.draw_sample(actor=self.reviewer, run=version.redaction)
        for item in SampleItem.objects.filter(run=version.redaction):
            datasets.review_item(actor=self.reviewer, item=item, verdict=Verdict.CLEAN)
        return version

    def approved(self, rows: Iterable[dict[str, Any]]) -> DatasetVersion:
        return datasets.approve_version(actor=self.officer, version=self.reviewed(rows))

    def approve(self, version: DatasetVersion) -> DatasetVersion:
        """An imported version, redacted, reviewed and approved."""
        self.redact(version)
        version.refresh_from_db()
        return datasets.approve_version(actor=self.officer, version=self._review(version))


def lines(rows: Iterable[dict[str, Any]]) -> bytes:
    """The rows as JSON Lines."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def visits(count: int, **extra: str) -> list[dict[str, Any]]:
    """Chat-shaped records of made-up patients, three records a patient."""
    return [
        {
            "prompt": f"Mrs. Imelda Quackenbush, visit {number}: what was done?",
            "completion": f"Dressing changed, plan {number}.",
            "patient_id": f"patient-{number // 3}",
            **extra,
        }
        for number in range(count)
    ]


def pairs(count: int) -> list[dict[str, Any]]:
    """Preference records of made-up patients, whose names stand in every text."""
    return [
        {
            "prompt": f"Mrs. Imelda Quackenbush, visit {number}: what was done?",
            "chosen": f"Dressing changed for Mrs. Quackenbush, plan {number}.",
            "rejected": f"Mrs. Imelda Quackenbush was sent home, plan {number}.",
            "patient_id": f"patient-{number // 3}",
        }
        for number in range(count)
    ]


def labelled(count: int, labels: tuple[str, ...] = ("wound", "allergy")) -> list[dict[str, Any]]:
    """Texts and labels, one record a person."""
    return [
        {
            "text": f"Visit {number}: {'dressing changed' if number % len(labels) == 0 else 'penicillin gave hives'}.",
            "label": labels[number % len(labels)],
        }
        for number in range(count)
    ]


def judgements(count: int) -> list[dict[str, Any]]:
    """Answers to made-up patients' questions, of which every third is a bad one."""
    return [
        {
            "prompt": f"Mrs. Imelda Quackenbush, visit {number}: what was done?",
            "completion": f"Mrs. Quackenbush was sent home {number}."
            if number % 3 == 0
            else f"Dressing changed for Mrs. Quackenbush, plan {number}.",
            "label": number % 3 != 0,
        }
        for number in range(count)
    ]


def tagged(count: int) -> list[dict[str, Any]]:
    """Texts in which a patient and a drug are labelled, one record a person."""
    rows = []
    for number in range(count):
        drug = ("aspirin", "warfarin")[number % 2]
        text = f"Visit {number}: Mrs. Imelda Quackenbush was given {drug} for the ward."
        name, place = text.index("Mrs"), text.index(drug)
        spans = [
            {"start": name, "end": text.index(" was given"), "label": "PATIENT"},
            {"start": place, "end": place + len(drug), "label": "DRUG"},
        ]
        rows.append({"text": text, "spans": spans})
    return rows

"""Roles and what each permits. Data only, so that a compliance officer can read it on one screen.

Source: separation of duties after NIST SP 800-53 AC-5; administrators never see data (45 CFR 164.312(a)).
"""

from enum import StrEnum

from django.db import models


class Role(models.TextChoices):
    ANALYST = "analyst", "Analyst"
    ANNOTATOR = "annotator", "Annotator"
    REVIEWER = "reviewer", "Reviewer"
    COMPLIANCE_OFFICER = "compliance_officer", "Compliance officer"
    AUDITOR = "auditor", "Auditor"
    VALIDATOR = "validator", "Validator"
    ADMINISTRATOR = "administrator", "Administrator"


# Whoever holds one of these anywhere may open the console; what they see there depends on the role.
CONSOLE_ROLES = (Role.COMPLIANCE_OFFICER, Role.AUDITOR, Role.ADMINISTRATOR)


class Permission(StrEnum):
    """What an action may require. The values are also the scopes of API tokens."""

    VIEW_WORKSPACE = "workspace.view"
    VIEW_REDACTED = "records.view_redacted"
    REVEAL_RECORD = "records.reveal"
    IMPORT_DATA = "datasets.import"
    REDACT_DATA = "datasets.redact"
    REVIEW_SAMPLE = "datasets.review"
    APPROVE_DATASET = "datasets.approve"
    SHRED_SUBJECT = "subjects.shred"
    START_FINE_TUNE = "fine_tunes.start"
    RAISE_PRIORITY = "fine_tunes.prioritise"
    MANAGE_DEVICES = "devices.manage"
    EVALUATE_MODEL = "models.evaluate"
    CHAT = "models.chat"
    REQUEST_RELEASE = "releases.request"
    APPROVE_RELEASE = "releases.approve"
    EXPORT_EVIDENCE = "evidence.export"
    VIEW_LEDGER = "ledger.view"
    MANAGE_POLICY = "policy.manage"
    MANAGE_WORKSPACE = "workspace.manage"
    REGISTER_MODEL = "base_models.register"
    EXPORT_MODEL = "models.export"


_P = Permission

PERMISSIONS: dict[Role, frozenset[Permission]] = {
    Role.ANALYST: frozenset(
        {
            _P.VIEW_WORKSPACE,
            _P.VIEW_REDACTED,
            _P.IMPORT_DATA,
            _P.REDACT_DATA,
            _P.REVIEW_SAMPLE,
            _P.START_FINE_TUNE,
            _P.EVALUATE_MODEL,
            _P.CHAT,
            _P.REQUEST_RELEASE,
            _P.VIEW_LEDGER,
        }
    ),
    Role.ANNOTATOR: frozenset({_P.VIEW_WORKSPACE}),
    Role.REVIEWER: frozenset({_P.VIEW_WORKSPACE, _P.VIEW_REDACTED, _P.REVIEW_SAMPLE}),
    Role.COMPLIANCE_OFFICER: frozenset(
        {
            _P.VIEW_WORKSPACE,
            _P.VIEW_REDACTED,
            _P.REVEAL_RECORD,
            _P.REVIEW_SAMPLE,
            _P.APPROVE_DATASET,
            _P.SHRED_SUBJECT,
            _P.APPROVE_RELEASE,
            _P.EXPORT_EVIDENCE,
            _P.VIEW_LEDGER,
            _P.MANAGE_POLICY,
            _P.RAISE_PRIORITY,
            _P.MANAGE_DEVICES,
            _P.CHAT,
            _P.REGISTER_MODEL,
            _P.EXPORT_MODEL,
        }
    ),
    Role.AUDITOR: frozenset({_P.VIEW_WORKSPACE, _P.VIEW_LEDGER, _P.EXPORT_EVIDENCE}),
    Role.VALIDATOR: frozenset({_P.VIEW_WORKSPACE, _P.VIEW_REDACTED, _P.EVALUATE_MODEL, _P.CHAT, _P.VIEW_LEDGER}),
    Role.ADMINISTRATOR: frozenset(
        {_P.VIEW_WORKSPACE, _P.MANAGE_WORKSPACE, _P.REGISTER_MODEL, _P.RAISE_PRIORITY, _P.MANAGE_DEVICES}
    ),
}

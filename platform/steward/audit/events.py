"""Every kind of event the ledger may hold, with the facts each may carry.

Guarantees that an entry carries declared facts only: counts, digests, enum values and opaque ids.
Does not check the values themselves; `compliance.ledger.entry.build_body` refuses free text and floats.

Example:
    >>> Event.DATASET_APPROVED.value
    'dataset.approved'
"""

from enum import StrEnum


class Event(StrEnum):
    """Names are `noun.past`; the tuple beside each in `FACTS` names the facts it may carry."""

    USER_CREATED = "user.created"
    USER_SIGNED_IN = "user.signed_in"
    USER_SIGN_IN_FAILED = "user.sign_in_failed"
    USER_SIGNED_OUT = "user.signed_out"
    SIGN_IN_LINK_CREATED = "sign_in_link.created"
    SIGN_IN_LINK_USED = "sign_in_link.used"
    TOKEN_CREATED = "token.created"  # noqa: S105 - an event's name
    TOKEN_REVOKED = "token.revoked"  # noqa: S105 - an event's name
    WORKSPACE_CREATED = "workspace.created"
    POLICY_CHANGED = "policy.changed"
    ALLOWANCE_CHANGED = "allowance.changed"
    MEMBERSHIP_GRANTED = "membership.granted"
    MEMBERSHIP_REVOKED = "membership.revoked"
    BASE_MODEL_REGISTERED = "base_model.registered"
    BASE_MODEL_IMPORT_REQUESTED = "base_model.import_requested"
    BASE_MODEL_IMPORTED = "base_model.imported"
    BASE_MODEL_IMPORT_FAILED = "base_model.import_failed"
    PROFILE_PROPOSED = "profile.proposed"
    PROFILE_APPROVED = "profile.approved"
    PROFILE_REJECTED = "profile.rejected"
    LIST_ENTRY_PROPOSED = "list_entry.proposed"
    LIST_ENTRY_SHOWN = "list_entry.shown"
    LIST_ENTRY_APPROVED = "list_entry.approved"
    LIST_ENTRY_REJECTED = "list_entry.rejected"
    LIST_ENTRY_RETIRED = "list_entry.retired"
    DATASET_CREATED = "dataset.created"
    VERSION_UPLOADED = "version.uploaded"
    VERSION_IMPORTED = "version.imported"
    VERSION_FAILED = "version.failed"
    REDACTION_STARTED = "redaction.started"
    REDACTION_FINISHED = "redaction.finished"
    REDACTION_FAILED = "redaction.failed"
    SAMPLE_DRAWN = "sample.drawn"
    SAMPLE_REVIEWED = "sample.reviewed"
    SAMPLE_WITHDRAWN = "sample.withdrawn"
    SAMPLE_ADJUDICATED = "sample.adjudicated"
    PRIVILEGE_RELEASED = "privilege.released"
    PRIVILEGE_WITHHELD = "privilege.withheld"
    RISK_REQUESTED = "risk.requested"
    RISK_MEASURED = "risk.measured"
    RISK_FAILED = "risk.failed"
    DATASET_APPROVED = "dataset.approved"
    DATASET_REJECTED = "dataset.rejected"
    RECORD_REVEALED = "record.revealed"
    ORIGINAL_REVEALED = "original.revealed"
    SUBJECT_SHREDDED = "subject.shredded"
    FINE_TUNE_REQUESTED = "fine_tune.requested"
    FINE_TUNE_APPROVED = "fine_tune.approved"
    FINE_TUNE_PRIORITISED = "fine_tune.prioritised"
    FINE_TUNE_DISPATCHED = "fine_tune.dispatched"
    FINE_TUNE_RESUMED = "fine_tune.resumed"
    FINE_TUNE_PAUSE_REQUESTED = "fine_tune.pause_requested"
    FINE_TUNE_PAUSED = "fine_tune.paused"
    FINE_TUNE_RESUME_REQUESTED = "fine_tune.resume_requested"
    FINE_TUNE_CANCELLED = "fine_tune.cancelled"
    FINE_TUNE_FAILED = "fine_tune.failed"
    FINE_TUNE_SUCCEEDED = "fine_tune.succeeded"
    RECORD_LOSSES_SHOWN = "record_losses.shown"
    SAMPLE_ANSWERS_SHOWN = "sample_answers.shown"
    SHARDS_DESTROYED = "shards.destroyed"
    EVALUATION_REQUESTED = "evaluation.requested"
    EVALUATION_FINISHED = "evaluation.finished"
    EVALUATION_FAILED = "evaluation.failed"
    GATES_RUN = "gates.run"
    COMPRESSION_REQUESTED = "compression.requested"
    COMPRESSION_FINISHED = "compression.finished"
    COMPRESSION_FAILED = "compression.failed"
    CHAT_OPENED = "chat.opened"
    COMPLETION_REQUESTED = "completion.requested"
    COMPLETION_FINISHED = "completion.finished"
    RELEASE_REQUESTED = "release.requested"
    RELEASE_APPROVED = "release.approved"
    RELEASE_REFUSED = "release.refused"
    EVIDENCE_BUILT = "evidence.built"
    EVIDENCE_STORED = "evidence.stored"
    EVIDENCE_FAILED = "evidence.failed"
    EVIDENCE_EXPORTED = "evidence.exported"
    EXPORT_REQUESTED = "export.requested"
    EXPORT_FINISHED = "export.finished"
    EXPORT_WITHDRAWN = "export.withdrawn"
    EXPORT_FAILED = "export.failed"
    EXPORT_HANDED_OUT = "export.handed_out"
    LEDGER_EXPORTED = "ledger.exported"


FACTS: dict[Event, frozenset[str]] = {
    event: frozenset(names)
    for event, names in {
        Event.USER_CREATED: ("kind",),
        Event.USER_SIGNED_IN: ("method",),
        Event.USER_SIGN_IN_FAILED: ("method", "account"),
        Event.USER_SIGNED_OUT: (),
        Event.SIGN_IN_LINK_CREATED: ("lifetime_seconds",),
        Event.SIGN_IN_LINK_USED: (),
        Event.TOKEN_CREATED: ("scopes", "lifetime_days"),
        Event.TOKEN_REVOKED: (),
        Event.WORKSPACE_CREATED: ("domain", "policy"),
        Event.POLICY_CHANGED: (),
        Event.ALLOWANCE_CHANGED: ("device_hours_per_month", "runs_at_once"),
        Event.MEMBERSHIP_GRANTED: ("role", "member"),
        Event.MEMBERSHIP_REVOKED: ("role", "member"),
        Event.BASE_MODEL_REGISTERED: ("licence", "bytes"),
        Event.BASE_MODEL_IMPORT_REQUESTED: ("kind",),
        Event.BASE_MODEL_IMPORTED: ("kind", "source", "licence", "bytes"),
        Event.BASE_MODEL_IMPORT_FAILED: ("code",),
        Event.PROFILE_PROPOSED: ("number", "settings"),
        Event.PROFILE_APPROVED: ("number",),
        Event.PROFILE_REJECTED: ("number",),
        Event.LIST_ENTRY_PROPOSED: ("kind", "type", "phrase"),
        Event.LIST_ENTRY_SHOWN: (),
        Event.LIST_ENTRY_APPROVED: ("kind", "type", "phrase"),
        Event.LIST_ENTRY_REJECTED: ("kind", "type", "phrase"),
        Event.LIST_ENTRY_RETIRED: ("kind", "type", "phrase"),
        Event.DATASET_CREATED: ("workflow",),
        Event.VERSION_UPLOADED: ("bytes", "format", "source"),
        Event.VERSION_IMPORTED: ("records", "duplicates", "subjects", "train", "validation", "test"),
        Event.VERSION_FAILED: ("errors", "code"),
        Event.REDACTION_STARTED: ("profile", "profile_version", "phrases"),
        Event.REDACTION_FINISHED: ("records", "findings", "profile", "privileged"),
        Event.REDACTION_FAILED: ("code",),
        Event.SAMPLE_DRAWN: ("size", "doubtful", "read_twice", "round"),
        Event.SAMPLE_REVIEWED: ("verdict", "missed", "kind", "spans"),
        Event.SAMPLE_WITHDRAWN: ("verdict", "kind"),
        Event.SAMPLE_ADJUDICATED: ("verdict", "missed"),
        Event.PRIVILEGE_RELEASED: ("version", "ordinal", "passages", "digest", "undecided"),
        Event.PRIVILEGE_WITHHELD: ("version", "ordinal", "passages", "digest", "undecided"),
        Event.RISK_REQUESTED: ("columns",),
        Event.RISK_MEASURED: ("records", "classes", "k", "l", "max_risk_ppm", "average_risk_ppm", "small_cells"),
        Event.RISK_FAILED: ("code",),
        Event.DATASET_APPROVED: ("sample_size", "missed", "upper_bound_ppm", "policy", "disagreements", "withheld"),
        Event.DATASET_REJECTED: (),
        Event.RECORD_REVEALED: ("reason",),
        Event.ORIGINAL_REVEALED: ("reason", "version", "ordinal", "type"),
        Event.SUBJECT_SHREDDED: ("records", "subject", "phrases", "ground"),
        Event.FINE_TUNE_REQUESTED: (
            "base_model",
            "dataset_version",
            "spec",
            "workflow",
            "priority",
            "cloned_from",
            "method",
            "way",
            "parent",
            "parent_adapter",
        ),
        Event.FINE_TUNE_APPROVED: (),
        Event.FINE_TUNE_PRIORITISED: ("priority",),
        Event.FINE_TUNE_DISPATCHED: ("attempt", "train", "validation", "test", "device", "code", "spec"),
        Event.FINE_TUNE_RESUMED: ("attempt", "step"),
        Event.FINE_TUNE_PAUSE_REQUESTED: ("step",),
        Event.FINE_TUNE_PAUSED: ("step", "has_checkpoint", "code"),
        Event.FINE_TUNE_RESUME_REQUESTED: ("step",),
        Event.FINE_TUNE_CANCELLED: ("step",),
        Event.FINE_TUNE_FAILED: ("code", "step"),
        Event.FINE_TUNE_SUCCEEDED: ("steps", "tokens", "seconds", "best_step"),
        Event.RECORD_LOSSES_SHOWN: ("part", "records"),
        Event.SAMPLE_ANSWERS_SHOWN: ("records", "steps"),
        Event.SHARDS_DESTROYED: ("objects",),
        Event.EVALUATION_REQUESTED: (),
        Event.EVALUATION_FINISHED: ("records", "metric", "base_ppm", "tuned_ppm", "gain_low_ppm"),
        Event.EVALUATION_FAILED: ("code",),
        Event.GATES_RUN: ("passed", "failed"),
        Event.COMPRESSION_REQUESTED: ("ways",),
        Event.COMPRESSION_FINISHED: ("ways",),
        Event.COMPRESSION_FAILED: ("code",),
        Event.CHAT_OPENED: (),
        Event.COMPLETION_REQUESTED: ("token", "messages", "is_streamed"),
        Event.COMPLETION_FINISHED: ("prompt_tokens", "completion_tokens", "finish"),
        Event.RELEASE_REQUESTED: ("audience", "adapter"),
        Event.RELEASE_APPROVED: ("audience", "adapter", "requester"),
        Event.RELEASE_REFUSED: ("audience", "adapter", "requester"),
        Event.EVIDENCE_BUILT: ("members",),
        Event.EVIDENCE_STORED: ("tree_size",),
        Event.EVIDENCE_FAILED: ("code",),
        Event.EVIDENCE_EXPORTED: (),
        Event.EXPORT_REQUESTED: ("form", "way", "adapter"),
        Event.EXPORT_FINISHED: (
            "form",
            "way",
            "bytes",
            "positions",
            "agreement_ppm",
            "divergence_ppm",
            "score_ppm",
            "tuned_score_ppm",
        ),
        Event.EXPORT_WITHDRAWN: (
            "form",
            "way",
            "positions",
            "agreement_ppm",
            "divergence_ppm",
            "score_ppm",
            "tuned_score_ppm",
        ),
        Event.EXPORT_FAILED: ("form", "way", "code"),
        Event.EXPORT_HANDED_OUT: ("form", "way", "audience"),
        Event.LEDGER_EXPORTED: ("tree_size",),
    }.items()
}

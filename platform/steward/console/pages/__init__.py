"""The console's own pages, and their addresses."""

from steward.console.pages import (
    approvals,
    devices,
    erasure,
    evidence,
    ledger,
    members,
    overview,
    people,
    redaction,
    tokens,
    workspaces,
)

ROUTES = [
    ("approvals/", approvals.queue, "approvals"),
    ("approvals/versions/<uuid:version_id>/", approvals.version, "approve_version"),
    ("approvals/fine-tunes/<uuid:fine_tune_id>/", approvals.fine_tune, "approve_fine_tune"),
    ("approvals/releases/<uuid:release_id>/", approvals.release, "approve_release"),
    ("approvals/releases/<uuid:release_id>/evidence/", evidence.hand_out, "evidence"),
    ("redaction/", redaction.overview, "redaction"),
    ("redaction/<uuid:workspace_id>/", redaction.workspace, "redaction_workspace"),
    ("redaction/<uuid:workspace_id>/change/", redaction.propose, "redaction_propose"),
    ("redaction/versions/<uuid:version_id>/", redaction.version, "redaction_version"),
    ("redaction/phrases/<uuid:entry_id>/", redaction.entry, "redaction_entry"),
    ("datasets/<uuid:dataset_id>/erase/", erasure.erase, "erase_subject"),
    ("house/new-person/", people.new_person, "new_person"),
    ("house/people/<int:user_id>/link/", people.sign_in_link, "sign_in_link"),
    ("house/new-workspace/", workspaces.new_workspace, "new_workspace"),
    ("house/workspaces/<uuid:workspace_id>/policy/", workspaces.policy, "policy"),
    ("house/workspaces/<uuid:workspace_id>/devices/", devices.allowance, "allowance"),
    ("fine-tunes/<uuid:fine_tune_id>/priority/", devices.priority, "priority"),
    ("house/grant/", members.grant, "grant_role"),
    ("house/memberships/<int:membership_id>/revoke/", members.revoke, "revoke_role"),
    ("house/tokens/", tokens.own_tokens, "tokens"),
    ("house/tokens/<uuid:token_id>/revoke/", tokens.revoke, "revoke_token"),
    ("ledger/export/", ledger.export, "ledger_export"),
]
__all__ = ["ROUTES", "overview"]

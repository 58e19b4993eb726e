"""Everything the documents of one release speak of, read once.

Guarantees that people appear by pseudonym and role only and that names of this installation's users are taken out of
what people typed (names of data sets, purposes). Does not recognise other names in such text; nor does it read records.
"""

import hmac
import re
from dataclasses import dataclass
from typing import Any

from compliance.vault import keyed_digest
from domains.workflows import Workflow
from steward.accounts.models import Membership, User, Workspace
from steward.assurance.models import Evaluation, EvaluationState, GateResult
from steward.catalog.models import BaseModel
from steward.datasets.models import Dataset, DatasetVersion, RedactionRun
from steward.releases.models import Release
from steward.runs.models import FineTune, ModelVersion
from steward.runs.shards import workflow_for
from steward.vault.keys import open_key
from steward.vault.models import DataKey, KeyLevel


class Incomplete(Exception):
    """Something the evidence has to show is not there; a bundle without it is not written."""


@dataclass(frozen=True, slots=True)
class Dossier:
    """A release with all that led to it. `gates` are those of `evaluation`, which the decision rested on."""

    release: Release
    model_version: ModelVersion
    fine_tune: FineTune
    base_model: BaseModel
    version: DatasetVersion
    dataset: Dataset
    redaction: RedactionRun
    evaluation: Evaluation
    gates: tuple[GateResult, ...]
    workflow: Workflow

    @classmethod
    def of(cls, release: Release) -> "Dossier":
        """Reads what belongs to `release`.

        Raises:
            Incomplete: it is not decided, was not evaluated or gated, or its data were not redacted.
        """
        if release.decided_at is None:
            raise Incomplete("the release is not decided")
        model_version = release.model_version
        fine_tune = model_version.fine_tune
        version = fine_tune.dataset_version
        if version.redaction is None:
            raise Incomplete("the dataset version is not redacted")
        done = Evaluation.objects.filter(
            model_version=model_version, state=EvaluationState.DONE, created_at__lte=release.decided_at
        )
        evaluation = done.order_by("-created_at").first()
        if evaluation is None:
            raise Incomplete("the model was not evaluated before the decision")
        gates = tuple(GateResult.objects.filter(evaluation=evaluation, adapter_digest=release.adapter_digest))
        if not gates:
            raise Incomplete("no gate has run for this adapter")
        return cls(
            release,
            model_version,
            fine_tune,
            fine_tune.base_model,
            version,
            version.dataset,
            version.redaction,
            evaluation,
            gates,
            workflow_for(release.workspace.domain, fine_tune.workflow),
        )

    @property
    def workspace(self) -> Workspace:
        return self.release.workspace

    @property
    def facts(self) -> dict[str, Any]:
        """What the trainer said of device, precision and data."""
        return dict(self.fine_tune.facts)

    def typed(self, text: str) -> str:
        """Text that a person typed, with every user's name replaced by their pseudonym."""
        for user in User.objects.order_by("pk"):
            for name in _names(user):
                text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", str(user.pseudonym), text, flags=re.IGNORECASE)
        return text

    def person(self, user: User | None) -> dict[str, Any] | None:
        """Pseudonym and roles in the workspace as they are now; None for nobody, or for the platform itself."""
        if user is None:
            return None
        roles = Membership.objects.filter(user=user, workspace=self.workspace).values_list("role", flat=True)
        return {"pseudonym": str(user.pseudonym), "roles_now": sorted(roles)}

    def reason_digest(self, reason: str) -> str | None:
        """Keyed digest of a reason somebody gave: shows later that a text is the one, and lets nobody guess it."""
        if not reason:
            return None
        key = DataKey.objects.get(workspace=self.workspace, level=KeyLevel.WORKSPACE, destroyed_at=None)
        return keyed_digest(hmac.digest(open_key(key), b"steward/evidence/reason", "sha256"), reason.encode())


def _names(user: User) -> list[str]:
    """What a user may be called, the longest first."""
    names = {user.email, user.display_name, user.get_full_name(), user.last_name, user.username}
    return sorted((name for name in names if len(name) > 2), key=lambda name: (-len(name), name))

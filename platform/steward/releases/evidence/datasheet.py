"""The datasheet of the dataset version that was trained on: where it came from and how it is made up, without content.

Source: Gebru et al., "Datasheets for Datasets", 2021; GDPR articles 5 and 30.
"""

from dataclasses import dataclass

from steward.datasets.models import Split, Subject
from steward.datasets.privilege import privilege_standing
from steward.releases.evidence.dossier import Dossier
from steward.releases.evidence.rendering import figure, plain, table, timestamp


@dataclass(frozen=True, slots=True)
class Erased:
    """People whose keys were destroyed: how many, and how many of them only after the model had been trained."""

    subjects: int
    after_training: int


def erased(dossier: Dossier) -> Erased:
    """Counts the shredded subjects who have records in the version."""
    gone = Subject.objects.filter(records__version=dossier.version, shredded_at__isnull=False).distinct()
    since = dossier.fine_tune.started_at or dossier.fine_tune.created_at
    return Erased(gone.count(), gone.filter(shredded_at__gte=since).count())


def documents(dossier: Dossier) -> dict[str, bytes]:
    """`datasheet.md`."""
    version = dossier.version
    policy = dossier.workspace.policy
    parts = [
        f"# Datasheet: {plain(dossier.typed(dossier.dataset.name))}, version {version.number}",
        "No record, and no text of one, is in this bundle. Digests of records are keyed: without the dataset's key "
        "nothing can be guessed from them.",
        "## Why",
        table(
            ("", ""),
            [
                ("purpose", dossier.typed(dossier.dataset.purpose)),
                ("domain", dossier.workspace.domain),
                ("workflow", dossier.dataset.workflow or "none: records are conversations"),
            ],
        ),
        "## Where it came from",
        table(
            ("", ""),
            [
                ("format of the file", version.source_format),
                ("shape of a record", version.shape),
                ("imported at", timestamp(version.imported_at)),
                ("upload as sealed (SHA-256 of the ciphertext)", version.source.sealed_sha256),
                ("upload (keyed digest)", version.source_digest),
                ("content digest", version.content_digest),
            ],
        ),
        "The content digest is SHA-256 over the keyed digests of all records in their order.",
        "## What it is made of",
        _composition(dossier),
        "## What was done to it",
        f"Exact duplicates were left out. The redaction profile {plain(dossier.redaction.profile)} "
        f"(`{dossier.redaction.profile_digest}`) made {figure(dossier.redaction.finding_count)} replacements; "
        "`redaction-report.md` says of which kinds, and how much may have been missed. Training read the redacted text "
        "only. Its shards were sealed under a key of their own, which was destroyed when the run ended.",
        "## How it is kept",
        f"Each record is encrypted under its subject's own key (AES-256-GCM). The policy keeps records for "
        f"{figure(policy['retention_days'])} days. Erasing a person destroys their key; a model that was trained "
        "before still holds what it learned.",
    ]
    return {"datasheet.md": ("\n\n".join(parts) + "\n").encode()}


def _composition(dossier: Dossier) -> str:
    version, gone = dossier.version, erased(dossier)
    return table(
        ("", "count"),
        [
            ("records", figure(version.record_count)),
            ("duplicates left out", figure(version.duplicate_count)),
            ("subjects", figure(version.subject_count)),
            *((f"records for {split}", figure(version.split_counts.get(split, 0))) for split in Split.values),
            ("records withheld as privileged", figure(privilege_standing(dossier.redaction).withheld)),
            ("records set aside, two labels in one replacement", figure(dossier.redaction.set_aside_count)),
            ("subjects erased since the import", figure(gone.subjects)),
            ("of these, erased after training had begun", figure(gone.after_training)),
        ],
    )

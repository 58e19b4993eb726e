"""Datasets, their immutable versions, the people in them, and what redaction made of each record.

Record rows hold ciphertext under their subject's key. State changes, immutability and separation of duties are
enforced again by triggers and constraints (see migrations), so that a defect above them cannot undo them.
"""

import uuid

from django.conf import settings
from django.db import models

from steward.accounts.models import Workspace
from steward.audit.actor import Actor
from steward.profiles.models import ListEntry, ProfileVersion
from steward.vault.models import DataKey, SealedObject


class DatasetQuerySet(models.QuerySet["Dataset"]):
    def visible_to(self, actor: Actor) -> "DatasetQuerySet":
        """Datasets of the actor's workspaces."""
        return self.filter(workspace__in=Workspace.objects.visible_to(actor))


class Dataset(models.Model):
    """A named collection with its own key. `workflow` says which fields records need and how they become messages."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="datasets")
    name = models.CharField(max_length=120)
    workflow = models.CharField(
        max_length=60, blank=True, help_text="A workflow of the domain pack; empty for chat data."
    )
    purpose = models.CharField(max_length=300, help_text="What the data may be used for (GDPR article 5(1)(b)).")
    key = models.OneToOneField(DataKey, on_delete=models.PROTECT, related_name="+")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = DatasetQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [models.UniqueConstraint(fields=["workspace", "name"], name="dataset_name_once")]

    def __str__(self) -> str:
        return self.name


class VersionState(models.TextChoices):
    IMPORTING = "importing", "Importing"
    FAILED = "failed", "Import failed"
    IMPORTED = "imported", "Imported"
    REDACTED = "redacted", "Redacted"
    APPROVED = "approved", "Approved"
    REJECTED = "rejected", "Rejected"


class Split(models.TextChoices):
    TRAIN = "train", "Training"
    VALIDATION = "validation", "Validation"
    TEST = "test", "Held out"


class VersionQuerySet(models.QuerySet["DatasetVersion"]):
    def visible_to(self, actor: Actor) -> "VersionQuerySet":
        """Versions of the datasets of the actor's workspaces."""
        return self.filter(workspace__in=Workspace.objects.visible_to(actor))


class DatasetVersion(models.Model):
    """One import: never changed after it, known by the digest of its content."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="+")
    dataset = models.ForeignKey(Dataset, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    state = models.CharField(max_length=12, choices=VersionState.choices, default=VersionState.IMPORTING)
    source = models.ForeignKey(SealedObject, on_delete=models.PROTECT, related_name="+")
    source_format = models.CharField(max_length=8)
    source_digest = models.CharField(max_length=71, help_text="Keyed digest of the upload: finds the same file again.")
    mapping = models.JSONField(help_text="Which columns become which fields, and which names the subject.")
    shape = models.CharField(max_length=24, blank=True)
    problems = models.JSONField(default=list, help_text="Line, column, code and message of what was wrong; no payload.")
    problem_count = models.PositiveIntegerField(default=0)
    record_count = models.PositiveIntegerField(default=0)
    duplicate_count = models.PositiveIntegerField(default=0)
    subject_count = models.PositiveIntegerField(default=0)
    split_counts = models.JSONField(default=dict)
    has_tools = models.BooleanField(default=False, help_text="Whether a record names tools or calls one.")
    content_digest = models.CharField(max_length=71, blank=True)
    redaction = models.ForeignKey("RedactionRun", on_delete=models.PROTECT, null=True, related_name="+")
    imported_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", null=True)
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", null=True)
    decision_reason = models.CharField(max_length=500, blank=True)
    residual = models.JSONField(default=dict, help_text="Sample size, misses and upper bound at the decision.")
    created_at = models.DateTimeField(auto_now_add=True)
    imported_at = models.DateTimeField(null=True)
    decided_at = models.DateTimeField(null=True)

    objects = VersionQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(fields=["dataset", "number"], name="version_number_once"),
            # Source: NIST SP 800-53 AC-5, separation of duties.
            models.CheckConstraint(
                condition=models.Q(decided_by__isnull=True) | ~models.Q(decided_by=models.F("imported_by")),
                name="version_decided_by_another",
            ),
            models.CheckConstraint(
                condition=~models.Q(state="approved")
                | models.Q(redaction__isnull=False, decided_by__isnull=False, content_digest__startswith="sha256:"),
                name="version_approved_is_whole",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.dataset.name} v{self.number}"


class Subject(models.Model):
    """A person the records are about, known by a keyed digest. Without `wrapped`, their records are shredded."""

    dataset = models.ForeignKey(Dataset, on_delete=models.PROTECT, related_name="subjects")
    digest = models.BinaryField(help_text="HMAC of the subject column under the dataset's key, 16 bytes.")
    unit = models.BinaryField(help_text="What the split keeps together: the subject, or a group it belongs to.")
    split = models.CharField(max_length=12, choices=Split.choices, null=True)
    wrapped = models.BinaryField(null=True, help_text="The subject's key under the dataset's key.")
    shredded_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["dataset", "digest"], name="subject_once")]


class Record(models.Model):
    """One imported record, sealed. `digest` is keyed: equal content in one dataset, nothing to guess from outside."""

    # No index of its own: both constraints begin with it.
    version = models.ForeignKey(DatasetVersion, on_delete=models.PROTECT, related_name="records", db_index=False)
    subject = models.ForeignKey(Subject, on_delete=models.PROTECT, related_name="records")
    ordinal = models.PositiveIntegerField(help_text="Place in the version, from 1.")
    line = models.PositiveIntegerField(help_text="Line of the uploaded file it came from.")
    digest = models.BinaryField()
    ciphertext = models.BinaryField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["version", "ordinal"], name="record_ordinal_once"),
            models.UniqueConstraint(fields=["version", "digest"], name="record_content_once"),
        ]


class RedactionState(models.TextChoices):
    RUNNING = "running", "Running"
    DONE = "done", "Done"
    FAILED = "failed", "Failed"


class RedactionRun(models.Model):
    """One pass of a redaction profile over a version."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="+")
    version = models.ForeignKey(DatasetVersion, on_delete=models.PROTECT, related_name="redactions")
    profile = models.CharField(max_length=60, help_text="Name of the shipped profile it builds on.")
    profile_version = models.ForeignKey(
        ProfileVersion, on_delete=models.PROTECT, null=True, related_name="+", help_text="None: as shipped."
    )
    policy_digest = models.CharField(max_length=71, blank=True, help_text="Of the profile without the lists.")
    profile_digest = models.CharField(max_length=71, help_text="Of the profile as it was used, lists included.")
    list_entries = models.JSONField(default=list, help_text="Ids of the phrases that were in force.")
    state = models.CharField(max_length=8, choices=RedactionState.choices, default=RedactionState.RUNNING)
    done_count = models.PositiveIntegerField(default=0)
    # Where a killed job goes on: records are taken person by person.
    last_person = models.BigIntegerField(default=0, help_text="Row of the person of the last stored record.")
    last_ordinal = models.PositiveIntegerField(default=0, help_text="Place of the last stored record.")
    doubtful_count = models.PositiveIntegerField(default=0, help_text="Records with a doubtful finding.")
    privileged_count = models.PositiveIntegerField(default=0, help_text="Records with a likely privileged passage.")
    set_aside_count = models.PositiveIntegerField(
        default=0, help_text="Records with two labels in one replacement; never trained on."
    )
    finding_count = models.PositiveIntegerField(default=0)
    counts_by_type = models.JSONField(default=dict)
    failure = models.CharField(max_length=300, blank=True)
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", null=True)
    started_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-started_at"]

    def __str__(self) -> str:
        return f"{self.profile} over {self.version}"


class RedactedQuerySet(models.QuerySet["RedactedRecord"]):
    def quarantined(self) -> "RedactedQuerySet":
        """Likely privileged records that can be read and that nobody decided on; none of them may be trained on."""
        rows = self._with_decisions().filter(is_privileged=True, record__subject__wrapped__isnull=False)
        return rows.filter(is_withheld=False, is_released=False)

    def trainable(self) -> "RedactedQuerySet":
        """Records that are not held back: nothing looks privileged or it was released, and it was never withheld."""
        allowed = models.Q(is_privileged=False) | models.Q(is_released=True)
        return self._with_decisions().filter(allowed, is_withheld=False)

    def held_back(self) -> "RedactedQuerySet":
        """Records that only an officer may read: likely privileged and not released, or withheld."""
        waiting = models.Q(is_privileged=True, is_released=False)
        return self._with_decisions().filter(waiting | models.Q(is_withheld=True))

    def _with_decisions(self) -> "RedactedQuerySet":
        """A release counts for the very passages it was given for; what is withheld stays withheld in every run."""
        own = PrivilegeDecision.objects.filter(record=models.OuterRef("record"))
        same = own.filter(kind=PrivilegeKind.RELEASED, passages_digest=models.OuterRef("passages_digest"))
        withheld = own.filter(kind=PrivilegeKind.WITHHELD)
        return self.annotate(is_withheld=models.Exists(withheld), is_released=models.Exists(same))


class RedactedRecord(models.Model):
    """What a redaction run made of one record: text, findings and passages, sealed under the subject's key."""

    # No index of its own: the constraint begins with it.
    run = models.ForeignKey(RedactionRun, on_delete=models.PROTECT, related_name="records", db_index=False)
    record = models.ForeignKey(Record, on_delete=models.PROTECT, related_name="redacted")
    ordinal = models.PositiveIntegerField()
    finding_count = models.PositiveSmallIntegerField()
    is_doubtful = models.BooleanField(help_text="Holds a finding close to its threshold; sampled more often.")
    is_privileged = models.BooleanField(default=False, help_text="Holds a likely privileged passage.")
    passages_digest = models.CharField(max_length=71, blank=True, help_text="Keyed; of the privileged passages.")
    ciphertext = models.BinaryField()

    objects = RedactedQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["run", "ordinal"], name="redacted_once"),
            models.CheckConstraint(
                condition=models.Q(is_privileged=True) ^ models.Q(passages_digest=""), name="redacted_passages_fit"
            ),
        ]
        indexes = [
            models.Index(
                fields=["run", "ordinal"], condition=models.Q(is_privileged=True), name="redacted_privileged_index"
            )
        ]


class PrivilegeKind(models.TextChoices):
    RELEASED = "released", "Released"
    WITHHELD = "withheld", "Withheld"


class PrivilegeDecision(models.Model):
    """An officer's decision on one likely privileged record. Never changed; withholding claws a release back.

    A release is bound to the passages by their digest and dies when a later redaction finds others; withholding is for
    good. Source: Fed. R. Evid. 502(b), (d).
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="+")
    record = models.ForeignKey(Record, on_delete=models.PROTECT, related_name="+")
    redacted = models.ForeignKey(RedactedRecord, on_delete=models.PROTECT, related_name="+")
    kind = models.CharField(max_length=8, choices=PrivilegeKind.choices)
    passages_digest = models.CharField(max_length=71)
    reason = models.CharField(max_length=500, help_text="Why, without a word of the record.")
    decided_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    decided_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-decided_at"]
        constraints = [
            models.UniqueConstraint(fields=["record", "kind", "passages_digest"], name="privilege_decided_once"),
            models.CheckConstraint(condition=~models.Q(reason=""), name="privilege_has_reason"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.decided_at:%Y-%m-%d}"


class Verdict(models.TextChoices):
    CLEAN = "clean", "Nothing missed"
    MISSED = "missed", "An identifier was missed"
    OVERMASKED = "overmasked", "Clean, but too much was masked"


class SampleQuerySet(models.QuerySet["SampleItem"]):
    def countable(self) -> "SampleQuerySet":
        """Items whose record was not withheld since: what is not trained on says nothing of the rest."""
        withheld = PrivilegeDecision.objects.filter(
            record=models.OuterRef("redacted__record"), kind=PrivilegeKind.WITHHELD
        )
        return self.filter(~models.Exists(withheld))


class SampleItem(models.Model):
    """A record drawn for review. `verdict` is the one that counts, after all standing readings; empty while it waits.

    What counts: the adjudication if there is one; else a miss if any reading found one; else the first reading. A
    trigger computes the same and refuses anything else.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="+")
    run = models.ForeignKey(RedactionRun, on_delete=models.PROTECT, related_name="sample")
    redacted = models.ForeignKey(RedactedRecord, on_delete=models.PROTECT, related_name="+")
    place = models.PositiveIntegerField(help_text="Order of review, from 1.")
    round = models.PositiveSmallIntegerField(default=1, help_text="Which draw it came with, from 1.")
    is_read_twice = models.BooleanField(default=False, help_text="Goes to a second reviewer, blind.")
    verdict = models.CharField(max_length=12, choices=Verdict.choices, blank=True)
    missed_count = models.PositiveSmallIntegerField(default=0)
    missed_types = models.JSONField(default=dict, help_text="Entity type → missed identifiers, as they count.")
    reviewer = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", null=True)
    reviewed_at = models.DateTimeField(null=True)

    objects = SampleQuerySet.as_manager()

    class Meta:
        ordering = ["place"]
        constraints = [models.UniqueConstraint(fields=["run", "redacted"], name="sample_item_once")]

    def __str__(self) -> str:
        return f"{self.place} of the sample"


class ReadingKind(models.TextChoices):
    FIRST = "first", "First reading"
    SECOND = "second", "Second reading"
    ADJUDICATION = "adjudication", "Adjudication"


class ReadingQuerySet(models.QuerySet["Reading"]):
    def standing(self) -> "ReadingQuerySet":
        """Readings that their reviewer did not take back."""
        return self.filter(withdrawn_at__isnull=True)


class Reading(models.Model):
    """One person's verdict on one record of a sample. Never changed; it may be taken back at once by who gave it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="+")
    item = models.ForeignKey(SampleItem, on_delete=models.PROTECT, related_name="readings")
    reviewer = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    kind = models.CharField(max_length=12, choices=ReadingKind.choices)
    verdict = models.CharField(max_length=12, choices=Verdict.choices)
    missed_types = models.JSONField(default=dict, help_text="Entity type → how many identifiers of it were missed.")
    given_at = models.DateTimeField(auto_now_add=True)
    withdrawn_at = models.DateTimeField(null=True)

    objects = ReadingQuerySet.as_manager()

    class Meta:
        ordering = ["given_at"]
        constraints = [
            # Nobody reads the same record twice, and each kind of reading is given once.
            models.UniqueConstraint(
                fields=["item", "reviewer"], condition=models.Q(withdrawn_at__isnull=True), name="reading_once_a_person"
            ),
            models.UniqueConstraint(
                fields=["item", "kind"], condition=models.Q(withdrawn_at__isnull=True), name="reading_kind_once"
            ),
            models.CheckConstraint(
                condition=models.Q(verdict="missed") ^ models.Q(missed_types={}), name="reading_counts_fit"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.get_verdict_display()}"


class SpanFault(models.TextChoices):
    MISSED = "missed", "Should have been masked"
    OVERMASKED = "overmasked", "Should not have been masked"


class SpanLabel(models.Model):
    """A reviewer's correction of one span: an example to learn from. Where it stands is sealed under the subject's key.

    The type is in the clear, so that corrections can be counted; the text is nowhere but in the record itself.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="+")
    reading = models.ForeignKey(Reading, on_delete=models.PROTECT, related_name="spans")
    redacted = models.ForeignKey(RedactedRecord, on_delete=models.PROTECT, related_name="+")
    fault = models.CharField(max_length=12, choices=SpanFault.choices)
    entity_type = models.CharField(max_length=24)
    ciphertext = models.BinaryField(help_text="Text, start and end in the raw record, under the subject's key.")
    list_entry = models.ForeignKey(ListEntry, on_delete=models.PROTECT, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.get_fault_display()}: {self.entity_type}"


class RunComparison(models.Model):
    """What a later redaction of a version did differently. Counted by a job once the later one is done."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="+")
    before = models.ForeignKey(RedactionRun, on_delete=models.PROTECT, related_name="+")
    after = models.OneToOneField(RedactionRun, on_delete=models.PROTECT, related_name="comparison")
    record_count = models.PositiveIntegerField()
    changed_count = models.PositiveIntegerField()
    gained = models.JSONField(default=dict, help_text="Entity type → spans found by the later run only.")
    lost = models.JSONField(default=dict, help_text="Entity type → spans found by the earlier run only.")
    changed = models.JSONField(default=list, help_text="Ordinals of records that changed, the first ones.")
    compared_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.before} against {self.after}"


class RiskMeasurement(models.Model):
    """How far the values of some columns single people out. Holds counts, never a value."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="+")
    version = models.ForeignKey(DatasetVersion, on_delete=models.PROTECT, related_name="risk_measurements")
    run = models.ForeignKey(RedactionRun, on_delete=models.PROTECT, related_name="+")
    quasi_identifiers = models.JSONField(help_text="Names of the columns an outsider may know.")
    sensitive = models.CharField(max_length=120, blank=True)
    state = models.CharField(max_length=8, choices=RedactionState.choices, default=RedactionState.RUNNING)
    figures = models.JSONField(default=dict)
    failure = models.CharField(max_length=300, blank=True)
    requested_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+", null=True)
    requested_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-requested_at"]

    def __str__(self) -> str:
        return f"Re-identification risk of {self.version}"

"""Likely privileged records: what the screen said, who decided, and guards below the application."""

import uuid

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

GUARDS = """
CREATE FUNCTION privilege_undecided(run uuid) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT EXISTS (
        SELECT 1 FROM datasets_redactedrecord r
        JOIN datasets_record raw ON raw.id = r.record_id
        JOIN datasets_subject s ON s.id = raw.subject_id
        WHERE r.run_id = run AND r.is_privileged AND s.wrapped IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM datasets_privilegedecision d WHERE d.record_id = r.record_id
                AND (d.kind = 'withheld' OR d.passages_digest = r.passages_digest)
        )
    )
$$;

CREATE FUNCTION version_privilege_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF privilege_undecided(NEW.redaction_id) THEN
        RAISE EXCEPTION 'a version with privileged records that nobody decided on cannot be approved'
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER version_privilege_guard BEFORE UPDATE ON datasets_datasetversion
    FOR EACH ROW WHEN (NEW.state = 'approved') EXECUTE FUNCTION version_privilege_guard();

CREATE FUNCTION privilege_guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE version datasets_datasetversion; run datasets_redactionrun; redacted datasets_redactedrecord;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        RAISE EXCEPTION 'a decision on privilege stands once taken' USING ERRCODE = 'check_violation';
    END IF;
    SELECT * INTO redacted FROM datasets_redactedrecord WHERE id = NEW.redacted_id;
    SELECT * INTO run FROM datasets_redactionrun WHERE id = redacted.run_id;
    SELECT * INTO version FROM datasets_datasetversion WHERE id = run.version_id;
    IF NOT redacted.is_privileged OR run.state <> 'done' OR
        (redacted.record_id, redacted.passages_digest, version.workspace_id)
        IS DISTINCT FROM (NEW.record_id, NEW.passages_digest, NEW.workspace_id) THEN
        RAISE EXCEPTION 'a decision on privilege is about the passages that were found' USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.decided_by_id IS NOT DISTINCT FROM version.imported_by_id THEN
        RAISE EXCEPTION 'the importer cannot decide on privilege' USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.kind = 'released' AND (
        version.state <> 'redacted' OR version.redaction_id IS DISTINCT FROM run.id
        OR EXISTS (SELECT 1 FROM datasets_privilegedecision WHERE record_id = NEW.record_id AND kind = 'withheld')
    ) THEN
        RAISE EXCEPTION 'a record is released while it waits, and never once it was withheld'
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER privilege_guard BEFORE INSERT OR UPDATE OR DELETE ON datasets_privilegedecision
    FOR EACH ROW EXECUTE FUNCTION privilege_guard();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0002_tokens"),
        ("datasets", "0003_review"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="PrivilegeDecision",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("kind", models.CharField(choices=[("released", "Released"), ("withheld", "Withheld")], max_length=8)),
                ("passages_digest", models.CharField(max_length=71)),
                ("reason", models.CharField(help_text="Why, without a word of the record.", max_length=500)),
                ("decided_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "ordering": ["-decided_at"],
            },
        ),
        migrations.AddField(
            model_name="redactedrecord",
            name="is_privileged",
            field=models.BooleanField(default=False, help_text="Holds a likely privileged passage."),
        ),
        migrations.AddField(
            model_name="redactedrecord",
            name="passages_digest",
            field=models.CharField(blank=True, help_text="Keyed; of the privileged passages.", max_length=71),
        ),
        migrations.AddField(
            model_name="redactionrun",
            name="privileged_count",
            field=models.PositiveIntegerField(default=0, help_text="Records with a likely privileged passage."),
        ),
        migrations.AddIndex(
            model_name="redactedrecord",
            index=models.Index(
                condition=models.Q(("is_privileged", True)), fields=["run", "ordinal"], name="redacted_privileged_index"
            ),
        ),
        migrations.AddConstraint(
            model_name="redactedrecord",
            constraint=models.CheckConstraint(
                condition=models.Q(("is_privileged", True), ("passages_digest", ""), _connector="XOR"),
                name="redacted_passages_fit",
            ),
        ),
        migrations.AddField(
            model_name="privilegedecision",
            name="decided_by",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="+", to=settings.AUTH_USER_MODEL
            ),
        ),
        migrations.AddField(
            model_name="privilegedecision",
            name="record",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="+", to="datasets.record"
            ),
        ),
        migrations.AddField(
            model_name="privilegedecision",
            name="redacted",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="+", to="datasets.redactedrecord"
            ),
        ),
        migrations.AddField(
            model_name="privilegedecision",
            name="workspace",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="+", to="accounts.workspace"
            ),
        ),
        migrations.AddConstraint(
            model_name="privilegedecision",
            constraint=models.UniqueConstraint(
                fields=("record", "kind", "passages_digest"), name="privilege_decided_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="privilegedecision",
            constraint=models.CheckConstraint(
                condition=models.Q(("reason", ""), _negated=True), name="privilege_has_reason"
            ),
        ),
        migrations.RunSQL(GUARDS, reverse_sql=migrations.RunSQL.noop),
    ]

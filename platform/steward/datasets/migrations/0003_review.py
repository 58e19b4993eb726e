"""Second readings, corrections, profile versions, comparisons and measurements; what counts is guarded by triggers."""

import uuid

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

UPGRADE = """
-- Checked at once, so that no event is pending where the tables are altered again.
SET CONSTRAINTS ALL IMMEDIATE;
DROP TRIGGER sample_guard ON datasets_sampleitem;
DROP FUNCTION sample_guard();
INSERT INTO datasets_reading (id, workspace_id, item_id, reviewer_id, kind, verdict, missed_types, given_at)
    SELECT gen_random_uuid(), workspace_id, id, reviewer_id, 'first', verdict,
        CASE WHEN verdict = 'missed' THEN jsonb_build_object('UNSPECIFIED', missed_count) ELSE '{}'::jsonb END, reviewed_at
    FROM datasets_sampleitem WHERE verdict <> '' AND reviewer_id IS NOT NULL;
UPDATE datasets_sampleitem SET missed_types = jsonb_build_object('UNSPECIFIED', missed_count) WHERE verdict = 'missed';
UPDATE datasets_redactionrun SET policy_digest = profile_digest;
UPDATE datasets_redactionrun run SET doubtful_count =
    (SELECT count(*) FROM datasets_redactedrecord WHERE run_id = run.id AND is_doubtful) WHERE state = 'done';
"""

GUARDS = """
CREATE FUNCTION sample_verdict(item uuid) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT COALESCE(
        (SELECT verdict FROM datasets_reading WHERE item_id = item AND withdrawn_at IS NULL AND kind = 'adjudication'),
        (SELECT 'missed' WHERE EXISTS (
            SELECT 1 FROM datasets_reading WHERE item_id = item AND withdrawn_at IS NULL AND verdict = 'missed'
        )),
        (SELECT verdict FROM datasets_reading WHERE item_id = item AND withdrawn_at IS NULL AND kind = 'first'),
        ''
    )
$$;

CREATE FUNCTION sample_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.verdict <> sample_verdict(NEW.id) THEN
        RAISE EXCEPTION 'a verdict stands as its readings say' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER sample_guard BEFORE INSERT OR UPDATE ON datasets_sampleitem FOR EACH ROW EXECUTE FUNCTION sample_guard();

CREATE FUNCTION reading_guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE standing text[];
BEGIN
    IF TG_OP = 'INSERT' THEN
        SELECT array_agg(kind::text) INTO standing FROM datasets_reading
            WHERE item_id = NEW.item_id AND withdrawn_at IS NULL;
        IF NEW.kind = 'second' AND (
            NOT 'first' = ANY (COALESCE(standing, '{}'))
            OR NOT (SELECT is_read_twice FROM datasets_sampleitem WHERE id = NEW.item_id)
        ) OR NEW.kind = 'adjudication' AND NOT COALESCE(standing, '{}') @> ARRAY['first', 'second'] THEN
            RAISE EXCEPTION 'a reading cannot come before the one it follows' USING ERRCODE = 'check_violation';
        END IF;
        RETURN NEW;
    END IF;
    IF TG_OP = 'UPDATE' AND OLD.withdrawn_at IS NULL AND NEW.withdrawn_at IS NOT NULL
        AND to_jsonb(NEW) - 'withdrawn_at' = to_jsonb(OLD) - 'withdrawn_at' THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'a reading can only be withdrawn, once' USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER reading_guard BEFORE INSERT OR UPDATE OR DELETE ON datasets_reading
    FOR EACH ROW EXECUTE FUNCTION reading_guard();

CREATE FUNCTION span_label_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.list_entry_id IS NOT NULL OR to_jsonb(NEW) - 'list_entry_id' <> to_jsonb(OLD) - 'list_entry_id' THEN
        RAISE EXCEPTION 'a correction is immutable' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER span_label_guard BEFORE UPDATE ON datasets_spanlabel FOR EACH ROW EXECUTE FUNCTION span_label_guard();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0002_tokens"),
        ("datasets", "0002_guards"),
        ("profiles", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]
    operations = [
        migrations.CreateModel(
            name="Reading",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("first", "First reading"),
                            ("second", "Second reading"),
                            ("adjudication", "Adjudication"),
                        ],
                        max_length=12,
                    ),
                ),
                (
                    "verdict",
                    models.CharField(
                        choices=[
                            ("clean", "Nothing missed"),
                            ("missed", "An identifier was missed"),
                            ("overmasked", "Clean, but too much was masked"),
                        ],
                        max_length=12,
                    ),
                ),
                (
                    "missed_types",
                    models.JSONField(default=dict, help_text="Entity type → how many identifiers of it were missed."),
                ),
                ("given_at", models.DateTimeField(auto_now_add=True)),
                ("withdrawn_at", models.DateTimeField(null=True)),
            ],
            options={
                "ordering": ["given_at"],
            },
        ),
        migrations.CreateModel(
            name="RiskMeasurement",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("quasi_identifiers", models.JSONField(help_text="Names of the columns an outsider may know.")),
                ("sensitive", models.CharField(blank=True, max_length=120)),
                (
                    "state",
                    models.CharField(
                        choices=[("running", "Running"), ("done", "Done"), ("failed", "Failed")],
                        default="running",
                        max_length=8,
                    ),
                ),
                ("figures", models.JSONField(default=dict)),
                ("failure", models.CharField(blank=True, max_length=300)),
                ("requested_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "ordering": ["-requested_at"],
            },
        ),
        migrations.CreateModel(
            name="RunComparison",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ("record_count", models.PositiveIntegerField()),
                ("changed_count", models.PositiveIntegerField()),
                (
                    "gained",
                    models.JSONField(default=dict, help_text="Entity type → spans found by the later run only."),
                ),
                (
                    "lost",
                    models.JSONField(default=dict, help_text="Entity type → spans found by the earlier run only."),
                ),
                (
                    "changed",
                    models.JSONField(default=list, help_text="Ordinals of records that changed, the first ones."),
                ),
                ("compared_at", models.DateTimeField(auto_now_add=True)),
            ],
        ),
        migrations.CreateModel(
            name="SpanLabel",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                (
                    "fault",
                    models.CharField(
                        choices=[("missed", "Should have been masked"), ("overmasked", "Should not have been masked")],
                        max_length=12,
                    ),
                ),
                ("entity_type", models.CharField(max_length=24)),
                (
                    "ciphertext",
                    models.BinaryField(help_text="Text, start and end in the raw record, under the subject's key."),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={
                "ordering": ["-created_at"],
            },
        ),
        migrations.AddField(
            model_name="redactionrun",
            name="doubtful_count",
            field=models.PositiveIntegerField(default=0, help_text="Records with a doubtful finding."),
        ),
        migrations.AddField(
            model_name="redactionrun",
            name="list_entries",
            field=models.JSONField(default=list, help_text="Ids of the phrases that were in force."),
        ),
        migrations.AddField(
            model_name="redactionrun",
            name="policy_digest",
            field=models.CharField(blank=True, help_text="Of the profile without the lists.", max_length=71),
        ),
        migrations.AddField(
            model_name="redactionrun",
            name="profile_version",
            field=models.ForeignKey(
                help_text="None: as shipped.",
                null=True,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="profiles.profileversion",
            ),
        ),
        migrations.AddField(
            model_name="sampleitem",
            name="is_read_twice",
            field=models.BooleanField(default=False, help_text="Goes to a second reviewer, blind."),
        ),
        migrations.AddField(
            model_name="sampleitem",
            name="missed_types",
            field=models.JSONField(default=dict, help_text="Entity type → missed identifiers, as they count."),
        ),
        migrations.AddField(
            model_name="sampleitem",
            name="round",
            field=models.PositiveSmallIntegerField(default=1, help_text="Which draw it came with, from 1."),
        ),
        migrations.AlterField(
            model_name="redactionrun",
            name="profile",
            field=models.CharField(help_text="Name of the shipped profile it builds on.", max_length=60),
        ),
        migrations.AlterField(
            model_name="redactionrun",
            name="profile_digest",
            field=models.CharField(help_text="Of the profile as it was used, lists included.", max_length=71),
        ),
        migrations.AddField(
            model_name="reading",
            name="item",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="readings", to="datasets.sampleitem"
            ),
        ),
        migrations.AddField(
            model_name="reading",
            name="reviewer",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="+", to=settings.AUTH_USER_MODEL
            ),
        ),
        migrations.AddField(
            model_name="reading",
            name="workspace",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="+", to="accounts.workspace"
            ),
        ),
        migrations.AddField(
            model_name="riskmeasurement",
            name="requested_by",
            field=models.ForeignKey(
                null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to=settings.AUTH_USER_MODEL
            ),
        ),
        migrations.AddField(
            model_name="riskmeasurement",
            name="run",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="+", to="datasets.redactionrun"
            ),
        ),
        migrations.AddField(
            model_name="riskmeasurement",
            name="version",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT,
                related_name="risk_measurements",
                to="datasets.datasetversion",
            ),
        ),
        migrations.AddField(
            model_name="riskmeasurement",
            name="workspace",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="+", to="accounts.workspace"
            ),
        ),
        migrations.AddField(
            model_name="runcomparison",
            name="after",
            field=models.OneToOneField(
                on_delete=django.db.models.deletion.PROTECT, related_name="comparison", to="datasets.redactionrun"
            ),
        ),
        migrations.AddField(
            model_name="runcomparison",
            name="before",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="+", to="datasets.redactionrun"
            ),
        ),
        migrations.AddField(
            model_name="runcomparison",
            name="workspace",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="+", to="accounts.workspace"
            ),
        ),
        migrations.AddField(
            model_name="spanlabel",
            name="list_entry",
            field=models.ForeignKey(
                null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="profiles.listentry"
            ),
        ),
        migrations.AddField(
            model_name="spanlabel",
            name="reading",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="spans", to="datasets.reading"
            ),
        ),
        migrations.AddField(
            model_name="spanlabel",
            name="redacted",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="+", to="datasets.redactedrecord"
            ),
        ),
        migrations.AddField(
            model_name="spanlabel",
            name="workspace",
            field=models.ForeignKey(
                on_delete=django.db.models.deletion.PROTECT, related_name="+", to="accounts.workspace"
            ),
        ),
        migrations.AddConstraint(
            model_name="reading",
            constraint=models.UniqueConstraint(
                condition=models.Q(("withdrawn_at__isnull", True)),
                fields=("item", "reviewer"),
                name="reading_once_a_person",
            ),
        ),
        migrations.AddConstraint(
            model_name="reading",
            constraint=models.UniqueConstraint(
                condition=models.Q(("withdrawn_at__isnull", True)), fields=("item", "kind"), name="reading_kind_once"
            ),
        ),
        migrations.AddConstraint(
            model_name="reading",
            constraint=models.CheckConstraint(
                condition=models.Q(("verdict", "missed"), ("missed_types", {}), _connector="XOR"),
                name="reading_counts_fit",
            ),
        ),
        migrations.RunSQL(UPGRADE, reverse_sql=migrations.RunSQL.noop),
        migrations.RunSQL(GUARDS, reverse_sql=migrations.RunSQL.noop),
    ]

"""What a version may become, and that sealed content never changes, enforced below the application."""

from django.db import migrations

FORWARD = """
CREATE FUNCTION version_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.state, NEW.state) NOT IN (
        ('importing', 'importing'), ('importing', 'imported'), ('importing', 'failed'),
        ('imported', 'imported'), ('imported', 'redacted'), ('imported', 'rejected'),
        ('redacted', 'redacted'), ('redacted', 'approved'), ('redacted', 'rejected')
    ) THEN
        RAISE EXCEPTION 'a dataset version cannot go from % to %', OLD.state, NEW.state USING ERRCODE = 'check_violation';
    END IF;
    IF OLD.state <> 'importing' AND (OLD.content_digest, OLD.record_count, OLD.source_id, OLD.dataset_id, OLD.mapping)
        IS DISTINCT FROM (NEW.content_digest, NEW.record_count, NEW.source_id, NEW.dataset_id, NEW.mapping) THEN
        RAISE EXCEPTION 'an imported dataset version is immutable' USING ERRCODE = 'check_violation';
    END IF;
    IF NEW.state = 'approved' AND NOT EXISTS (
        SELECT 1 FROM datasets_redactionrun WHERE id = NEW.redaction_id AND version_id = NEW.id AND state = 'done'
    ) THEN
        RAISE EXCEPTION 'only a version whose redaction is done can be approved' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER version_guard BEFORE UPDATE ON datasets_datasetversion FOR EACH ROW EXECUTE FUNCTION version_guard();

CREATE FUNCTION sealed_content_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'records are immutable; to forget a person, shred the key' USING ERRCODE = 'check_violation';
END $$;
CREATE TRIGGER record_guard BEFORE UPDATE ON datasets_record FOR EACH ROW EXECUTE FUNCTION sealed_content_guard();
CREATE TRIGGER redacted_guard BEFORE UPDATE ON datasets_redactedrecord FOR EACH ROW EXECUTE FUNCTION sealed_content_guard();

CREATE FUNCTION record_insert_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT 1 FROM new_rows JOIN datasets_datasetversion v ON v.id = new_rows.version_id WHERE v.state <> 'importing'
    ) THEN
        RAISE EXCEPTION 'records can be added only while a version is being imported' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER record_insert_guard AFTER INSERT ON datasets_record
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION record_insert_guard();

CREATE FUNCTION sample_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.verdict <> '' THEN
        RAISE EXCEPTION 'a verdict stands once given' USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER sample_guard BEFORE UPDATE ON datasets_sampleitem FOR EACH ROW EXECUTE FUNCTION sample_guard();
"""


class Migration(migrations.Migration):
    dependencies = [("datasets", "0001_initial"), ("vault", "0001_initial")]
    operations = [migrations.RunSQL(FORWARD, reverse_sql=migrations.RunSQL.noop)]

"""Triggers that make the ledger append-only for everyone who does not take them away.

They are ENABLE ALWAYS, so that `session_replication_role = replica` does not silence them. An outbox row may go only
once its event has been sealed.
"""

from django.db import migrations

FORWARD = """
CREATE FUNCTION ledger_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only: % on % refused', TG_OP, TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
CREATE FUNCTION ledger_outbox_leave() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM ledger_entry WHERE event_id = OLD.event_id AND body = OLD.body) THEN
        RAISE EXCEPTION 'event % has not been sealed yet', OLD.event_id USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER ledger_outbox_no_update BEFORE UPDATE ON ledger_outbox FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER ledger_outbox_no_truncate BEFORE TRUNCATE ON ledger_outbox EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER ledger_outbox_sealed_only BEFORE DELETE ON ledger_outbox FOR EACH ROW EXECUTE FUNCTION ledger_outbox_leave();
ALTER TABLE ledger_outbox ENABLE ALWAYS TRIGGER ledger_outbox_no_update;
ALTER TABLE ledger_outbox ENABLE ALWAYS TRIGGER ledger_outbox_no_truncate;
ALTER TABLE ledger_outbox ENABLE ALWAYS TRIGGER ledger_outbox_sealed_only;
"""
PER_TABLE = """
CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION ledger_refuse_change();
CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} EXECUTE FUNCTION ledger_refuse_change();
ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_no_change;
ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_no_truncate;
"""
TABLES = ("ledger_entry", "ledger_node", "ledger_checkpoint")


class Migration(migrations.Migration):
    dependencies = [("audit", "0001_initial")]
    operations = [
        migrations.RunSQL(
            FORWARD + "".join(PER_TABLE.format(table=table) for table in TABLES), reverse_sql=migrations.RunSQL.noop
        )
    ]

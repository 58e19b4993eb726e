"""Redaction goes person by person; where a killed job goes on is a person and a place."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("datasets", "0004_privilege")]

    operations = [
        migrations.AddField(
            model_name="redactionrun",
            name="last_person",
            field=models.BigIntegerField(default=0, help_text="Row of the person of the last stored record."),
        ),
        migrations.AlterField(
            model_name="redactionrun",
            name="last_ordinal",
            field=models.PositiveIntegerField(default=0, help_text="Place of the last stored record."),
        ),
    ]

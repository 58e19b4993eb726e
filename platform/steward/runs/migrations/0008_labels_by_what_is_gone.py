"""What was kept by another number is counted anew."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("runs", "0007_label_counts"),
    ]

    operations = [
        migrations.RunSQL("DELETE FROM runs_labelcount", migrations.RunSQL.noop),
        migrations.RenameField("labelcount", "records", "gone"),
        migrations.AlterField(
            model_name="labelcount",
            name="gone",
            field=models.PositiveIntegerField(help_text="People erased and records withheld when they were counted."),
        ),
    ]

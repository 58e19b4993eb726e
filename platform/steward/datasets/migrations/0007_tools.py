"""Whether a version's records name tools or call them; versions from before could not hold any."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("datasets", "0006_set_aside")]

    operations = [
        migrations.AddField(
            model_name="datasetversion",
            name="has_tools",
            field=models.BooleanField(default=False, help_text="Whether a record names tools or calls one."),
        ),
    ]

"""How many records a redaction set aside because two labels of their text met in one replacement."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("datasets", "0005_people")]

    operations = [
        migrations.AddField(
            model_name="redactionrun",
            name="set_aside_count",
            field=models.PositiveIntegerField(
                default=0, help_text="Records with two labels in one replacement; never trained on."
            ),
        ),
    ]

"""The table of fences."""

from django.db import migrations, models

import pooling.models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Fence",
            fields=[
                ("grp", pooling.models.GroupField(max_length=191, primary_key=True, serialize=False)),
                ("token", models.BigIntegerField(default=0)),
                ("deep", models.BooleanField(default=False)),
            ],
            options={
                "db_table": "pooling_fence",
            },
        ),
    ]

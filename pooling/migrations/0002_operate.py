"""The permission to operate. It changes no table."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("pooling", "0001_fence")]

    operations = [
        migrations.CreateModel(
            name="Status",
            fields=[],
            options={
                "verbose_name": "status",
                "verbose_name_plural": "status",
                "permissions": [("operate", "Can break locks, invalidate groups and drain pools")],
                "proxy": True,
                "default_permissions": (),
                "indexes": [],
                "constraints": [],
            },
            bases=("pooling.fence",),
        ),
    ]

"""A site with a geometry field: ``python -m tests.backend.gis_site DATABASE [without]``; "without" hides GDAL.

Says what it found as JSON.
"""

from __future__ import annotations

import ctypes.util
import json
import sys
from typing import Any


def main() -> dict[str, Any]:
    if sys.argv[2:] == ["without"]:
        ctypes.util.find_library = lambda name: None
    from django.conf import settings
    from django.core.exceptions import ImproperlyConfigured

    settings.configure(DATABASES={"default": json.loads(sys.argv[1])}, INSTALLED_APPS=[])
    import django

    django.setup()
    from django.db import connection

    try:
        _ = connection.vendor
    except ImproperlyConfigured as error:
        return {"refused": str(error)}

    from django.contrib.gis.db import models
    from django.contrib.gis.geos import Point, Polygon

    class Town(models.Model):
        name = models.CharField(max_length=20)
        where = models.PointField()

        class Meta:
            app_label = "gis_site"

    with connection.schema_editor() as editor:
        editor.create_model(Town)
    sessions = set()
    for name, point in {"here": Point(1, 1, srid=4326), "there": Point(9, 9, srid=4326)}.items():
        Town.objects.create(name=name, where=point)
        sessions.add(connection.connection.thread_id())
        connection.close()
    near = Polygon.from_bbox((0, 0, 2, 2))
    near.srid = 4326
    return {
        "near": list(Town.objects.filter(where__within=near).values_list("name", flat=True)),
        "sessions": len(sessions | {connection.connection.thread_id()}),
        "most": connection.pool.get_stats()["pool_max"],
    }


if __name__ == "__main__":
    print(json.dumps(main()))

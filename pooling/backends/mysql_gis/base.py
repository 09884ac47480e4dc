"""GeoDjango's MySQL backend on pooled connections. Importing it without GDAL raises Django's ImproperlyConfigured."""

from __future__ import annotations

from django.contrib.gis.db.backends.mysql import base as mysql_gis

from pooling.backends.mysql import base as mysql


class DatabaseWrapper(mysql.DatabaseWrapper):
    """The pooled wrapper, with the geometry fields, lookups and functions of Django's own."""

    SchemaEditorClass = mysql_gis.DatabaseWrapper.SchemaEditorClass
    features_class = mysql_gis.DatabaseWrapper.features_class
    introspection_class = mysql_gis.DatabaseWrapper.introspection_class
    ops_class = mysql_gis.DatabaseWrapper.ops_class

"""The table of fences: see `pooling.fences`, which alone writes it. And what the permission to operate belongs to."""

from __future__ import annotations

from typing import Any

from django.db import models


class GroupField(models.CharField):  # type: ignore[type-arg]
    """A group's path, compared byte by byte, whatever the collation of the database."""

    def db_type(self, connection: Any) -> str | None:
        return f"varbinary({self.max_length})" if connection.vendor == "mysql" else super().db_type(connection)

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        return value.decode() if isinstance(value, bytes) else value

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        value = super().get_db_prep_value(value, connection, prepared)
        return value.encode() if connection.vendor == "mysql" and isinstance(value, str) else value


class Fence(models.Model):
    """``token`` of the newest holder that has claimed the group; ``deep``: there are groups below it."""

    grp = GroupField(max_length=191, primary_key=True)
    token: models.BigIntegerField[int, int] = models.BigIntegerField(default=0)
    deep: models.BooleanField[bool, bool] = models.BooleanField(default=False)

    class Meta:
        db_table = "pooling_fence"

    def __str__(self) -> str:
        return f"{self.grp}: {self.token}"


class Status(Fence):
    """Has no table: the permission ``pooling.operate`` belongs to it, and the admin's index lists it.

    A proxy, since `dumpdata` asks the table of an unmanaged model, which there would not be.
    """

    class Meta:
        proxy = True
        default_permissions = ()
        permissions = [("operate", "Can break locks, invalidate groups and drain pools")]
        verbose_name = verbose_name_plural = "status"

"""Two small models for tests that need rows."""

from __future__ import annotations

from django.db import models


class Account(models.Model):
    """Money on an account, in whole cents."""

    name = models.CharField(max_length=50, unique=True)
    balance = models.IntegerField(default=0)

    def __str__(self) -> str:
        return self.name


class Note(models.Model):
    """Any text."""

    text = models.TextField(default="")

    def __str__(self) -> str:
        return self.text

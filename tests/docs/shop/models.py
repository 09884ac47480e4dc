"""What the manual sells."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class Event(models.Model):
    """Seats are counted, not numbered."""

    title = models.CharField(max_length=50)
    slug = models.SlugField(default="")
    price = models.IntegerField(default=10)
    seats_left = models.IntegerField(default=5)
    rating = models.IntegerField(default=0)

    def __str__(self) -> str:
        return self.title


class Account(models.Model):
    """Money of a visitor, in whole cents."""

    owner = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    balance = models.IntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.owner}: {self.balance}"

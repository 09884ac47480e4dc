"""Events with numbered seats, accounts with money, and the rows that say where either went.

`Account.balance` and `Seat.sold` are what the site reads and replaces; `Order`, `OrderLine` and `Transfer` are only
ever added. So the two can be compared, and every lost update shows as a difference.
"""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.urls import reverse


class Event(models.Model):
    title = models.CharField(max_length=100, unique=True)
    venue = models.CharField(max_length=100)
    starts_at = models.DateTimeField()
    price = models.DecimalField(max_digits=8, decimal_places=2)

    class Meta:
        ordering = ["starts_at", "pk"]

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        return reverse("event", args=[self.pk])


class Seat(models.Model):
    event = models.ForeignKey(Event, models.CASCADE, related_name="seats")
    row = models.CharField(max_length=2)
    number = models.PositiveSmallIntegerField()
    sold = models.BooleanField(default=False)

    class Meta:
        ordering = ["row", "number"]
        constraints = [models.UniqueConstraint(fields=["event", "row", "number"], name="one_seat_per_place")]

    def __str__(self) -> str:
        return self.label

    @property
    def label(self) -> str:
        return f"{self.row}{self.number}"


class Account(models.Model):
    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, primary_key=True, related_name="account")
    opening = models.DecimalField("opening balance", max_digits=12, decimal_places=2)
    balance = models.DecimalField(max_digits=12, decimal_places=2)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"Account {self.pk}"


class Order(models.Model):
    account = models.ForeignKey(Account, models.PROTECT, related_name="orders")
    event = models.ForeignKey(Event, models.PROTECT, related_name="orders")
    total = models.DecimalField(max_digits=10, decimal_places=2)
    paid_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"Order {self.pk}"

    def get_absolute_url(self) -> str:
        return reverse("order", args=[self.pk])


class OrderLine(models.Model):
    """One seat of one order. No unique constraint on the seat: two lines for one seat are what the audit looks for."""

    order = models.ForeignKey(Order, models.CASCADE, related_name="lines")
    seat = models.ForeignKey(Seat, models.PROTECT, related_name="lines")
    price = models.DecimalField(max_digits=8, decimal_places=2)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"Seat {self.seat_id} in order {self.order_id}"


class Transfer(models.Model):
    source = models.ForeignKey(Account, models.PROTECT, related_name="sent")
    target = models.ForeignKey(Account, models.PROTECT, related_name="received")
    amount = models.DecimalField(max_digits=10, decimal_places=2)
    made_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"Transfer {self.pk}"

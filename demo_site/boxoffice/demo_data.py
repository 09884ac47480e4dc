"""The demo's events, seats, people and accounts: made once, or put back to what they were."""

from __future__ import annotations

import datetime
from decimal import Decimal

from django.contrib.auth import get_user_model
from django.contrib.auth.hashers import make_password
from django.db import transaction
from django.utils import timezone

from demo_site.people import BOSS, PASSWORD, PEOPLE

from .models import Account, Event, Order, OrderLine, Seat, Transfer

OPENING = Decimal(5000)
ROWS = "ABCDEFGHIJKLMNOP"
SEATS_PER_ROW = 10
EVENTS = (
    ("The Winter Concert", "Great Hall", 14, "42.00"),
    ("Two Gentlemen of Verona", "Old Playhouse", 17, "35.00"),
    ("An Evening of Short Films", "Lantern Cinema", 20, "12.50"),
    ("Jazz After Eight", "The Cellar", 23, "24.00"),
    ("The Barber of Seville", "City Opera", 29, "68.00"),
    ("Stand-up: New Voices", "The Cellar", 33, "15.00"),
    ("Children's Puppet Morning", "Old Playhouse", 36, "8.00"),
    ("Organ by Candlelight", "St. Anne's", 41, "18.00"),
)


@transaction.atomic
def load(opening: Decimal = OPENING) -> None:
    """Add what is missing. What is there, sold seats and spent money included, stays as it is."""
    today = timezone.now().replace(hour=19, minute=30, second=0, microsecond=0)
    for title, venue, days, price in EVENTS:
        starts_at = today + datetime.timedelta(days=days)
        event, made = Event.objects.get_or_create(
            title=title, defaults={"venue": venue, "starts_at": starts_at, "price": Decimal(price)}
        )
        if made:
            Seat.objects.bulk_create(
                Seat(event=event, row=row, number=number) for row in ROWS for number in range(1, SEATS_PER_ROW + 1)
            )
    users = get_user_model()
    known = set(users.objects.filter(username__in=PEOPLE).values_list("username", flat=True))
    if known != set(PEOPLE):
        password = make_password(PASSWORD)
        users.objects.bulk_create(users(username=name, password=password) for name in PEOPLE if name not in known)
    if not users.objects.filter(username=BOSS).exists():
        users.objects.create_superuser(BOSS, password=PASSWORD)
    have = set(Account.objects.values_list("pk", flat=True))
    for user in users.objects.filter(username__in=PEOPLE):
        if user.pk not in have:
            Account.objects.create(user=user, opening=opening, balance=opening)


@transaction.atomic
def reset(opening: Decimal) -> None:
    """Every seat free, every account at ``opening``, no orders and no transfers. People and sessions stay."""
    for model in (OrderLine, Order, Transfer):
        model.objects.all().delete()
    Seat.objects.update(sold=False)
    Account.objects.update(opening=opening, balance=opening)

"""Selling seats and moving money, written as most sites write it: read, check, write, in one transaction.

There is no ``select_for_update`` and no ``F()`` here. Run alone, or by views that lock what they declare, it is right;
run by many threads at once with nothing around it, it sells seats twice and loses money.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from django.db import transaction

from .models import Account, Event, Order, OrderLine, Seat, Transfer


class Refused(Exception):
    """The sale or transfer cannot be made; the message is for the customer. Nothing has been written."""

    status = 409


class SeatTaken(Refused):
    pass


class NotEnoughMoney(Refused):
    status = 402


@transaction.atomic
def book(event_id: int, user_id: int, seat_ids: Sequence[int]) -> Order:
    """Sell these seats of one event to the user's account. Raises SeatTaken, NotEnoughMoney, Refused."""
    event = Event.objects.get(pk=event_id)
    seats = list(Seat.objects.filter(event=event, pk__in=seat_ids))
    if not seats or len(seats) != len(set(seat_ids)):
        raise Refused("Some of these seats are not part of this event. Choose again from its seat map.")
    taken = [seat.label for seat in seats if seat.sold]
    if taken:
        raise SeatTaken(
            f"Seat {taken[0]} has just been sold."
            if len(taken) == 1
            else f"Seats {', '.join(taken)} have just been sold."
        )
    account = Account.objects.get(pk=user_id)
    total = event.price * len(seats)
    if account.balance < total:
        raise NotEnoughMoney(f"These seats cost {total}, and your account has {account.balance}.")
    order = Order.objects.create(account=account, event=event, total=total)
    OrderLine.objects.bulk_create(OrderLine(order=order, seat=seat, price=event.price) for seat in seats)
    for seat in seats:
        seat.sold = True
        seat.save(update_fields=["sold"])
    account.balance -= total
    account.save(update_fields=["balance"])
    return order


@transaction.atomic
def transfer(source_id: int, target_id: int, amount: Decimal) -> Transfer:
    """Move money between two accounts. Raises NotEnoughMoney, Refused."""
    if source_id == target_id or amount <= 0:
        raise Refused("Choose another account and an amount above zero.")
    source = Account.objects.get(pk=source_id)
    target = Account.objects.get(pk=target_id)
    if source.balance < amount:
        raise NotEnoughMoney(f"You wanted to send {amount}, and your account has {source.balance}.")
    source.balance -= amount
    source.save(update_fields=["balance"])
    target.balance += amount
    target.save(update_fields=["balance"])
    return Transfer.objects.create(source=source, target=target, amount=amount)

"""Do the books add up? The same sums serve the report page and the workload's audit."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from django.db import connection

_SUMS = """
SELECT (SELECT COALESCE(SUM(opening), 0) FROM boxoffice_account),
       (SELECT COALESCE(SUM(balance), 0) FROM boxoffice_account),
       (SELECT COALESCE(SUM(total), 0) FROM boxoffice_order),
       (SELECT COUNT(*) FROM boxoffice_seat WHERE sold),
       (SELECT COUNT(*) FROM boxoffice_orderline)
"""
_SOLD_TWICE = """
SELECT COUNT(*) FROM (SELECT seat_id FROM boxoffice_orderline GROUP BY seat_id HAVING COUNT(*) > 1) AS twice
"""
_ASTRAY = """
SELECT COALESCE(SUM(ABS(a.balance - (a.opening
         - COALESCE((SELECT SUM(total) FROM boxoffice_order WHERE account_id = a.user_id), 0)
         - COALESCE((SELECT SUM(amount) FROM boxoffice_transfer WHERE source_id = a.user_id), 0)
         + COALESCE((SELECT SUM(amount) FROM boxoffice_transfer WHERE target_id = a.user_id), 0)))), 0)
  FROM boxoffice_account AS a
"""


@dataclass(frozen=True)
class Books:
    """``opening = balances + orders`` and ``seats_sold = order_lines`` hold at every moment, or something is wrong."""

    opening: Decimal
    balances: Decimal
    orders: Decimal
    seats_sold: int
    order_lines: int

    @property
    def money_missing(self) -> Decimal:
        """Expected less actual: above zero, money is lost; below zero, there is more than there ever was."""
        return self.opening - self.balances - self.orders

    @property
    def lines_too_many(self) -> int:
        return self.order_lines - self.seats_sold

    @property
    def add_up(self) -> bool:
        return not self.money_missing and not self.lines_too_many


def books() -> Books:
    """All sums in one statement, hence of one moment even without a lock."""
    with connection.cursor() as cursor:
        cursor.execute(_SUMS)
        return Books(*cursor.fetchone())


def seats_sold_twice() -> int:
    with connection.cursor() as cursor:
        cursor.execute(_SOLD_TWICE)
        return int(cursor.fetchone()[0])


def money_astray() -> Decimal:
    """The sum, over all accounts, of how far the balance is from what orders and transfers say it must be.

    Money lost in one account and made up in another cancels out in `Books.money_missing`; it does not here.
    """
    with connection.cursor() as cursor:
        cursor.execute(_ASTRAY)
        return Decimal(cursor.fetchone()[0])

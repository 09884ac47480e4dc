"""The bank: accounts, one kind of transfer, and a row about each one that was committed.

A balance is read, changed in Python and written back, as a view does it: whoever reads an account before another has
committed loses that one's update. Each version of an account can be read by one committed transfer only, and the audit
row, written in the same transaction, says which ones were read. So a lost update shows in the audit for certain.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from django.db import connection

from pooling import locked
from pooling.alone import Alone

ACCOUNTS = 4  # few, so that there are always some who wait
BALANCE = 1000

TABLES = (
    "CREATE TABLE account (id INT PRIMARY KEY, balance INT NOT NULL, version INT NOT NULL) ENGINE=InnoDB",
    "CREATE TABLE audit (transfer VARCHAR(40) PRIMARY KEY, token BIGINT NOT NULL, amount INT NOT NULL,"
    " source INT NOT NULL, source_balance INT NOT NULL, source_version INT NOT NULL,"
    " target INT NOT NULL, target_balance INT NOT NULL, target_version INT NOT NULL) ENGINE=InnoDB",
    f"INSERT INTO account VALUES {', '.join(f'({number}, {BALANCE}, 0)' for number in range(ACCOUNTS))}",
)


@dataclass(frozen=True)
class Order:
    """One transfer. ``whole``: it locks all accounts by the group above them, not only its two."""

    transfer: str
    source: int
    target: int
    amount: int
    whole: bool

    @classmethod
    def at_random(cls, transfer: str, chance: random.Random) -> Order:
        source, target = chance.sample(range(ACCOUNTS), 2)
        return cls(transfer, source, target, chance.randint(1, 9), chance.random() < 0.1)

    @property
    def accounts(self) -> tuple[int, ...]:
        """What it keeps others from."""
        return tuple(range(ACCOUNTS)) if self.whole else (self.source, self.target)

    @property
    def groups(self) -> list[str]:
        return ["accounts"] if self.whole else [f"accounts/{number}" for number in (self.source, self.target)]


@dataclass(frozen=True)
class Audit:
    """One row of the audit: what a committed transfer read."""

    transfer: str
    token: int
    amount: int
    source: int
    source_balance: int
    source_version: int
    target: int
    target_balance: int
    target_version: int


def carry_out(order: Order, lease: float, reached: Callable[..., None]) -> None:
    """One transfer, under its lock. ``reached`` is told of each named point."""
    with locked(writes=order.groups, lease=lease) as held, connection.cursor() as cursor:
        reached("claimed", token=held.fence, alone=isinstance(held, Alone))
        cursor.execute(
            "SELECT id, balance, version FROM account WHERE id IN (%s, %s) ORDER BY id", [order.source, order.target]
        )
        rows = {number: (balance, version) for number, balance, version in cursor.fetchall()}
        reached("read")
        for number in sorted(rows):  # in one order, so that without a lock they lose updates and do not deadlock
            balance, version = rows[number]
            change = order.amount if number == order.target else -order.amount
            cursor.execute(
                "UPDATE account SET balance = %s, version = %s WHERE id = %s", [balance + change, version + 1, number]
            )
        cursor.execute(
            "INSERT INTO audit VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                *(order.transfer, held.fence, order.amount),
                *(order.source, *rows[order.source]),
                *(order.target, *rows[order.target]),
            ],
        )

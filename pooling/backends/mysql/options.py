"""What ``OPTIONS["pool"]`` may say: the pool's own options, and how this backend uses it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pooling.pool import PoolOptions
from pooling.pool.state import COUNTS_REFERENCES

RELEASES = ("request", "transaction")


@dataclass(frozen=True, slots=True)
class BackendOptions(PoolOptions):
    """`PoolOptions` with two options more. Any fault raises ValueError and says what to change.

    ``release``            when a connection goes back: "request", at `close()`, which Django calls at the end of each
                           request; "transaction", as soon as no transaction, cursor or session state needs it.
    ``start_transaction``  open `atomic()` by START TRANSACTION, instead of switching autocommit off and on again: three
                           statements for a transaction of one query instead of four.
    """

    release: Literal["request", "transaction"] = "request"
    start_transaction: bool = False

    def __post_init__(self) -> None:
        PoolOptions.__post_init__(self)  # `super()` does not find its class, which slots have made anew
        if self.release not in RELEASES:
            raise ValueError(f"Pool option 'release' must be 'request' or 'transaction', not {self.release!r}.")
        if self.release == "transaction" and not COUNTS_REFERENCES:
            raise ValueError(
                "Pool option 'release' cannot be 'transaction' on this Python: only the reference counts of CPython "
                "with its GIL show that nobody holds a connection any more. Use 'request'."
            )
        if not isinstance(self.start_transaction, bool):
            raise ValueError(f"Pool option 'start_transaction' must be True or False, not {self.start_transaction!r}.")

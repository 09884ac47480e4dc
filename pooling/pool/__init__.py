"""A bounded, fair and fork-safe connection pool that knows no database and no framework."""

from .budget import Budget, Ledger, Standing
from .core import ConnectionPool
from .driver import Driver, Failure
from .hostledger import HostLedger, usual_folder
from .leaks import Holding
from .options import PoolOptions
from .stats import Snapshot

__all__ = [
    "Budget",
    "ConnectionPool",
    "Driver",
    "Failure",
    "Holding",
    "HostLedger",
    "Ledger",
    "PoolOptions",
    "Snapshot",
    "Standing",
    "usual_folder",
]

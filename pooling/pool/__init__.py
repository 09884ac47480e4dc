"""A bounded, fair and fork-safe connection pool that knows no database and no framework."""

from .core import ConnectionPool
from .driver import Driver, Failure
from .leaks import Holding
from .options import PoolOptions

__all__ = ["ConnectionPool", "Driver", "Failure", "Holding", "PoolOptions"]

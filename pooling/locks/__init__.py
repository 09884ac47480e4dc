"""Holding resource groups: the lock manager, leases and their renewal. Imports no Django and no Redis."""

from .held import Held
from .manager import LockManager, Options

__all__ = ["Held", "LockManager", "Options"]

"""Holding resource groups: the lock manager, leases and their renewal. Imports no Django and no Redis."""

from .asking import Options
from .held import Held
from .manager import LockManager

__all__ = ["Held", "LockManager", "Options"]

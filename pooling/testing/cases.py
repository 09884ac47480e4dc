"""`PoolingTestMixin`: the assertions and a store of its own for each test of a class."""

from __future__ import annotations

import unittest
from typing import TYPE_CHECKING, Any

from . import asserts
from .isolation import assertNoLockHeld, isolated, started_over

if TYPE_CHECKING:
    from django.test import SimpleTestCase as Case
else:
    Case = object


class PoolingTestMixin(Case):
    """For Django's SimpleTestCase, TestCase, TransactionTestCase and LiveServerTestCase, before them among the bases:
    ``class Pages(PoolingTestMixin, TestCase)``.

    Each test is `isolated`, with its ``setUp``, ``tearDown`` and cleanups, and fails if it leaves a lock held. What
    ``setUpClass`` and ``setUpTestData`` do is apart as well, and its pages are not those of the tests. The assertions
    are methods, besides.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        order = cls.__mro__
        if unittest.TestCase in order[: order.index(PoolingTestMixin)]:
            raise TypeError(
                f"{cls.__name__}: PoolingTestMixin must stand before the test case among the bases, or its tests are "
                f"not isolated: class {cls.__name__}(PoolingTestMixin, TestCase)."
            )

    @classmethod
    def setUpClass(cls) -> None:
        cls.enterClassContext(isolated(cls.__qualname__))  # first: what setUpTestData locks is no lock of the site's
        super().setUpClass()

    def run(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
        with started_over():
            self.addCleanup(assertNoLockHeld, self.id())  # the first, so it comes after all others
            return super().run(result)

    def debug(self) -> None:
        with started_over():
            self.addCleanup(assertNoLockHeld, self.id())
            super().debug()

    assertCached = staticmethod(asserts.assertCached)
    assertNotCached = staticmethod(asserts.assertNotCached)
    assertStale = staticmethod(asserts.assertStale)
    assertStored = staticmethod(asserts.assertStored)
    assertNotStored = staticmethod(asserts.assertNotStored)
    assertNoLockHeld = staticmethod(assertNoLockHeld)

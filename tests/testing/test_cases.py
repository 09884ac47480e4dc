"""`PoolingTestMixin` with Django's test cases, as their own runner runs them, over both stores."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
import threading
import unittest
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.http import HttpResponse
from django.test import (
    LiveServerTestCase,
    RequestFactory,
    SimpleTestCase,
    TestCase,
    TransactionTestCase,
    override_settings,
)

from pooling import cache_stats, invalidate, locked, locked_cache, runtime
from pooling.testing import PoolingTestMixin, isolation
from tests.app.models import Account, Note

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.django_db(transaction=True)


def run(case: type[unittest.TestCase]) -> unittest.TestResult:
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
    return result


def passes(case: type[unittest.TestCase], tests: int) -> None:
    site = runtime.store()
    result = run(case)
    assert not result.errors + result.failures, (result.errors + result.failures)[0][1]
    assert result.testsRun == tests
    assert runtime.stores() == [runtime.store()] == [site]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "PATIENCE", 0.0)


def hold() -> Any:
    held = locked(writes=["notes/7"], atomic=False)
    held.__enter__()
    return held


def test_each_test_begins_with_an_empty_cache() -> None:
    class Pages(PoolingTestMixin, SimpleTestCase):
        def setUp(self) -> None:
            self.assertStored(self.client.get("/plain"), "in setUp")

        def test_first(self) -> None:
            self.assertCached(self.client.get("/plain"))
            self.addCleanup(lambda: self.assertCached(self.client.get("/plain")))

        test_second = test_first

        async def test_third(self) -> None:
            self.assertCached(await self.async_client.get("/plain"))
            assert cache_stats()["tests.cache.views.plain"].hits == 1

        def tearDown(self) -> None:
            self.assertCached(self.client.get("/plain"))

    passes(Pages, 3)


def test_what_is_prepared_for_the_class_is_apart_from_both_the_site_and_the_tests() -> None:
    site = runtime.store()
    held = hold()

    class Pages(PoolingTestMixin, TestCase):
        note: Note

        @classmethod
        def setUpTestData(cls) -> None:
            with locked(writes=["notes/7"]):  # which the site holds
                cls.note = Note.objects.create(text="one")
            cls.client_class().get(f"/note/{cls.note.pk}")

        def test_it(self) -> None:
            self.assertStored(self.client.get(f"/note/{self.note.pk}"))
            assert runtime.store() is not site

    result = run(Pages)
    held.__exit__(None, None, None)
    assert not result.errors + result.failures, (result.errors + result.failures)[0][1]


def test_in_a_testcase_writers_are_seen_at_once_and_invalidate_after_the_captured_commit() -> None:
    class Pages(PoolingTestMixin, TestCase):
        def test_it(self) -> None:
            note = Note.objects.create(text="one")
            url = f"/note/{note.pk}"
            self.assertStored(self.client.get(url))
            with self.assertNumQueries(0):
                self.assertCached(self.client.get(url))
            self.client.post(url, {"text": "two"})  # declares what it writes
            self.assertContains(self.client.get(url), "two")

            with self.captureOnCommitCallbacks(execute=True) as callbacks:
                Note.objects.update(text="three")
                invalidate("notes")
                old = self.client.get(url)
                self.assertCached(old)
                self.assertContains(old, "two")
            assert len(callbacks) == 1
            self.assertNotCached(self.client.get(url))
            self.assertContains(self.client.get(url), "three")

        def test_what_nobody_tells_the_cache(self) -> None:
            note = Note.objects.create(text="one")
            self.client.get(f"/note/{note.pk}")
            Note.objects.update(text="two")
            self.assertContains(self.client.get(f"/note/{note.pk}"), "one")

        def test_invalidate_without_the_captured_commit(self) -> None:
            self.client.get("/plain")
            invalidate("x")
            self.assertCached(self.client.get("/plain"))

        async def test_async(self) -> None:
            note = await Note.objects.acreate(text="one")
            for url in (f"/async_note/{note.pk}", f"/async_class/{note.pk}", f"/note/{note.pk}"):
                self.assertStored(await self.async_client.get(url))
                self.assertCached(await self.async_client.get(url))
            async with locked(writes=["notes"]):
                await Note.objects.aupdate(text="two")
            self.assertContains(await self.async_client.get(f"/async_note/{note.pk}"), "two")

    passes(Pages, 4)


@override_settings(POOLING={"GROUPS": {"notes": ["app.Note"]}})
def test_groups_of_models_are_like_invalidate() -> None:
    class Pages(PoolingTestMixin, TestCase):
        def test_it(self) -> None:
            note = Note.objects.create(text="one")
            self.client.get(f"/note/{note.pk}")
            with self.captureOnCommitCallbacks(execute=True):
                Note.objects.update(text="two")
            self.assertContains(self.client.get(f"/note/{note.pk}"), "two")

    passes(Pages, 1)


def test_threads_in_a_transactiontestcase() -> None:
    made = threading.Barrier(4)
    runs: list[int] = []

    @locked_cache(300, reads=["accounts"])
    def page(request: Any) -> HttpResponse:
        runs.append(1)
        return HttpResponse(str(Account.objects.get(name="a").balance))

    @locked(writes=["accounts"])
    def pay() -> None:
        account = Account.objects.get(name="a")
        account.balance += 1
        account.save()

    class Together(PoolingTestMixin, TransactionTestCase):
        def test_it(self) -> None:
            Account.objects.create(name="a")

            def work(number: int) -> Any:
                try:
                    made.wait()
                    response = page(RequestFactory().get("/"))
                    pay()
                    return response
                finally:
                    connections.close_all()

            with ThreadPoolExecutor(4) as pool:
                answers = list(pool.map(work, range(4)))
            for response in answers:
                if "stored" not in response["Cache-Status"]:
                    self.assertCached(response)
            self.assertContains(page(RequestFactory().get("/")), "4")

        test_again = test_it

    passes(Together, 2)
    assert runs


def test_a_test_that_leaves_a_lock_fails_and_the_next_one_has_none() -> None:
    left = []

    class Pages(PoolingTestMixin, SimpleTestCase):
        def test_a(self) -> None:
            left.append(hold())

        def test_b(self) -> None:
            assert runtime.store().parties() == []
            with locked(writes=["notes"], atomic=False):
                with pytest.raises(AssertionError):
                    self.assertNoLockHeld()

    result = run(Pages)
    assert result.errors == []
    ((failed, said),) = result.failures
    assert failed.id().endswith("Pages.test_a")
    assert "Pages.test_a a lock is still held: with locked(…) (" in said
    assert "'notes/7'" in said
    assert result.testsRun == 2


def test_a_class_that_leaves_a_lock_is_an_error() -> None:
    left = []

    class Pages(PoolingTestMixin, SimpleTestCase):
        @classmethod
        def setUpClass(cls) -> None:
            super().setUpClass()
            left.append(hold())

        def test_it(self) -> None:
            assert runtime.store().parties() == []

    result = run(Pages)
    ((_, said),) = result.errors
    assert "Pages a lock is still held" in said


def test_one_that_is_skipped_or_fails_leaves_nothing_either() -> None:
    class Pages(PoolingTestMixin, SimpleTestCase):
        @unittest.skip("for the test")
        def test_a(self) -> None:
            raise AssertionError

        def test_b(self) -> None:
            raise self.skipTest("for the test")

        def test_c(self) -> None:
            self.assertCached(self.client.get("/plain"))

        def test_d(self) -> None:
            self.assertStored(self.client.get("/plain"))

    before = runtime.store()
    result = run(Pages)
    assert (len(result.skipped), len(result.failures), len(result.errors)) == (2, 1, 0)
    assert "Expected cached" in result.failures[0][1]
    assert "asserts.py" not in result.failures[0][1]
    assert runtime.store() is before


def test_the_debugger_s_way_of_running_is_isolated_too() -> None:
    left = []

    class Pages(PoolingTestMixin, SimpleTestCase):
        def test_it(self) -> None:
            self.assertStored(self.client.get("/plain"))
            left.append(hold())

    Pages.setUpClass()
    try:
        for _ in range(2):
            with pytest.raises(AssertionError, match="is still held"):
                Pages("test_it").debug()
    finally:
        Pages.doClassCleanups()
    assert runtime.store().parties() == []


def test_the_mixin_behind_the_test_case_is_refused() -> None:
    with pytest.raises(TypeError, match=r"class Pages\(PoolingTestMixin, TestCase\)"):

        class Pages(TestCase, PoolingTestMixin):
            pass

    class Good(PoolingTestMixin, TestCase):
        pass

    class Further(Good):
        pass


def test_settings_of_a_class() -> None:
    @override_settings(POOLING={"KEY_PREFIX": "other"})
    class Pages(PoolingTestMixin, SimpleTestCase):
        def test_it(self) -> None:
            self.assertStored(self.client.get("/plain"))
            self.assertCached(self.client.get("/plain"))
            with self.settings(POOLING={"ENABLED": False}):
                assert "Cache-Status" not in self.client.get("/plain")

        test_again = test_it

    passes(Pages, 2)


def test_over_http() -> None:
    class Pages(PoolingTestMixin, LiveServerTestCase):
        def test_it(self) -> None:
            for check in (self.assertStored, self.assertCached):
                with urllib.request.urlopen(self.live_server_url + "/plain") as response:
                    check(response)

        test_again = test_it

    passes(Pages, 2)


def test_with_the_standard_library_s_asynchronous_case() -> None:
    class Pages(PoolingTestMixin, unittest.IsolatedAsyncioTestCase):  # type: ignore[misc]
        async def test_it(self) -> None:
            async with locked(writes=["x"], atomic=False):
                await asyncio.sleep(0)
            self.assertNoLockHeld()

    passes(Pages, 1)


FIXTURE = """
from django.test import Client
from pooling import locked
from pooling.testing import assertCached, assertStored
from pooling.testing.fixtures import pooling_isolated


def test_a(pooling_isolated, settings):
    settings.ROOT_URLCONF = "tests.cache.views"
    assertStored(Client().get("/plain"))
    assertCached(Client().get("/plain"))


test_b = test_a
left = []


def test_fails(pooling_isolated, settings):
    settings.ROOT_URLCONF = "tests.cache.views"
    assertCached(Client().get("/plain"))


def test_c(pooling_isolated):
    left.append(locked(writes=["notes/7"], atomic=False))
    left[0].__enter__()
"""


def test_the_fixture(surroundings: str, tmp_path: Path) -> None:
    if surroundings == "redis":
        return  # it is `isolated` and no more
    file = tmp_path / "test_pages.py"
    file.write_text(inspect.cleandoc(FIXTURE))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "pyproject.toml", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert "1 failed, 3 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert "Expected cached, but it was made by the view" in done.stdout
    assert "asserts.py" not in done.stdout  # the traceback ends in the test
    assert "test_c a lock is still held" in done.stdout

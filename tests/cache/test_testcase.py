"""Inside TestCase, whose own transaction is no obstacle to the cache."""

from __future__ import annotations

from django.test import TestCase

from pooling import invalidate
from tests.app.models import Note


class InTestCase(TestCase):
    def test_stored_and_hit_and_written(self) -> None:
        note = Note.objects.create(text="one")
        url = f"/note/{note.pk}"
        assert self.client.get(url)["Cache-Status"].endswith("stored")
        with self.assertNumQueries(0):
            assert "hit" in self.client.get(url)["Cache-Status"]
        self.client.post(url, {"text": "two"})
        assert self.client.get(url).content == b"two"

    def test_invalidate_runs_with_the_captured_callbacks(self) -> None:
        self.client.get("/plain")
        with self.captureOnCommitCallbacks(execute=True) as callbacks:
            invalidate("x")
            assert "hit" in self.client.get("/plain")["Cache-Status"]
        assert len(callbacks) == 1
        assert "fwd=stale" in self.client.get("/plain")["Cache-Status"]

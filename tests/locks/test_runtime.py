"""The process's store and manager, made at their first use."""

from __future__ import annotations

import threading

from pooling import runtime


def test_a_signal_handler_may_need_them_while_they_are_made(monkeypatch):
    """It runs in the thread that is just making them, so it must not wait for that."""
    runtime.reset_runtime()
    make, found = runtime._make_store, []

    def interrupted(settings):
        store = make(settings)
        if not found:
            found.append(None)
            found.append(runtime.manager())  # as a handler does
        return store

    monkeypatch.setattr(runtime, "_make_store", interrupted)
    thread = threading.Thread(target=lambda: found.append(runtime.manager()), daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert found[1] is found[2] is runtime.manager()
    runtime.reset_runtime()

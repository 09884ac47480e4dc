"""The examples are called by themselves; Django wants a place for URLs."""

urlpatterns: list[object] = []

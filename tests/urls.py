"""No routes of its own: a test that needs some sets ROOT_URLCONF to its own module."""

urlpatterns: list[object] = []

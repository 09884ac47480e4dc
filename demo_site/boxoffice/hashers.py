from __future__ import annotations

from django.contrib.auth.hashers import PBKDF2PasswordHasher


class Quick(PBKDF2PasswordHasher):
    """The demo's password is published, so a slow hash protects nothing, and all visitors of a run sign in first."""

    iterations = 1000

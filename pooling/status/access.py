"""Who may see the status page, and who may do something there."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import resolve_url
from django.urls import NoReverseMatch, reverse
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect

OPERATE = "pooling.operate"

View = Callable[..., HttpResponse]


def admin_is_there() -> bool:
    """Is the admin installed, and does a path lead to it?"""
    if not apps.is_installed("django.contrib.admin"):
        return False
    try:
        reverse("admin:index")
    except NoReverseMatch:
        return False
    return True


def is_staff(request: HttpRequest) -> bool:
    user: Any = getattr(request, "user", None)  # a site without `auth` has no user, and nobody is staff
    return user is not None and user.is_active and bool(getattr(user, "is_staff", False))


def may_operate(request: HttpRequest) -> bool:
    """Has this member of the staff the permission?"""
    user: Any = getattr(request, "user", None)
    return user is not None and bool(user.has_perm(OPERATE))


def staff_only(view: View) -> View:
    """To the login whoever is not signed in; 403 for who is, and is not staff. Nobody keeps the answer."""

    @functools.wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if is_staff(request):
            return view(request, *args, **kwargs)
        user: Any = getattr(request, "user", None)
        if user is not None and user.is_authenticated:
            raise PermissionDenied
        login = reverse("admin:login") if admin_is_there() else resolve_url(settings.LOGIN_URL)
        # Not `redirect_to_login`: to import it, `auth` must be installed.
        return HttpResponseRedirect(f"{login}?{urlencode({'next': request.get_full_path()})}")

    return _never_kept(guarded)


def programs_only(view: View) -> View:
    """`staff_only` for what no person reads: 403 instead of a page to sign in."""

    @functools.wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if is_staff(request):
            return view(request, *args, **kwargs)
        return JsonResponse({"error": "This is for members of the staff who are signed in."}, status=403)

    return _never_kept(guarded)


def operators_only(view: View) -> View:
    """`staff_only`, and 403 without the permission ``pooling.operate``. With a CSRF token, whatever MIDDLEWARE has."""

    @functools.wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if not may_operate(request):
            raise PermissionDenied
        return view(request, *args, **kwargs)

    return staff_only(csrf_protect(guarded))


def _never_kept(view: View) -> View:
    # Whoever looks why the database is slow opens no transaction on it for that, under ATOMIC_REQUESTS either.
    made: View = never_cache(transaction.non_atomic_requests(view))
    return made

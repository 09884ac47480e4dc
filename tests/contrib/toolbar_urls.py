"""The site with the toolbar's own pages. To be imported only while the toolbar is installed."""

from __future__ import annotations

from django.urls import include, path

from .site import urlpatterns as pages

urlpatterns = [*pages, path("__debug__/", include("debug_toolbar.urls"))]

"""``path("pooling/", include("pooling.urls"))``: the status page, for the staff, and what probes ask."""

from __future__ import annotations

from django.urls import path

from .status import actions, health, views

app_name = "pooling"

urlpatterns = [
    path("", views.status, name="status"),
    path("part/", views.part, name="part"),
    path("status.json", views.as_json, name="json"),
    path("break/", actions.break_, name="break"),
    path("invalidate/", actions.invalidate_, name="invalidate"),
    path("drain/", actions.drain, name="drain"),
    path("health/", health.ready, name="health"),
    path("health/live/", health.live, name="live"),
    path("health/ready/", health.ready, name="ready"),
    path("static/<str:name>", views.asset, name="asset"),
]

"""The routes of a site with the status page and the admin."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [path("ops/pooling/", include("pooling.urls")), path("admin/", admin.site.urls)]

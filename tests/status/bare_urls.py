"""The routes of a site with the status page and no admin."""

from django.urls import include, path

urlpatterns = [path("pooling/", include("pooling.urls"))]

from django.urls import path

from . import views

urlpatterns = [
    path("", views.index, name="lab"),
    path("runs/<str:name>/", views.run, name="lab-run"),
    path("runs/<str:name>/end/", views.end, name="lab-end"),
    path("runs/<str:name>/state/", views.state, name="lab-state"),
]

from django.urls import path

from . import views

urlpatterns = [
    path("", views.events, name="events"),
    path("events/<int:event_id>/", views.event, name="event"),
    path("events/<int:event_id>/checkout/", views.checkout, name="checkout"),
    path("events/<int:event_id>/book/", views.book, name="book"),
    path("orders/<int:order_id>/", views.order, name="order"),
    path("account/", views.account, name="account"),
    path("transfer/", views.transfer, name="transfer"),
    path("report/", views.report, name="report"),
]

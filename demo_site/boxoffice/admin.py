"""The admin writes outside the views that declare groups, so it says afterwards what it has changed."""

from __future__ import annotations

from typing import Any

from django.contrib import admin

from pooling import invalidate

from .models import Account, Event, Order, OrderLine, Seat, Transfer


class Invalidates(admin.ModelAdmin):
    """Drops every cached page about events once the change is committed."""

    def save_model(self, *args: Any, **kwargs: Any) -> None:
        super().save_model(*args, **kwargs)
        invalidate("events")

    def delete_model(self, *args: Any, **kwargs: Any) -> None:
        super().delete_model(*args, **kwargs)
        invalidate("events")

    def delete_queryset(self, *args: Any, **kwargs: Any) -> None:
        super().delete_queryset(*args, **kwargs)
        invalidate("events")


@admin.register(Event)
class EventAdmin(Invalidates):
    list_display = ["title", "venue", "starts_at", "price"]
    search_fields = ["title", "venue"]


@admin.register(Seat)
class SeatAdmin(Invalidates):
    list_display = ["event", "row", "number", "sold"]
    list_filter = ["event", "sold"]
    list_select_related = ["event"]


@admin.register(Account)
class AccountAdmin(admin.ModelAdmin):
    list_display = ["user", "opening", "balance"]
    list_select_related = ["user"]


class OrderLineInline(admin.TabularInline):
    model = OrderLine
    raw_id_fields = ["seat"]
    extra = 0


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    list_display = ["pk", "account", "event", "total", "paid_at"]
    list_select_related = ["account", "event"]
    inlines = [OrderLineInline]


@admin.register(Transfer)
class TransferAdmin(admin.ModelAdmin):
    list_display = ["pk", "source", "target", "amount", "made_at"]
    list_select_related = ["source", "target"]

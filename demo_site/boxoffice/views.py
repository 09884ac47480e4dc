"""The pages. Each says what it reads and writes; the four schemes of the workload all run these same views.

A cached page is the same for everybody: it shows no name and has no CSRF token in it. The seat map is therefore a
GET form that leads to the checkout page, which is made for one visitor and is not cached.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from django.contrib.auth.decorators import login_required
from django.db.models import Count, Q
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

import pooling
from pooling import locked, locked_cache

from . import audit, sales
from .forms import SeatsForm, TransferForm
from .models import Account, Event, Order, Seat, Transfer


def own_account(request: HttpRequest, *args: object, **kwargs: object) -> Iterable[str]:
    """The group of the signed-in visitor's account."""
    return [pooling.group("accounts", request.user.pk)]


@require_GET
@locked_cache(300, reads=["events"])
def events(request: HttpRequest) -> HttpResponse:
    found = Event.objects.annotate(left=Count("seats", filter=Q(seats__sold=False)))
    return render(request, "boxoffice/events.html", {"events": found})


@require_GET
@locked_cache(300, reads=["events/{event_id}"])
def event(request: HttpRequest, event_id: int) -> HttpResponse:
    found = get_object_or_404(Event, pk=event_id)
    seats = list(found.seats.all())
    rows = [(name, list(of_row)) for name, of_row in groupby(seats, key=lambda seat: seat.row)]
    left = sum(not seat.sold for seat in seats)
    return render(request, "boxoffice/event.html", {"event": found, "rows": rows, "left": left})


def _checkout_page(
    request: HttpRequest, event_id: int, seat_ids: list[int], problem: str = "", status: int = 200
) -> HttpResponse:
    found = get_object_or_404(Event, pk=event_id)
    seats = list(Seat.objects.filter(event=found, pk__in=seat_ids))
    taken = [seat.label for seat in seats if seat.sold]
    if not problem and taken:
        problem = f"Already sold: {', '.join(taken)}."
    account = Account.objects.filter(pk=request.user.pk).first()
    context = {
        "event": found,
        "seats": seats,
        "total": found.price * len(seats),
        "account": account,
        "problem": problem,
        "can_buy": bool(seats) and not problem and account is not None,
    }
    return render(request, "boxoffice/checkout.html", context, status=status)


def _first_error(form: SeatsForm) -> str:
    return next(iter(form.errors.values()))[0]


@never_cache
@login_required
@require_GET
def checkout(request: HttpRequest, event_id: int) -> HttpResponse:
    form = SeatsForm(request.GET)
    if not form.is_valid():
        return _checkout_page(request, event_id, [], _first_error(form), status=400)
    return _checkout_page(request, event_id, form.cleaned_data["seats"])


@never_cache
@login_required
@require_POST
@locked(writes=["events/{event_id}", own_account])
def book(request: HttpRequest, event_id: int) -> HttpResponse:
    get_object_or_404(Event, pk=event_id)
    form = SeatsForm(request.POST)
    if not form.is_valid():
        return _checkout_page(request, event_id, [], _first_error(form), status=400)
    try:
        order = sales.book(event_id, request.user.pk, form.cleaned_data["seats"])
    except Account.DoesNotExist:
        return _checkout_page(request, event_id, [], "You have no account to pay from.", status=402)
    except sales.Refused as refusal:
        return _checkout_page(request, event_id, form.cleaned_data["seats"], str(refusal), status=refusal.status)
    return redirect(order)


@never_cache
@login_required
@require_GET
def order(request: HttpRequest, order_id: int) -> HttpResponse:
    found = get_object_or_404(Order.objects.select_related("event"), pk=order_id, account=request.user.pk)
    return render(request, "boxoffice/order.html", {"order": found, "lines": found.lines.select_related("seat")})


@never_cache
@login_required
@require_GET
def account(request: HttpRequest) -> HttpResponse:
    found = Account.objects.filter(pk=request.user.pk).first()
    moves = Transfer.objects.filter(Q(source=request.user.pk) | Q(target=request.user.pk))
    context = {
        "account": found,
        "orders": Order.objects.filter(account=request.user.pk).select_related("event")[:20],
        "moves": moves.select_related("source__user", "target__user")[:20],
    }
    return render(request, "boxoffice/account.html", context)


def _transfer_page(request: HttpRequest, form: TransferForm, problem: str = "", status: int = 200) -> HttpResponse:
    found = Account.objects.filter(pk=request.user.pk).first()
    context = {"form": form, "account": found, "problem": problem}
    return render(request, "boxoffice/transfer.html", context, status=status)


# The groups are made from primary keys that stand in the database, never from what a form sent: "3" and "03" are one
# row, but would be two groups, and two writers of the row would not wait for each other.
@locked(writes=["accounts/{source_id}", "accounts/{target_id}"])
def _make_transfer(request: HttpRequest, form: TransferForm, source_id: int, target_id: int) -> HttpResponse:
    try:
        sales.transfer(source_id, target_id, form.cleaned_data["amount"])
    except Account.DoesNotExist:
        return _transfer_page(request, form, "You have no account to send from.", status=402)
    except sales.Refused as refusal:
        return _transfer_page(request, form, str(refusal), status=refusal.status)
    return HttpResponseRedirect(reverse("account"))


@never_cache
@login_required
@require_http_methods(["GET", "POST"])
def transfer(request: HttpRequest) -> HttpResponse:
    if request.method != "POST":
        return _transfer_page(request, TransferForm(request.user.pk))
    form = TransferForm(request.user.pk, request.POST)
    if not form.is_valid():
        return _transfer_page(request, form, status=400)
    return _make_transfer(request, form, request.user.pk, form.cleaned_data["to"].pk)


@never_cache
@require_GET
@locked(reads=["events", "accounts"])
def report(request: HttpRequest) -> HttpResponse:
    return render(request, "boxoffice/report.html", {"books": audit.books(), "twice": audit.seats_sold_twice()})

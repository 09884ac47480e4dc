from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms

from .models import Account

MOST_SEATS = 6


class SeatsForm(forms.Form):
    """The seats ticked on a seat map: one to six different numbers."""

    seats = forms.TypedMultipleChoiceField(coerce=int, required=False)

    def __init__(self, data: Any) -> None:
        super().__init__(data)
        # Any number is a choice here: whether it is a seat of the event is known only inside the lock.
        self.fields["seats"].valid_value = lambda value: value.isascii() and value.isdigit() and len(value) < 18

    def clean_seats(self) -> list[int]:
        seats = sorted(set(self.cleaned_data["seats"]))
        if not seats:
            raise forms.ValidationError("No seat is chosen. Tick at least one on the seat map.")
        if len(seats) > MOST_SEATS:
            raise forms.ValidationError(f"At most {MOST_SEATS} seats can be booked at once; {len(seats)} were chosen.")
        return seats


class TransferForm(forms.Form):
    to = forms.ModelChoiceField(
        Account.objects.none(),
        label="To",
        empty_label="Choose an account",
        error_messages={
            "required": "Choose who gets the money.",
            "invalid_choice": "There is no such account to send money to.",
        },
    )
    amount = forms.DecimalField(
        label="Amount",
        min_value=Decimal("0.01"),
        max_value=Decimal("1000000"),
        decimal_places=2,
        error_messages={
            "required": "Enter an amount.",
            "invalid": "Enter the amount as a number, for instance 12.50.",
            "min_value": "The amount must be at least 0.01.",
        },
    )

    def __init__(self, user_id: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["to"]
        field.queryset = Account.objects.exclude(pk=user_id).select_related("user").order_by("user__username")
        field.label_from_instance = lambda account: account.user.get_username().capitalize()
        for name, box in self.fields.items():
            if self.errors.get(name):
                box.widget.attrs.update({"aria-invalid": "true", "aria-describedby": f"id_{name}_error"})

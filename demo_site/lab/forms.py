from __future__ import annotations

from typing import Any

from django import forms

from demo_site.client import MIX
from demo_site.lab.plan import MOST_CONNECTIONS, MOST_LATENCY, MOST_SECONDS, MOST_VISITORS, MOST_WEIGHT, Plan, known

_DEFAULTS = Plan()


class PlanForm(forms.Form):
    """A `Plan`, put together by a visitor of the lab."""

    schemes = forms.MultipleChoiceField(
        label="Schemes",
        widget=forms.CheckboxSelectMultiple,
        initial=list(_DEFAULTS.schemes),
        error_messages={"required": "Choose at least one scheme."},
    )
    visitors = forms.IntegerField(
        label=f"Visitors, and threads of the site (1 to {MOST_VISITORS})",
        min_value=1,
        max_value=MOST_VISITORS,
        initial=_DEFAULTS.visitors,
    )
    connections = forms.IntegerField(
        label=f"Connections that a pool may use (1 to {MOST_CONNECTIONS})",
        min_value=1,
        max_value=MOST_CONNECTIONS,
        initial=_DEFAULTS.connections,
    )
    latency = forms.FloatField(
        label=f"Milliseconds added per round trip (0 to {MOST_LATENCY:g})",
        min_value=0,
        max_value=int(MOST_LATENCY),
        initial=f"{_DEFAULTS.latency:g}",
    )
    seconds = forms.FloatField(
        label=f"Seconds for each scheme (1 to {MOST_SECONDS:g})",
        min_value=1,
        max_value=int(MOST_SECONDS),
        initial=f"{_DEFAULTS.seconds:g}",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = self.fields["schemes"]
        assert isinstance(choices, forms.MultipleChoiceField)
        choices.choices = list(known().items())
        for name, weight in MIX.items():
            self.fields[f"mix_{name}"] = forms.IntegerField(
                label=name, min_value=0, max_value=MOST_WEIGHT, initial=weight
            )
        for name in self.fields:  # a screen reader hears of the error with the field
            if self.is_bound and name in self.errors:
                self.fields[name].widget.attrs["aria-describedby"] = f"id_{name}_error"

    @property
    def mix(self) -> list[Any]:
        return [self[name] for name in self.fields if name.startswith("mix_")]

    @property
    def numbers(self) -> list[Any]:
        return [self[name] for name in ("visitors", "connections", "latency", "seconds")]

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if not self.errors:
            try:
                data["plan"] = Plan(
                    schemes=tuple(data["schemes"]),
                    visitors=data["visitors"],
                    connections=data["connections"],
                    latency=data["latency"],
                    seconds=data["seconds"],
                    mix={name: data[f"mix_{name}"] for name in MIX},
                )
            except ValueError as error:
                raise forms.ValidationError(str(error)) from None
        return data

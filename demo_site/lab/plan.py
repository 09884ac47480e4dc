"""What a run of the lab does: which schemes, how many visitors, which mix of pages, how far away the database is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from demo_site.client import MIX
from demo_site.schemes import CONNECTIONS, SCHEMES, others

MOST_VISITORS = 128
MOST_CONNECTIONS = 64
MOST_SECONDS = 60.0
MOST_LATENCY = 50.0  # milliseconds
MOST_WEIGHT = 1000


def known() -> dict[str, str]:
    """The schemes that can be run here, by name, with their titles: the demo's own, and others that are installed."""
    return {name: scheme.title for name, scheme in {**SCHEMES, **others()}.items()}


@dataclass(frozen=True)
class Plan:
    """``seconds`` for each scheme; ``latency`` is added to each round trip to the database, in milliseconds;
    ``connections`` is what a pool may have; ``mix`` gives each kind of visit a weight. ValueError says what is wrong.
    """

    schemes: tuple[str, ...] = tuple(SCHEMES)
    visitors: int = 32
    connections: int = CONNECTIONS
    seconds: float = 5.0
    latency: float = 0.0
    mix: Mapping[str, int] = field(default_factory=lambda: dict(MIX))

    def __post_init__(self) -> None:
        titles = known()
        if not self.schemes:
            raise ValueError("Choose at least one scheme.")
        for name in self.schemes:
            if name not in titles:
                raise ValueError(f"There is no scheme {name!r} here. Choose from {', '.join(titles)}.")
        if len(set(self.schemes)) < len(self.schemes):
            raise ValueError(f"Name each scheme once, not {', '.join(self.schemes)}.")
        _within("visitors", self.visitors, 1, MOST_VISITORS, whole=True)
        _within("connections", self.connections, 1, MOST_CONNECTIONS, whole=True)
        _within("seconds", self.seconds, 1, MOST_SECONDS)
        _within("latency", self.latency, 0, MOST_LATENCY)
        for name, weight in self.mix.items():
            if name not in MIX:
                raise ValueError(f"There is no kind of visit {name!r}. Choose from {', '.join(MIX)}.")
            _within(f"the weight of {name!r}", weight, 0, MOST_WEIGHT, whole=True)
        if not any(self.mix.values()):
            raise ValueError("Give at least one kind of visit a weight above 0.")

    @classmethod
    def parse_mix(cls, text: str) -> dict[str, int]:
        """From ``seats=40,book=10``; what is not named has no weight."""
        mix = {}
        for part in text.split(","):
            name, _, weight = part.strip().partition("=")
            if not weight.isascii() or not weight.isdigit():
                raise ValueError(f"A mix is written seats=40,book=10, not {text!r}.")
            mix[name] = int(weight)
        return mix

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(**{**data, "schemes": tuple(data["schemes"])})


def _within(name: str, value: float, least: float, most: float, *, whole: bool = False) -> None:
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not least <= value <= most:
        raise ValueError(
            f"{name} must be a {'whole ' if whole else ''}number from {least:g} to {most:g}, not {value!r}."
        )

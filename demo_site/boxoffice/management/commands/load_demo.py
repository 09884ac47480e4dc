from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from demo_site import people
from demo_site.boxoffice import demo_data
from demo_site.boxoffice.models import Account, Event, Seat


class Command(BaseCommand):
    help = "Adds the demo's events, seats, people and accounts where they are missing; changes nothing that is there."

    def handle(self, *args: Any, **options: Any) -> None:
        demo_data.load()
        self.stdout.write(
            f"{Event.objects.count()} events with {Seat.objects.count()} seats, {Account.objects.count()} accounts. "
            f"Sign in as {', '.join(people.PEOPLE[:3])}, … with the password {people.PASSWORD!r}, "
            f"or as {people.BOSS}, who may see the status page and the admin."
        )

"""Which tables a model stands for, and what the checks say of those that nobody sees."""

# ruff: noqa: DJ008 - nobody prints them
from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, models
from django.test.utils import isolate_apps

from pooling import checks, sources
from tests.app.models import Note
from tests.backend.conftest import ask


@isolate_apps("tests.app")
def test_the_tables_of_a_model() -> None:
    class Tag(models.Model):
        class Meta:
            app_label = "app"

    class Item(models.Model):
        tags = models.ManyToManyField(Tag)

        class Meta:
            app_label = "app"
            db_table = "things"

    class Book(Item):
        class Meta:
            app_label = "app"

    class Cheap(Book):
        class Meta:
            app_label = "app"
            proxy = True

    class Line(models.Model):
        book = models.ForeignKey(Book, models.CASCADE)
        shelf = models.ForeignKey("Shelf", models.CASCADE)

        class Meta:
            app_label = "app"

    class Shelf(models.Model):
        books = models.ManyToManyField(Book, through=Line, related_name="+")

        class Meta:
            app_label = "app"
            db_table = "`other`.`shelf`"

    assert sources.tables_of(Tag) == {"app_tag", "things_tags"}
    assert sources.tables_of(Item) == {"things", "things_tags"}
    assert sources.tables_of(Book) == {"app_book", "things", "things_tags", "app_line"}
    assert sources.tables_of(Cheap) == sources.tables_of(Book)
    assert sources.tables_of(Line) == {"app_line"}
    assert sources.tables_of(Shelf) == {"shelf", "app_line"}


@isolate_apps("tests.app")
def test_deletions_that_the_database_carries_on() -> None:
    class InTheDatabase:
        """As Django 6.1's DB_CASCADE, in every Django."""

        __name__ = "DB_CASCADE"

        def __call__(self, *args: Any) -> None:
            """Nothing is collected."""

        def on_delete_sql(self, schema_editor: Any) -> str:
            return "ON DELETE CASCADE"

    class Shop(models.Model):
        class Meta:
            app_label = "app"

    class Aisle(models.Model):
        shop = models.ForeignKey(Shop, InTheDatabase())  # type: ignore[arg-type]

        class Meta:
            app_label = "app"

    class Can(models.Model):
        aisle = models.ForeignKey(Aisle, InTheDatabase())  # type: ignore[arg-type]
        maker = models.ForeignKey(Note, models.CASCADE)

        class Meta:
            app_label = "app"

    assert sources.tables_of(Can) == {"app_can", "app_aisle", "app_shop"}


def test_a_table_of_several_groups() -> None:
    found = sources.mapping({"a": ["app.Note"], "b/c": ["app.Note", "app.Account"]})
    assert found == {"app_note": ("a", "b/c"), "app_account": ("b/c",)}


@pytest.mark.parametrize("label", ["app.Nota", "Note", "nowhere.Note", "app.Note.text"])
def test_an_unknown_model_is_named_with_the_nearest(label: str, settings: Any) -> None:
    settings.POOLING = {"GROUPS": {"notes": [label]}}
    with pytest.raises(ImproperlyConfigured, match=r"POOLING\['GROUPS'\]\['notes'\] names .* Did you mean 'app.Note'"):
        sources.Sources().tables  # noqa: B018
    assert [message.id for message in checks.check_settings(None)] == ["pooling.E001"]
    assert checks.check_sources(None) == []


@pytest.mark.django_db(transaction=True)
def test_with_an_unknown_model_writes_fail_rather_than_leave_pages_stale(settings: Any, make: Any) -> None:
    settings.POOLING = {"GROUPS": {"notes": ["app.Nota"]}}
    assert Note.objects.count() == 0
    assert ask(make({"max_size": 1}), "SELECT 1") == ((1,),)  # on a connection that is made now
    with pytest.raises(ImproperlyConfigured, match=r"app\.Note"):
        Note.objects.create()


def test_a_model_on_another_backend_is_a_warning(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.check_sources(None) == []

    class Router:
        def db_for_write(self, model: Any, **hints: Any) -> str | None:
            return "elsewhere" if model is Note else None

    lite = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    monkeypatch.setitem(connections.settings, "elsewhere", {**connections.settings["default"], **lite, "OPTIONS": {}})
    settings.DATABASE_ROUTERS = [Router()]
    [message] = checks.check_sources(None)
    assert message.id == "pooling.W020"
    assert "app.Note" in message.msg
    assert "'elsewhere'" in message.msg
    settings.POOLING = {}
    assert checks.check_sources(None) == []

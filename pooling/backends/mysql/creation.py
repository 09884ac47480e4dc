"""Test databases: no pool may keep connections to a database that is being created, cloned or dropped."""

from __future__ import annotations

from typing import Any

from django.db.backends.mysql import creation

from .options import credentials_of


class DatabaseCreation(creation.DatabaseCreation):
    """Django's own, closing the pools of the database concerned first."""

    connection: Any

    def _close_pools(self, *names: str | None) -> None:
        self.connection.close()
        for name in names:
            self.connection._close_pools_of(name)

    def _create_test_db(self, verbosity: int, autoclobber: bool, keepdb: bool = False) -> Any:
        self._close_pools(self.connection.settings_dict["NAME"], self._get_test_db_name())  # type: ignore[attr-defined]
        return super()._create_test_db(verbosity, autoclobber, keepdb)  # type: ignore[misc]

    def _clone_test_db(self, suffix: str, verbosity: int, keepdb: bool = False) -> None:
        # The workers are forked after this: they should not inherit connections that they can only throw away.
        self._close_pools(self.connection.settings_dict["NAME"], self.get_test_db_clone_settings(suffix)["NAME"])
        super()._clone_test_db(suffix, verbosity, keepdb)  # type: ignore[misc]

    def _clone_db(self, source_database_name: str, target_database_name: str) -> None:
        # Django's own takes what its programs connect with from the settings alone.
        settings = self.connection.settings_dict
        options = settings["OPTIONS"]
        settings["OPTIONS"] = {**options, **credentials_of(settings)}
        try:
            super()._clone_db(source_database_name, target_database_name)  # type: ignore[misc]
        finally:
            settings["OPTIONS"] = options

    def _destroy_test_db(self, test_database_name: str, verbosity: int) -> None:
        self._close_pools(test_database_name)
        super()._destroy_test_db(test_database_name, verbosity)  # type: ignore[misc]

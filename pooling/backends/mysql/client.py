"""Django's own ``DatabaseClient``, which starts ``dbshell``, with the credentials of now."""

from __future__ import annotations

from typing import Any

from django.db.backends.mysql import client

from .options import credentials_of

__all__ = ["DatabaseClient"]


class DatabaseClient(client.DatabaseClient):
    @classmethod
    def settings_to_cmd_args_env(cls, settings_dict: dict[str, Any], parameters: Any) -> Any:
        options = {**settings_dict["OPTIONS"], **credentials_of(settings_dict)}  # OPTIONS win over USER and PASSWORD
        return super().settings_to_cmd_args_env({**settings_dict, "OPTIONS": options}, parameters)

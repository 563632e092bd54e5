"""The composition root of the HTTP side: `python -m producer_api` serves, its commands are for operators."""

from __future__ import annotations

import argparse
import json
import os
import sys

from producer_api.commands import parser
from producer_api.parts import procfile, table_as_json
from producer_api.settings import ApiSettings
from schemas.errors import FaultError, StartError
from schemas.variables import unknown_variables
from storage import versions
from storage.catalog import read_catalog
from storage.database import Database
from storage.settings import StorageSettings
from tasks.logs import configure_logs, get_logger
from tasks.settings import TaskSettings

log = get_logger(__name__)


def main() -> int:
    """Do what the command line says; a refusal is one sentence and exit code 1."""
    arguments = parser().parse_args()
    configure_logs("api")
    try:
        status = _run(arguments)
        sys.stdout.flush()
    except (StartError, FaultError) as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader left, as `head` does; what is still held would be written at the exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def _run(arguments: argparse.Namespace) -> int:
    if arguments.command == "openapi":
        from producer_api.app import route_app  # noqa: PLC0415 - takes a second, which the other commands do not need

        print(json.dumps(route_app().openapi(), indent=1))
        return 0
    storage = StorageSettings.read(os.environ)
    if arguments.command == "parts":
        _check_ages(ApiSettings.read(os.environ), TaskSettings.read(os.environ))  # before any part fails by them
        catalog = read_catalog(storage.catalog)
        json_table = table_as_json(catalog, unknown_variables(os.environ))
        print(procfile(catalog) if arguments.procfile else json_table, end="")
        return 0
    if arguments.command == "serve":
        _serve(_api_settings(arguments), storage)
        return 0
    database = Database(storage.database_url)
    database.wait_until_ready(storage.database_wait_seconds, log.warning)
    if arguments.command == "migrate":
        print(f"The database has schema version {versions.migrate(database)}.")
        return 0
    versions.check(database)
    print(arguments.run(database, arguments))
    return 0


def _api_settings(arguments: argparse.Namespace) -> ApiSettings:
    given = {"STOKER_API_HOST": arguments.host, "STOKER_API_PORT": arguments.port}
    return ApiSettings.read({**os.environ, **{name: str(value) for name, value in given.items() if value is not None}})


def _serve(settings: ApiSettings, storage: StorageSettings) -> None:
    from producer_api.app import create_app  # noqa: PLC0415 - as above
    from producer_api.server import serve  # noqa: PLC0415 - as above
    from producer_api.services import open_services  # noqa: PLC0415 - as above
    from tasks.dispatch import declare_queues  # noqa: PLC0415 - as above
    from tasks.safety import load_checkers  # noqa: PLC0415 - as above

    task_settings = TaskSettings.read(os.environ)
    _check_ages(settings, task_settings)
    if settings.parent_fd is None and (remark := unknown_variables(os.environ)):  # else the supervisor says it
        log.warning(remark)
    catalog = read_catalog(storage.catalog)
    load_checkers(catalog)
    database = Database(storage.database_url)
    database.wait_until_ready(storage.database_wait_seconds, log.warning)
    versions.check(database)
    declare_queues(database, catalog)
    serve(create_app(open_services(settings, task_settings, storage, catalog, database)), settings)


def _check_ages(settings: ApiSettings, task_settings: TaskSettings) -> None:
    """Refuse a sweep that would take what is still being uploaded: it has no row before it is whole."""
    if task_settings.orphan_age_seconds <= settings.upload_seconds:
        raise StartError(
            f"STOKER_ORPHAN_AGE_SECONDS ({task_settings.orphan_age_seconds:g}) must be more than "
            f"STOKER_UPLOAD_SECONDS ({settings.upload_seconds:g}), or uploads would be swept while they are under "
            "way. Raise the one or lower the other, then start again."
        )


if __name__ == "__main__":
    sys.exit(main())

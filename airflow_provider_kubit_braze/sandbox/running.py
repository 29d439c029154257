"""A sandbox that runs in another process: where it is says the environment, with the variables that it has printed.

Whatever leads elsewhere is refused, for what is done in a sandbox must not happen to anybody's real data.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final

import requests

from airflow_provider_kubit_braze.sandbox.braze_control import BrazeControl
from airflow_provider_kubit_braze.sandbox.connections import SNOWFLAKE_ACCOUNT
from airflow_provider_kubit_braze.sandbox.process import SandboxError

if TYPE_CHECKING:
    from snowflake.connector import SnowflakeConnection

_SNOWFLAKE: Final = "AIRFLOW_CONN_SNOWFLAKE_DEFAULT"
_BRAZE: Final = "AIRFLOW_CONN_KUBIT_BRAZE_DEFAULT"


def _connection_of(variable: str) -> dict[str, Any]:
    """Return a connection that ``kubit-braze sandbox`` has printed; any other is none of ours to write to."""
    try:
        found = json.loads(os.environ.get(variable, ""))
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise SandboxError(
            f"{variable} does not say where the sandbox is: paste the lines that kubit-braze sandbox has printed."
        )
    return found


def local_snowflake() -> SnowflakeConnection:
    """Return a connection to the local Snowflake; whoever asks for it closes it.

    :raises SandboxError: when the environment names none, or another Snowflake, or it does not answer.
    """
    import snowflake.connector

    found = _connection_of(_SNOWFLAKE)
    given = found.get("extra")
    extra: dict[str, Any] = given if isinstance(given, dict) else {}
    is_local = extra.get("host") in ("127.0.0.1", "localhost")
    if not is_local or extra.get("account") != SNOWFLAKE_ACCOUNT:
        raise SandboxError(
            f"{_SNOWFLAKE} leads to a Snowflake that is not the sandbox's, and made-up rows are written nowhere else: "
            "paste the lines that kubit-braze sandbox has printed."
        )
    try:
        return snowflake.connector.connect(
            user=found["login"],
            password=found["password"],
            account=extra["account"],
            host=extra["host"],
            port=extra["port"],
            database=extra["database"],
            schema=found["schema"],
            login_timeout=20,
        )
    except snowflake.connector.errors.Error as error:
        raise SandboxError(
            f"The local Snowflake does not answer ({type(error).__name__}): start kubit-braze sandbox, and paste all "
            "lines that it prints."
        ) from None


def local_braze() -> tuple[BrazeControl, str]:
    """Return the local Braze, and its key.

    :raises SandboxError: when the environment names none, or it does not answer.
    """
    found = _connection_of(_BRAZE)
    braze = BrazeControl(str(found.get("host")))
    try:
        is_local = braze.health()
    # Whatever else is there has no such page, or answers with something else.
    except (requests.RequestException, SandboxError, ValueError, KeyError, TypeError):
        is_local = False
    if not is_local:
        raise SandboxError(
            f"{_BRAZE} leads to no local Braze: start kubit-braze sandbox, and paste all lines that it prints."
        )
    return braze, str(found.get("password"))

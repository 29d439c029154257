"""The Airflow connections that lead to the local services, as environment variables."""

from __future__ import annotations

import json

#: The local services.
SERVICES = ("snowflake", "braze", "mailbox")

#: What the connections log in with. The local Snowflake takes any password unless told otherwise.
SNOWFLAKE_USER = "fake"
SNOWFLAKE_PASSWORD = "snow"  # noqa: S105  (opens nothing but the sandbox)
SNOWFLAKE_ACCOUNT = "fakesnow"
DATABASE = "DEMO"
SCHEMA = "PUBLIC"
MAIL_SENDER = "kubit-braze@example.com"


def snowflake_connection(*, host: str, port: int) -> dict[str, str]:
    """Return ``AIRFLOW_CONN_SNOWFLAKE_DEFAULT``.

    There are no ``session_parameters`` in it: with them the provider believes that AUTOCOMMIT is set, and a
    failed run is not rolled back.
    """
    connection = {
        "conn_type": "snowflake",
        "login": SNOWFLAKE_USER,
        "password": SNOWFLAKE_PASSWORD,
        "schema": SCHEMA,
        "extra": {"account": SNOWFLAKE_ACCOUNT, "database": DATABASE, "host": host, "port": port},
    }
    return {"AIRFLOW_CONN_SNOWFLAKE_DEFAULT": json.dumps(connection)}


def braze_connection(*, url: str) -> dict[str, str]:
    """Return ``AIRFLOW_CONN_KUBIT_BRAZE_DEFAULT``, with a key that holds every permission."""
    from airflow_provider_kubit_braze.sandbox.braze_settings import DEFAULT_REST_KEY

    connection = {"conn_type": "kubit_braze", "host": url, "password": DEFAULT_REST_KEY}
    return {"AIRFLOW_CONN_KUBIT_BRAZE_DEFAULT": json.dumps(connection)}


def smtp_connection(*, host: str, port: int) -> dict[str, str]:
    """Return ``AIRFLOW_CONN_SMTP_DEFAULT``."""
    connection = {
        "conn_type": "smtp",
        "host": host,
        "port": port,
        "extra": {"disable_ssl": True, "disable_tls": True, "from_email": MAIL_SENDER},
    }
    return {"AIRFLOW_CONN_SMTP_DEFAULT": json.dumps(connection)}

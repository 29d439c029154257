"""The Airflow connection ``kubit_braze``."""

from __future__ import annotations

import json
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseHook, mask_secret

from airflow_provider_kubit_braze.braze.client import BrazeClient
from airflow_provider_kubit_braze.core.braze_settings import BrazeSettings
from airflow_provider_kubit_braze.core.connection_fields import Refuse
from airflow_provider_kubit_braze.exceptions import KubitBrazeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.providers.common.compat.sdk import Connection


class BrazeHook(BaseHook):
    """Turn an Airflow connection into settings and a client.

    .. code-block:: python

        hook = BrazeHook("kubit_braze_default")
        found = hook.get_conn().export_ids(external_ids=["user-1"], fields_to_export=["external_id"])

    Nothing is read or sent before a method is called.

    :param braze_conn_id: a connection of type ``kubit_braze``.
    """

    conn_name_attr = "braze_conn_id"
    default_conn_name = "kubit_braze_default"
    conn_type = "kubit_braze"
    hook_name = "Kubit Braze"

    def __init__(self, braze_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.braze_conn_id = braze_conn_id

    @cached_property
    def settings(self) -> BrazeSettings:
        """The connection, read and checked once. Its keys are masked in Airflow's logs from here on.

        :raises BrazeSettingsError: when the connection is filled in wrongly.
        """
        connection = self.get_connection(self.braze_conn_id)
        extra = _extra(connection, self.braze_conn_id)
        for key in (connection.password, extra.get("client_secret"), extra.get("partner_api_key")):
            if isinstance(key, str) and key:
                mask_secret(key)
        settings = BrazeSettings.from_connection(
            self.braze_conn_id,
            connection.host,
            connection.password,
            extra,
            port=connection.port,
            schema=connection.schema,
        )
        for warning in settings.warnings:
            self.log.warning("Connection %s: %s", self.braze_conn_id, warning)
        return settings

    @cached_property
    def client(self) -> BrazeClient:
        """The client for single calls."""
        return BrazeClient(self.settings)

    def get_conn(self) -> BrazeClient:
        """Return the client for single calls."""
        return self.client

    def test_connection(self) -> tuple[bool, str]:
        """Ask Braze, without changing anything, what the connection's keys can do.

        :return: whether imports can work, and a sentence for each thing found out.
        """
        try:
            settings = self.settings
            with BrazeClient(settings) as client:
                findings = client.check()
        except KubitBrazeError as error:
            return False, str(error)
        problems = [finding for finding in findings if finding.level == "problem"]
        return not problems, " ".join(
            [*(finding.text for finding in problems or findings), *settings.warnings]
        )

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return the form's labels for Airflow 2.11 to 3.1; later ones read them from the provider info."""
        from airflow_provider_kubit_braze.get_provider_info import UI_FIELD_BEHAVIOUR

        return {name.replace("-", "_"): value for name, value in UI_FIELD_BEHAVIOUR.items()}

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's fields for Airflow 2.11 to 3.1; later ones read them from the provider info."""
        # Only the Airflow versions that call this bring these libraries.
        look = import_module("flask_appbuilder.fieldwidgets")
        wtforms = import_module("wtforms")

        from airflow_provider_kubit_braze.get_provider_info import CONN_FIELDS

        def widget(label: str, description: str, schema: Mapping[str, Any]) -> Any:
            texts = {"label": label, "description": description}
            if schema.get("format") == "password":
                return wtforms.PasswordField(**texts, widget=look.BS3PasswordFieldWidget())
            if "boolean" in schema["type"]:
                return wtforms.BooleanField(**texts)
            if "integer" in schema["type"]:
                optional = wtforms.validators.Optional()
                return wtforms.IntegerField(**texts, widget=look.BS3TextFieldWidget(), validators=[optional])
            # Airflow's old form has no field for fractions; the text is read as a number later.
            return wtforms.StringField(**texts, widget=look.BS3TextFieldWidget())

        return {name: widget(**field) for name, field in CONN_FIELDS.items()}


def _extra(connection: Connection, conn_id: str) -> dict[str, Any]:
    # Airflow's extra_dejson answers {} for broken JSON: limits and keys would be dropped without a word.
    if not connection.extra:
        return {}
    try:
        extra = json.loads(connection.extra)
    except ValueError:
        extra = None
    if not isinstance(extra, dict):
        Refuse(conn_id).because("extra", "is not a JSON object", 'write it as {"name": value, ...}')
    return extra

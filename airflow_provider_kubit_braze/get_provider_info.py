"""What Airflow reads to discover this provider, at each start: nothing may be imported here."""

from __future__ import annotations

from typing import Any

# A wrong name here stops every command of Airflow: it has to be the distribution's name.
PACKAGE_NAME = "airflow-provider-kubit-braze"

_INTEGRATION = "Kubit Braze"
_PACKAGE = "airflow_provider_kubit_braze"

# The names say secret and api_key because Airflow masks the values of an extra by the names.
# Defaults are described, not set: a form would store them, and bulk changes one of them.
CONN_FIELDS: dict[str, dict[str, Any]] = {
    "max_objects_per_request": {
        "label": "Users per request",
        "description": "Empty for 75 (1000 with bulk); 50 on contracts by monthly active users.",
        "schema": {"type": ["integer", "null"], "minimum": 1, "maximum": 1000},
    },
    "max_requests": {
        "label": "Requests per window",
        "description": "Rate limit of the workspace. Empty for Braze's 3000 per 3 seconds (50 per 1 with bulk).",
        "schema": {"type": ["integer", "null"], "minimum": 1},
    },
    "per_seconds": {
        "label": "Window in seconds",
        "description": "Length of the rate window. Empty for 3 (1 with bulk).",
        "schema": {"type": ["number", "null"], "minimum": 0},
    },
    "reserve": {
        "label": "Reserve",
        "description": "Share of the rate limit left to other traffic, from 0 to below 1. Empty for 0.1.",
        "schema": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
    },
    "max_in_flight": {
        "label": "Requests in flight",
        "description": "Requests under way at the same time. Empty for 400.",
        "schema": {"type": ["integer", "null"], "minimum": 1, "maximum": 1000},
    },
    "timeout": {
        "label": "Timeout in seconds",
        "description": "How long to wait for an answer. Empty for 30.",
        "schema": {"type": ["number", "null"], "minimum": 0, "maximum": 600},
    },
    "bulk": {
        "label": "Bulk endpoint",
        "description": "Use /users/track/bulk, where Braze has enabled it; the key needs users.track.bulk.",
        "schema": {"type": ["boolean", "null"]},
    },
    "lookups_per_minute": {
        "label": "Look-ups per minute",
        "description": (
            "Rate limit of /users/export/ids, for verify and match. Empty for Braze's 250; more where Braze has "
            "raised it."
        ),
        "schema": {"type": ["integer", "null"], "minimum": 1, "maximum": 2400},
    },
    "client_secret": {
        "label": "Data Import Key",
        "description": "Only for deliver_as: partner_cohort. From the partner's page in the Braze dashboard.",
        "schema": {"type": ["string", "null"], "format": "password"},
    },
    "partner_api_key": {
        "label": "Partner API key",
        "description": "Only for deliver_as: partner_cohort. Issued by Braze to the partner.",
        "schema": {"type": ["string", "null"], "format": "password"},
    },
    "partner": {
        "label": "Partner",
        "description": "The partner's name in the path of the cohort endpoints. Empty for kubit.",
        "schema": {"type": ["string", "null"]},
    },
    "workspace": {
        "label": "Workspace",
        "description": (
            "Name under which the membership ledger is kept. Empty for <host>/<connection id>; give it when "
            "several connections lead to one workspace."
        ),
        "schema": {"type": ["string", "null"]},
    },
}

UI_FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["login", "port", "schema"],
    "relabeling": {"host": "Braze REST endpoint", "password": "REST API key"},
    "placeholders": {"host": "https://rest.iad-01.braze.com"},
}

_ASSET_URIS = [{"schemes": ["braze"], "handler": f"{_PACKAGE}.assets.sanitize_uri"}]


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description; entry point ``apache_airflow_provider``."""
    return {
        "package-name": PACKAGE_NAME,
        "name": "Kubit Braze",
        "description": "Import cohorts from Snowflake into `Braze <https://www.braze.com/>`__.\n",
        "integrations": [
            {
                "integration-name": _INTEGRATION,
                "external-doc-url": "https://www.braze.com/docs/",
                "tags": ["service"],
            }
        ],
        "connection-types": [
            {
                "connection-type": "kubit_braze",
                "hook-class-name": f"{_PACKAGE}.hooks.braze.BrazeHook",
                "hook-name": "Kubit Braze",
                "ui-field-behaviour": UI_FIELD_BEHAVIOUR,
                "conn-fields": CONN_FIELDS,
            }
        ],
        "hooks": [{"integration-name": _INTEGRATION, "python-modules": [f"{_PACKAGE}.hooks.braze"]}],
        "operators": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": [
                    f"{_PACKAGE}.operators.cohort_impact",
                    f"{_PACKAGE}.operators.cohort_to_braze",
                    f"{_PACKAGE}.operators.trigger_campaign",
                ],
            }
        ],
        "sensors": [
            {"integration-name": _INTEGRATION, "python-modules": [f"{_PACKAGE}.sensors.snowflake_cohort"]}
        ],
        "triggers": [
            {
                "integration-name": _INTEGRATION,
                "python-modules": [f"{_PACKAGE}.triggers.snowflake_cohort", f"{_PACKAGE}.triggers.wait"],
            }
        ],
        "asset-uris": _ASSET_URIS,
        # The same under the name that Airflow 2 reads.
        "dataset-uris": _ASSET_URIS,
        "config": {
            "kubit_braze": {
                "description": "Import of cohorts into Braze.",
                "options": {
                    "state_schema": {
                        "description": (
                            "Snowflake schema of the tables that remember who is in Braze, in the database "
                            "of the Snowflake connection, or DATABASE.SCHEMA."
                        ),
                        "version_added": "0.1.0",
                        "type": "string",
                        "example": "MARKETING_STATE",
                        "default": "KUBIT_BRAZE",
                    }
                },
            }
        },
    }

"""Where in Braze the members are marked, and how."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, WithJsonSchema

from airflow_provider_kubit_braze.core.part import Part, show
from airflow_provider_kubit_braze.core.source import ConnId
from airflow_provider_kubit_braze.exceptions import CohortConfigError

ATTRIBUTE_MAX_LENGTH = 255
"""Longest name of a custom attribute, in characters (Braze docs, "Custom data", data types)."""

RESERVED_ATTRIBUTES = frozenset(
    {
        "alias_label",
        "alias_name",
        "braze_id",
        "country",
        "current_location",
        "date_of_first_session",
        "date_of_last_session",
        "dob",
        "email",
        "email_click_tracking_disabled",
        "email_open_tracking_disabled",
        "email_subscribe",
        "external_id",
        "facebook",
        "first_name",
        "gender",
        "home_city",
        "language",
        "last_name",
        "marked_email_as_spam_at",
        "phone",
        "push_subscribe",
        "push_token_import",
        "push_tokens",
        "subscription_groups",
        "time_zone",
        "twitter",
        "user_alias",
    }
)
"""Names that mean something to Braze already: profile fields and control keys.

Source: Braze docs, "User attributes object".
"""


def parse_attribute(value: str) -> str:
    """Check the name of the attribute that marks the members.

    :param value: the name.
    :raises CohortConfigError: when Braze would refuse it, drop it or take it for a field of its own.
    """
    fix = "choose a name of your own, such as kubit_cohort_power_users"
    if not value or value != value.strip() or not value.isprintable():
        raise CohortConfigError(
            f"the attribute name {show(value)} is blank, has blanks around it, or more than one line",
            fix=fix,
        )
    if len(value) > ATTRIBUTE_MAX_LENGTH:
        raise CohortConfigError(
            f"the attribute name {show(value)} is {len(value)} characters long, over {ATTRIBUTE_MAX_LENGTH}",
            fix="choose a shorter name",
        )
    if value[0] in "_$":
        raise CohortConfigError(
            f"the attribute name {show(value)} begins with {value[0]}, as Braze's control keys do", fix=fix
        )
    if value.lower() in RESERVED_ATTRIBUTES:
        raise CohortConfigError(f"the attribute name {show(value)} is reserved by Braze", fix=fix)
    return value


def _supported(value: str) -> str:
    if value == "partner_cohort":
        raise CohortConfigError(
            "deliver_as: partner_cohort is not supported yet", fix="write attribute, or remove the key"
        )
    return value


def _read_on_exit(value: Any) -> Any:
    """YAML's own false is what people write for the value false; both mean the same."""
    return "false" if value is False else value


class BrazeTarget(Part):
    """Where in Braze the members are marked, and how.

    :param conn_id: Airflow connection to Braze.
    :param deliver_as: ``attribute``: a boolean attribute of the user's profile. ``partner_cohort`` is refused
        for now.
    :param attribute: name of the attribute; None means ``kubit_cohort_<id>``.
    :param on_exit: what the attribute becomes when a user leaves: ``"false"``, or ``unset`` to remove it.
    :param create_users: whether Braze creates profiles for unknown users.
    """

    conn_id: ConnId = Field(default="kubit_braze_default", description="Airflow connection to Braze.")
    deliver_as: Annotated[
        Literal["attribute", "partner_cohort"],
        AfterValidator(_supported),
        WithJsonSchema({"enum": ["attribute"]}),
    ] = Field(default="attribute", description="How members are marked in Braze.")
    attribute: (
        Annotated[
            str,
            AfterValidator(parse_attribute),
            Field(
                json_schema_extra={
                    "minLength": 1,
                    "maxLength": ATTRIBUTE_MAX_LENGTH,
                    "pattern": r"^[^\s_$](.*\S)?$",
                    "not": {"enum": sorted(RESERVED_ATTRIBUTES)},
                }
            ),
        ]
        | None
    ) = Field(
        default=None, description="Attribute that is true while in the cohort; default kubit_cohort_<id>."
    )
    on_exit: Annotated[
        Literal["false", "unset"],
        BeforeValidator(_read_on_exit),
        WithJsonSchema({"enum": ["false", "unset", False]}),
    ] = Field(default="false", description="What the attribute becomes when a user leaves.")
    create_users: StrictBool = Field(default=False, description="Let Braze create unknown users.")

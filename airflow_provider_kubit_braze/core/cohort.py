"""What a cohort is: the one definition behind a cohort file, a DAG and an import."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    WithJsonSchema,
    model_validator,
)

from airflow_provider_kubit_braze.core.braze_target import BrazeTarget
from airflow_provider_kubit_braze.core.cohort_schema import file_schema
from airflow_provider_kubit_braze.core.identifiers import Identifier, Identifiers
from airflow_provider_kubit_braze.core.impact.question import CohortImpact, ImpactField, with_defaults
from airflow_provider_kubit_braze.core.limits import Limit, LimitField, Share, ShareField
from airflow_provider_kubit_braze.core.mail import NotifyWhen
from airflow_provider_kubit_braze.core.part import Part, all_of_cohort, one_or_all, show
from airflow_provider_kubit_braze.core.schedule import Schedule
from airflow_provider_kubit_braze.core.shards import MOST_SHARDS
from airflow_provider_kubit_braze.core.source import Ready, Source, SqlFile
from airflow_provider_kubit_braze.core.verify_options import Match, MatchField, Verify, VerifyField
from airflow_provider_kubit_braze.exceptions import CohortConfigError

if TYPE_CHECKING:
    from fractions import Fraction

__all__ = [
    "BrazeTarget",
    "Cohort",
    "Guards",
    "Identifier",
    "Identifiers",
    "Limit",
    "Ready",
    "Schedule",
    "Share",
    "Source",
    "SqlFile",
    "Verify",
    "cohort_json_schema",
]

ID_PATTERN = "[a-z][a-z0-9_]{0,62}"
"""What a cohort's id looks like; with the prefixes it stays well inside Airflow's and Braze's own limits."""

NAME_MAX_LENGTH = 200
"""Longest name for people, in characters: it has to fit a mail's subject line."""

# Defaults as an author would write them: the fields read them, and the JSON Schema shows them.
_MAX_REMOVED: Any = "30%"
_MAX_REJECTED: Any = "1%"
_HOLDOUT: Any = "0%"

_ADDRESS = r"[^@\s]+@[^@\s]+"

# Braze's cohort import names users by these (Braze docs, "Partner cohort import": user_ids, aliases, device_ids).
_COHORT_KINDS = ("external_id", "user_alias", "device_id")

# The JSON Schema's words for what the validators below refuse.
_IS_PARTNER_COHORT = {
    "required": ["braze"],
    "properties": {
        "braze": {"required": ["deliver_as"], "properties": {"deliver_as": {"const": "partner_cohort"}}}
    },
}
_CREATES_USERS = {
    "required": ["braze"],
    "properties": {"braze": {"required": ["create_users"], "properties": {"create_users": {"const": True}}}},
}
_COMBINATIONS: list[Any] = [
    {
        "if": _IS_PARTNER_COHORT,
        "then": {"properties": {"identifiers": {"propertyNames": {"enum": list(_COHORT_KINDS)}}}},
        "else": {"properties": {"identifiers": {"properties": {"device_id": False}}}},
    },
    {"if": _IS_PARTNER_COHORT, "then": {"properties": {"shards": {"const": 1}}}},
    {"if": _CREATES_USERS, "then": {"properties": {"match": {"enum": ["off", False]}}}},
]


def check_cohort_id(value: object) -> str:
    """Return a cohort's id.

    :raises CohortConfigError: when it is none.
    """
    if isinstance(value, str) and re.fullmatch(ID_PATTERN, value):
        return value
    better = re.sub(r"[^a-z0-9]+", "_", str(value).lower()).strip("_")[:63].strip("_")
    fix = "write at most 63 lower-case letters, digits and underscores, a letter first"
    if re.fullmatch(ID_PATTERN, better):
        fix = f"{fix}, such as {better}"
    raise CohortConfigError(f"{show(value)} is not a cohort id", fix=fix)


def _check_name(value: str) -> str:
    if not value.strip() or not value.isprintable() or len(value) > NAME_MAX_LENGTH:
        raise CohortConfigError(
            f"the name {show(value)} is blank, over {NAME_MAX_LENGTH} characters or more than one line",
            fix="write a short name for people, or remove the key",
        )
    return value.strip()


def _read_addresses(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        raise CohortConfigError(f"{show(value)} is not a list", fix=f"write a list: [{value}]")
    if not isinstance(value, list | tuple):
        raise CohortConfigError(f"{show(value)} is not a list", fix="write a list of e-mail addresses, or []")
    wrong = [
        CohortConfigError(
            f"{show(one)} is not an e-mail address", fix="write an address such as growth@example.com"
        )
        for one in value
        if not (isinstance(one, str) and re.fullmatch(_ADDRESS, one))
    ]
    if wrong:
        raise one_or_all(wrong)
    return tuple(dict.fromkeys(value))


def _read_shards(value: object) -> int:
    if type(value) is not int or not 1 <= value <= MOST_SHARDS:
        raise CohortConfigError(
            f"{show(value)} is no number of shards", fix=f"write a whole number from 1 to {MOST_SHARDS}"
        )
    return value


class Guards(Part):
    """What stops an import, or fails it afterwards.

    :param allow_empty: whether an empty cohort may be imported, which removes everybody.
    :param max_removed: most users to remove, of those now in Braze; None for no limit.
    :param max_added: most users to add, of those now in Braze; None for no limit.
    :param max_data_points: most attribute writes one import may plan; None for no limit.
    :param max_rejected: most changes that Braze may fail to accept, of those sent; None for no limit.
    """

    allow_empty: StrictBool = Field(default=False, description="Let an empty cohort be imported.")
    max_removed: LimitField | None = Field(
        default=_MAX_REMOVED, description="Most users to remove, of those now in Braze: a share or a number."
    )
    max_added: LimitField | None = Field(
        default=None, description="Most users to add, of those now in Braze: a share or a number."
    )
    max_data_points: Annotated[StrictInt, Field(ge=0)] | None = Field(
        default=None, description="Most attribute writes one import may plan."
    )
    max_rejected: LimitField | None = Field(
        default=_MAX_REJECTED,
        description="Most changes Braze may fail to accept, of those sent: a share or a number.",
    )


class Cohort(Part):
    """A cohort: who is in it, how Braze is told, and when.

    .. code-block:: python

        Cohort(
            id="power_users",
            source={"table": "ANALYTICS.KUBIT.POWER_USERS"},
            identifiers={"external_id": "USER_ID"},
            schedule={"mode": "weekly", "on": "monday", "at": "09:00", "timezone": "America/New_York"},
        )

    :param id: lower-case letters, digits and underscores, a letter first, at most 63.
    :param name: the name for people; by default made of the id.
    :param source: where the members come from.
    :param identifiers: which columns name a user, in order.
    :param schedule: when the cohort is imported; None for a DAG that only people or other DAGs start.
    :param notify: e-mail addresses that hear how imports end.
    :param notify_when: which ends they hear of: ``always``, ``success``, ``change`` or ``failure``.
    :param braze: how members are marked in Braze.
    :param guards: what stops an import.
    :param holdout: the exact share of members that is kept from Braze, such as ``"10%"``.
    :param verify: how a sample of every import is read back from Braze; None: not at all. True: the defaults.
    :param match: how many of those who enter are looked up before they are sent or held out, so that users whom Braze
        does not know are found instead of vanishing.
    :param shards: tasks that deliver an import beside each other, 1 to 64; with 1 the task that plans also delivers.
    :param impact: how what campaigns did to the cohort is measured each day; None: not at all. True: the defaults.
    :raises CohortConfigError: when anything is wrong; it names the cohort, the field, the value and the fix.
    """

    model_config = ConfigDict(title="Cohort", json_schema_extra={"allOf": _COMBINATIONS})

    id: Annotated[
        str, AfterValidator(check_cohort_id), Field(json_schema_extra={"pattern": f"^{ID_PATTERN}$"})
    ] = Field(
        description="Lower-case letters, digits, underscores; the DAG is kubit_braze__<id>.",
        examples=["power_users"],
    )
    name: Annotated[
        str,
        AfterValidator(_check_name),
        WithJsonSchema({"type": ["string", "null"], "pattern": r"\S", "maxLength": NAME_MAX_LENGTH}),
    ] = Field(default_factory=str, description="Name shown to people; made of the id by default.")
    source: Source = Field(
        description="Where the members come from.", examples=[{"table": "DATABASE.SCHEMA.TABLE"}]
    )
    identifiers: Identifiers = Field(
        description="Columns that name the user, in order.", examples=[{"external_id": "USER_ID"}]
    )
    schedule: Schedule | None = Field(default=None, description="When the cohort is imported; none: by hand.")
    notify: Annotated[
        tuple[str, ...],
        BeforeValidator(_read_addresses),
        WithJsonSchema({"type": "array", "items": {"type": "string", "pattern": f"^{_ADDRESS}$"}}),
    ] = Field(default=(), description="Who is mailed when an import ends.")
    notify_when: NotifyWhen = Field(
        default="always",
        description="Which ends are mailed: always, success, change (and whatever needs a look), failure.",
    )
    braze: BrazeTarget = Field(default_factory=BrazeTarget, description="How members are marked in Braze.")
    guards: Guards = Field(default_factory=Guards, description="What stops an import.")
    holdout: ShareField = Field(default=_HOLDOUT, description="Share of members that is kept from Braze.")
    verify: VerifyField = Field(default=None, description="Read a sample of every import back from Braze.")
    match: MatchField = Field(
        default="off",
        description="How many of those who enter are looked up before they are sent or held out.",
    )
    shards: Annotated[
        int,
        BeforeValidator(_read_shards),
        WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MOST_SHARDS}),
    ] = Field(default=1, description="Tasks that deliver an import beside each other.")
    impact: ImpactField = Field(
        default=None, description="Measure each day what campaigns did to the cohort."
    )

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            id: str,
            source: Source | Mapping[str, Any],
            identifiers: Identifiers | Mapping[str, Any],
            name: str | None = None,
            schedule: Schedule | Mapping[str, Any] | None = None,
            notify: Sequence[str] = (),
            notify_when: NotifyWhen = "always",
            braze: BrazeTarget | Mapping[str, Any] = ...,
            guards: Guards | Mapping[str, Any] = ...,
            holdout: Fraction | str | int = 0,
            verify: Verify | Mapping[str, Any] | bool | None = None,
            match: Match = "off",
            shards: int = 1,
            impact: CohortImpact | Mapping[str, Any] | bool | None = None,
        ) -> None: ...

    else:

        def __init__(self, /, **data: Any) -> None:
            try:
                super().__init__(**data)
            except CohortConfigError as error:
                raise all_of_cohort(error, data.get("id")) from None

    @model_validator(mode="before")
    @classmethod
    def _name_from_id(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("name") is None:
            return {**data, "name": str(data.get("id")).replace("_", " ").strip().capitalize() or "Unnamed"}
        return data

    @model_validator(mode="before")
    @classmethod
    def _impact_knows_the_share(cls, data: Any) -> Any:
        return with_defaults(data) if isinstance(data, Mapping) else data

    @model_validator(mode="after")
    def _the_identifiers_suit_the_delivery(self) -> Cohort:
        if self.braze.deliver_as == "partner_cohort":
            problems = [
                CohortConfigError(
                    f"{kind} does not name users with deliver_as: partner_cohort",
                    fix="use external_id, user_alias or device_id, or write deliver_as: attribute",
                    field=f"identifiers.{kind}",
                )
                for kind in self.identifiers.kinds
                if kind not in _COHORT_KINDS
            ]
            if problems:
                raise one_or_all(problems)
        elif "device_id" in self.identifiers.kinds:
            raise CohortConfigError(
                "device_id names users only with deliver_as: partner_cohort",
                fix="use external_id, braze_id, email, phone or user_alias",
                field="identifiers.device_id",
            )
        return self

    @model_validator(mode="after")
    def _criteria_return_the_identifiers(self) -> Cohort:
        criteria = self.source.criteria
        if criteria is not None:
            problems = [
                CohortConfigError(
                    f"criteria return {', '.join(criteria.columns)} and not {one.column}",
                    fix=f"name the column that user names, or write keep: [{one.column}] beside it",
                    field=f"identifiers.{one.kind}",
                )
                for one in self.identifiers
                if one.stored_name not in criteria.columns
            ]
            if problems:
                raise one_or_all(problems)
        return self

    @model_validator(mode="after")
    def _unknown_users_are_found_or_created(self) -> Cohort:
        if self.match != "off" and self.braze.create_users:
            raise CohortConfigError(
                f"match: {self.match} looks for users whom Braze does not know, and braze.create_users: true creates "
                "them",
                fix="remove one of the two",
                field="match",
            )
        return self

    @model_validator(mode="after")
    def _shards_do_not_wait_for_each_other(self) -> Cohort:
        if self.shards > 1 and self.braze.deliver_as == "partner_cohort":
            raise CohortConfigError(
                f"shards: {self.shards} cannot deliver a partner cohort, which Braze locks while it changes",
                fix="remove shards, or write deliver_as: attribute",
                field="shards",
            )
        return self

    @property
    def dag_id(self) -> str:
        """The id of the cohort's DAG."""
        return f"kubit_braze__{self.id}"

    @property
    def impact_dag_id(self) -> str:
        """The id of the DAG that measures what campaigns did to the cohort."""
        return f"kubit_braze_impact__{self.id}"

    @property
    def attribute(self) -> str:
        """The attribute that is true in Braze while a user is in the cohort, unless it is a partner cohort."""
        return self.braze.attribute or f"kubit_cohort_{self.id}"


def cohort_json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a cohort file, for editors to complete and check."""
    return file_schema(Cohort)

"""The profile views of Braze's data share: which of them there are, and what their columns are called.

Braze documents the views in "User profile attributes"
(https://www.braze.com/docs/partners/data_and_analytics/data_warehouses/snowflake/user_attributes; source in
braze-inc/braze-docs, ``_docs/_partners/data_and_analytics/data_warehouses/snowflake/user_attributes.md``). Documented:
every view has APP_GROUP_ID, USER_ID (the ``braze_id``), TIME (seconds of the profile's last change) and SF_UPDATED_AT;
the default attributes' views name the user, the custom attributes' views hold CUSTOM_ATTRIBUTES, a VARIANT or OBJECT.
Earlier versions of the page call the names EXTERNAL_ID, EMAIL and PHONE, the present one EXTERNAL_USER_ID,
EMAIL_ADDRESS and PHONE_NUMBER, so which of them a share has is read from the share. No version has aliases or device
ids, and partner cohorts are in no view.

Assumed, because no page tells: that the views may hold several versions of a user (the latest counts), that somebody
without custom attributes may have no row among them, and that Braze takes no change for a profile that is ARCHIVED.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from airflow_provider_kubit_braze.exceptions import SourceError, StatementBrokenOffError
from airflow_provider_kubit_braze.warehouse.session import (
    first_line,
    is_contention,
    is_passing,
    is_refusal,
    split_name,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_kubit_braze.warehouse.session import Session

log = logging.getLogger(__name__)

# The freshest first, with how old its rows may be.
_DEFAULT_VIEWS: Final = (
    ("USER_LATEST_STATE_DEFAULT_ATTRIBUTES_VIEW_SHARED", timedelta(minutes=10)),
    ("USER_DEFAULT_ATTRIBUTES_VIEW_SHARED", timedelta(hours=12)),
)
# Braze writes ATTRIBUTE here, not ATTRIBUTES.
_CUSTOM_VIEWS: Final = (
    ("USER_LATEST_STATE_CUSTOM_ATTRIBUTE_VIEW_SHARED", timedelta(minutes=10)),
    ("USER_CUSTOM_ATTRIBUTES_VIEW_SHARED", timedelta(hours=12)),
)

#: The views, by what they are for: of each at least one has to be there.
PROFILE_VIEWS: Final = {
    "who is known": tuple(name for name, _ in _DEFAULT_VIEWS),
    "custom attributes": tuple(name for name, _ in _CUSTOM_VIEWS),
}

_EXTERNAL: Final = ("EXTERNAL_USER_ID", "EXTERNAL_ID")
_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "external_id": _EXTERNAL,
    "braze_id": ("USER_ID",),
    "email": ("EMAIL_ADDRESS", "EMAIL"),
    "phone": ("PHONE_NUMBER", "PHONE"),
}
_RECENCY: Final = ("TIME", "TIME_MS", "SF_UPDATED_AT")
_DEFAULT_NEEDS: Final = (("APP_GROUP_ID",), ("USER_ID",), _EXTERNAL, _RECENCY)
_CUSTOM_NEEDS: Final = (("APP_GROUP_ID",), ("USER_ID",), ("CUSTOM_ATTRIBUTES",), _RECENCY)


@dataclass(frozen=True)
class View:
    """One view of the share.

    :param name: its qualified name, for a statement with parameters.
    :param columns: the columns it has.
    :param delay: how old its rows may be.
    """

    name: str
    columns: frozenset[str]
    delay: timedelta

    def column(self, names: Sequence[str]) -> str | None:
        """Return the first of ``names`` that the view has, quoted."""
        return next((f'"{name}"' for name in names if name in self.columns), None)

    def latest(self) -> str:
        """Number the versions of each user, the latest as 1."""
        order = ", ".join(f'"{name}" DESC NULLS LAST' for name in _RECENCY if name in self.columns)
        return f'ROW_NUMBER() OVER (PARTITION BY "USER_ID" ORDER BY {order})'


class ShareViews:
    """The views of one workspace.

    :param session: a session whose role may read the share.
    :param share: the schema with the views, such as ``BRAZE_SHARE.PUBLIC``.
    :param app_group_id: the workspace's rows in the share; all others are somebody else's.
    :param of_impact: whether the share is that of ``impact``, which can do without the views, and not of ``braze``.
    :raises SourceError: when ``share`` is no name.
    """

    def __init__(self, session: Session, *, share: str, app_group_id: str, of_impact: bool = False) -> None:
        self._of_impact = of_impact
        key = "impact.source" if of_impact else "braze.share"
        try:
            parts = split_name(share)
        except ValueError:
            parts = []
        if not 1 <= len(parts) <= 2:
            raise SourceError(
                f"{key} is {share!r}, which is not a schema; write DATABASE.SCHEMA, such as BRAZE_SHARE.PUBLIC."
            )
        self._session = session
        self._share = share
        self._database = parts[0] if len(parts) == 2 else None
        self.app_group_id = app_group_id
        self._default: View | None = None
        self._custom: View | None = None

    def has(self, kind: str) -> bool:
        """Whether the share names users by this kind of identifier."""
        return kind in _NAMES and self.people().column(_NAMES[kind]) is not None

    def names(self, kinds: Sequence[str]) -> tuple[str, list[str]]:
        """Return the WITH clauses of ``names``: everybody's KIND, WHO and PROFILE, as the latest version has them."""
        view = self.people()
        columns = {kind: view.column(_NAMES[kind]) for kind in kinds}
        wanted = "".join(f", {column} AS {kind.upper()}" for kind, column in columns.items())
        archived = '"ARCHIVED"' if "ARCHIVED" in view.columns else "FALSE"
        each = " UNION ALL ".join(
            f"SELECT '{kind}' AS KIND, {kind.upper()} AS WHO, PROFILE FROM profiles "
            f"WHERE {kind.upper()} IS NOT NULL AND NOT COALESCE(GONE, FALSE)"
            for kind in kinds
        )
        sql = (
            f'profiles AS (SELECT "USER_ID" AS PROFILE, {archived} AS GONE{wanted} FROM {view.name} '
            f'WHERE "APP_GROUP_ID" = %s QUALIFY {view.latest()} = 1),\nnames AS ({each})'
        )
        return sql, [self.app_group_id]

    def people(self) -> View:
        """Return the view that names the users.

        :raises SourceError: when there is none, it lacks a column, or has nobody of the workspace.
        """
        if self._default is None:
            view = self._find(_DEFAULT_VIEWS, _DEFAULT_NEEDS)
            # With the wrong id, nobody at all would seem to be known.
            if not self.ask(
                f'SELECT 1 FROM {view.name} WHERE "APP_GROUP_ID" = %s LIMIT 1', (self.app_group_id,)
            ):
                raise SourceError(
                    f"Braze's data share {self._share} has no profile of app group {self.app_group_id!r} in "
                    f"{_bare(view)}{self._so}; write the workspace's APP_GROUP_ID, as any of its rows in the share has "
                    f"it, into {'impact' if self._of_impact else 'braze'}.app_group_id."
                )
            self._default = view
        return self._default

    def attributes(self) -> View:
        """Return the view with the custom attributes.

        :raises SourceError: when there is none, or it lacks a column.
        """
        if self._custom is None:
            self._custom = self._find(_CUSTOM_VIEWS, _CUSTOM_NEEDS)
        return self._custom

    def _find(self, candidates: Sequence[tuple[str, timedelta]], needs: Sequence[Sequence[str]]) -> View:
        """Return the freshest of the views that is there.

        :raises SourceError: when none is, or what is there lacks a column.
        """
        said = ""
        for name, delay in candidates:
            try:
                cursor = self._session.execute(f"SELECT * FROM {self._share}.{name} LIMIT 0")
            except Exception as error:
                if not is_refusal(error):
                    raise
                if is_passing(error):
                    raise self._broken_off(error) from None
                said = first_line(error)
                continue
            # All other statements have parameters, so that a percent sign in a quoted name is written twice.
            qualified = f"{self._share}.{name}".replace("%", "%%")
            view = View(qualified, frozenset(column.name for column in cursor.description), delay)
            missing = [" or ".join(names) for names in needs if view.column(names) is None]
            if missing:
                fix = self._so or ", so leave braze.share out until this package knows the new ones"
                raise SourceError(
                    f"View {name} of Braze's data share {self._share} has no column {', '.join(missing)}; Braze must "
                    f"have changed its views{fix}."
                )
            log.info("Braze's data share: %s, up to %s old.", name, delay)
            return view
        role = self._session.connection.role or "<ROLE>"
        database = self._database or self._session.connection.database or "<DATABASE>"
        grant = f"let an administrator run GRANT IMPORTED PRIVILEGES ON DATABASE {database} TO ROLE {role}"
        raise SourceError(
            f"Braze's data share {self._share} has no view {' or '.join(name for name, _ in candidates)} that role "
            f"{role} may read (Snowflake: {said}){self._so}; have Braze add the user profile views to the share"
            f"{' or ' if self._of_impact else ', '}{grant}"
            f"{'.' if self._of_impact else ', or take braze.share out of the cohort.'}"
        )

    def ask(self, sql: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Return the rows of a statement about the share.

        :raises SourceError: when Snowflake refuses it.
        :raises StatementBrokenOffError: when Snowflake could not do it now.
        """
        try:
            return self._session.rows(sql, params)
        except Exception as error:
            if not is_refusal(error) or is_contention(error):
                raise
            if is_passing(error):
                raise self._broken_off(error) from None
            raise SourceError(
                f"Snowflake refuses to read Braze's data share {self._share}: {first_line(error)}"
            ) from None

    @property
    def _so(self) -> str:
        """What follows for whoever can do without the views."""
        return ", so users are found by external id and braze_id only" if self._of_impact else ""

    def _broken_off(self, error: Exception) -> StatementBrokenOffError:
        return StatementBrokenOffError(
            f"Braze's data share {self._share} could not be read; Snowflake says: {first_line(error)}"
        )


def _bare(view: View) -> str:
    return view.name.rsplit(".", 1)[1]

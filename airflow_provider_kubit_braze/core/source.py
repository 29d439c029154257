"""Where a cohort's members come from: a table, a query or criteria in Snowflake, and when it counts as ready."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)

from airflow_provider_kubit_braze.core.criteria.definition import Criteria
from airflow_provider_kubit_braze.core.durations import DurationField
from airflow_provider_kubit_braze.core.identifiers import TableField, parse_column
from airflow_provider_kubit_braze.core.part import Part, show
from airflow_provider_kubit_braze.core.sql_text import single_query
from airflow_provider_kubit_braze.exceptions import CohortConfigError

_WAYS = ("table", "sql", "sql_file", "criteria")


@dataclass(frozen=True)
class SqlFile:
    """A query kept in a file of its own, read once.

    :param path: the path as its author wrote it.
    :param text: what the file holds.
    """

    path: str
    text: str

    @classmethod
    def read(cls, path: str, *, folder: Path | None = None) -> SqlFile:
        """Read a file.

        :param path: absolute, or relative to the folder.
        :param folder: where relative paths start; without it they are refused, since nobody chooses a DAG's
            working directory.
        :raises CohortConfigError: when the file is not there, or is not one query in UTF-8.
        """
        if folder is None and not Path(path).is_absolute():
            raise CohortConfigError(
                f"{path!r} is a relative path", fix=f"write str(Path(__file__).parent / {path!r}), or use sql"
            )
        where = Path(path) if folder is None else folder / path
        try:
            text = where.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise CohortConfigError(f"{path!r} is not UTF-8 text", fix="save it as UTF-8") from None
        except OSError as error:
            raise CohortConfigError(
                f"{path!r} cannot be read ({error.strerror or error})",
                fix="correct the path, which starts at the cohort file's folder unless it is absolute",
            ) from None
        try:
            single_query(text)
        except CohortConfigError as error:
            raise CohortConfigError(f"in {path!r} {error.problem}", fix=error.fix) from None
        return cls(path, text)


@dataclass(frozen=True)
class SqlFileIn:
    """A ``sql_file`` that is still to be read, and the folder its path starts at.

    :param folder: the cohort file's folder.
    :param path: the path as its author wrote it.
    """

    folder: Path
    path: str


def _read_sql_file(value: object) -> SqlFile:
    if isinstance(value, SqlFile):
        return value
    if isinstance(value, SqlFileIn) and value.path.strip():
        return SqlFile.read(value.path, folder=value.folder)
    if isinstance(value, str | Path) and str(value).strip():
        return SqlFile.read(str(value))
    value = value.path if isinstance(value, SqlFileIn) else value
    raise CohortConfigError(f"{show(value)} is not a path", fix="write the path of one .sql file")


def parse_query(value: str) -> str:
    """Check that the text is one query and return the text as written.

    :param value: SQL.
    :raises CohortConfigError: when it is not exactly one query.
    """
    single_query(value)
    return value


def parse_conn_id(value: str) -> str:
    """Check the id of an Airflow connection.

    :param value: the id.
    :raises CohortConfigError: when it is empty or holds blanks.
    """
    if not value or any(c.isspace() for c in value):
        raise CohortConfigError(
            f"{show(value)} is not a connection id", fix="write the id of an Airflow connection"
        )
    return value


ConnId = Annotated[str, AfterValidator(parse_conn_id), Field(json_schema_extra={"pattern": r"^\S+$"})]
"""The id of an Airflow connection as a field of a cohort."""


class Ready(Part):
    """When the source counts as ready: the newest value of a column is young enough.

    :param column: a column of the source with the time its rows were computed; with criteria, a column of the table
        they are over, such as the time of its events.
    :param within: how old the newest value may be when the run is due, such as ``26h``.
    """

    column: Annotated[str, PlainValidator(parse_column), WithJsonSchema({"type": "string"})] = Field(
        description="Column with the time the rows were computed.", examples=["COMPUTED_AT"]
    )
    within: DurationField = Field(
        description="How old the newest value may be: minutes, hours or days.", examples=["26h"]
    )


class Source(Part):
    """Where the members come from. Exactly one of ``table``, ``sql``, ``sql_file`` and ``criteria`` is set.

    :param conn_id: Airflow connection to Snowflake.
    :param table: a table or view.
    :param sql: one query.
    :param sql_file: path of a file that holds one query; in a cohort file relative to it, in Python absolute.
    :param criteria: conditions over a table of events or users.
    :param ready: what the sensor waits for besides the source's existence; with criteria, of the table they are over.
    """

    model_config = ConfigDict(json_schema_extra={"oneOf": [{"required": [way]} for way in _WAYS]})

    conn_id: ConnId = Field(default="snowflake_default", description="Airflow connection to Snowflake.")
    table: TableField | None = Field(
        default=None, description="Table or view that holds the members.", examples=["DB.SCHEMA.TABLE"]
    )
    sql: Annotated[str, AfterValidator(parse_query)] | None = Field(
        default=None, description="One query that returns the members."
    )
    sql_file: (
        Annotated[
            SqlFile,
            PlainValidator(_read_sql_file),
            PlainSerializer(lambda file: file.path, return_type=str),
            WithJsonSchema({"type": "string", "pattern": r"\S"}),
        ]
        | None
    ) = Field(default=None, description="File with one query, relative to the cohort file.")
    criteria: Criteria | None = Field(default=None, description="Who is in, said in conditions.")
    ready: Ready | None = Field(default=None, description="What the sensor waits for.")

    @model_validator(mode="after")
    def _exactly_one(self) -> Source:
        given = [way for way in _WAYS if getattr(self, way) is not None]
        if not given:
            raise CohortConfigError("no source is named", fix="add one of table, sql, sql_file or criteria")
        if len(given) > 1:
            raise CohortConfigError(f"{' and '.join(given)} are both given", fix="keep one of them")
        return self

    @property
    def select(self) -> str:
        """The query that returns the members: one statement that may stand in parentheses."""
        if self.table is not None:
            return f"SELECT * FROM {self.table}"
        if self.criteria is not None:
            return single_query(self.criteria.sql())
        return single_query(self.sql or (self.sql_file.text if self.sql_file else ""))

    @property
    def way(self) -> str:
        """Which of ``table``, ``sql``, ``sql_file`` and ``criteria`` is set."""
        return next(way for way in _WAYS if getattr(self, way) is not None)

    @property
    def watched_table(self) -> str | None:
        """The table whose column tells when the source is ready, or None when the query itself returns it."""
        return self.table if self.criteria is None else self.criteria.from_

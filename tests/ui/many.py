"""Five hundred cohorts with thirty imports each, written into Airflow's database beside those that are there.

Parsing and importing so many would take an hour. What Airflow's API tells of them is the same: each row is a copy of a
real one, with another name and another time.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

COHORTS, IMPORTS = 500, 30
PREFIX = "kubit_braze__many_"

_MODEL = "kubit_braze__repeat_buyers"
#: Neither the scheduler nor the DAG processor has anything to do with them until then.
_FAR = "2099-01-01 00:00:00.000000"


def add_many(database: Path) -> None:
    """Write them.

    :param database: Airflow's SQLite file; Airflow may be running.
    """
    with closing(sqlite3.connect(database, timeout=60)) as connection, connection:
        connection.row_factory = sqlite3.Row
        dag = _model(connection, "dag", "dag_id = ?", _MODEL)
        asset = _model(connection, "asset", "name = ?", "braze_cohort_repeat_buyers")
        run = _model(connection, "dag_run", "dag_id = ? AND state = 'success'", _MODEL)
        event = _model(connection, "asset_event", "source_dag_id = ?", _MODEL)
        (last_asset,) = connection.execute("SELECT MAX(id) FROM asset").fetchone()
        names = [f"{PREFIX}{number:03}" for number in range(COHORTS)]
        far = {
            "last_parsed_time": _FAR,
            "next_dagrun": _FAR,
            "next_dagrun_create_after": _FAR,
            "is_paused": 0,
        }
        _insert(
            connection,
            "dag",
            ({**dag, **far, "dag_id": name, "dag_display_name": f"Cohort {name[-3:]}"} for name in names),
        )
        _insert(connection, "dag_tag", ({"name": "kubit-braze", "dag_id": name} for name in names))
        _insert(
            connection,
            "dag_tag",
            ({"name": f"cohort:{name.removeprefix('kubit_braze__')}", "dag_id": name} for name in names),
        )
        assets = {name: last_asset + 1 + number for number, name in enumerate(names)}
        _insert(
            connection,
            "asset",
            (
                {
                    **asset,
                    "id": key,
                    "name": f"braze_cohort_{name[13:]}",
                    "uri": f"braze://x/cohort/{name[13:]}",
                }
                for name, key in assets.items()
            ),
        )
        # Not all at one time of day, and every tenth cohort's last import has failed.
        moments = [
            (name, number, back, datetime.now(UTC) - timedelta(days=back, minutes=number + 5))
            for number, name in enumerate(names)
            for back in range(IMPORTS)
        ]
        _insert(connection, "dag_run", (_run_of(run, *one) for one in moments))
        _insert(
            connection,
            "asset_event",
            (_event_of(event, assets[one[0]], *one) for one in moments if not _failed(one[1], one[2])),
        )


def _failed(number: int, back: int) -> bool:
    return back == 0 and number % 10 == 0


def _run_of(run: dict[str, Any], name: str, number: int, back: int, moment: datetime) -> dict[str, Any]:
    at = f"{moment:%Y-%m-%d %H:%M:%S.%f}"
    times = dict.fromkeys(("logical_date", "start_date", "end_date", "run_after", "data_interval_start"), at)
    state = "failed" if _failed(number, back) else "success"
    return {**run, **times, "id": None, "dag_id": name, "run_id": f"run__{back}", "state": state}


def _event_of(
    event: dict[str, Any], asset: int, name: str, number: int, back: int, moment: datetime
) -> dict[str, Any]:
    result = {
        **json.loads(event["extra"]),
        "cohort_id": name.removeprefix("kubit_braze__"),
        "run_id": f"run__{back}",
        "users_imported": 10_000 + 37 * (IMPORTS - back) + number,
        "started_at": moment.isoformat(),
    }
    return {
        **event,
        "id": None,
        "asset_id": asset,
        "extra": json.dumps(result),
        "source_dag_id": name,
        "source_run_id": f"run__{back}",
        "timestamp": f"{moment:%Y-%m-%d %H:%M:%S.%f}",
    }


def _model(connection: sqlite3.Connection, table: str, where: str, value: str) -> dict[str, Any]:
    row = connection.execute(f"SELECT * FROM {table} WHERE {where} LIMIT 1", (value,)).fetchone()
    return dict(row)


def _insert(connection: sqlite3.Connection, table: str, rows: Iterable[dict[str, Any]]) -> None:
    listed = list(rows)
    columns = list(listed[0])
    names = ", ".join(f'"{column}"' for column in columns)
    marks = ", ".join("?" * len(columns))
    connection.executemany(
        f"INSERT INTO {table} ({names}) VALUES ({marks})",
        [tuple(row[name] for name in columns) for row in listed],
    )

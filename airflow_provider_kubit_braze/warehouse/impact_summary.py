"""``IMPACT_SUMMARY``: what a measurement found, for whoever asks Snowflake."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_provider_kubit_braze.core.impact.report import ALL
from airflow_provider_kubit_braze.core.impact.tellings import FUNNEL
from airflow_provider_kubit_braze.warehouse.impact_sql import KEY
from airflow_provider_kubit_braze.warehouse.stays import chunks, utc_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_provider_kubit_braze.core.impact.findings import Effect, Judgement
    from airflow_provider_kubit_braze.core.impact.report import Figures, ImpactReport, MessageImpact
    from airflow_provider_kubit_braze.warehouse.session import Session
    from airflow_provider_kubit_braze.warehouse.state import Tables

_DATES = ("FIRST_DAY", "LAST_DAY")


def keep_summary(
    session: Session, tables: Tables, report: ImpactReport, *, key: tuple[str, str], fence: Callable[[], None]
) -> None:
    """Write a report in place of the one before of the same measure and messages.

    A row with CHANNEL and VARIATION_ID ``all`` is about a whole message, and alone says how it was judged; with several
    control groups there are several.

    :param key: workspace and cohort.
    :param fence: the last statement of the transaction: raises when somebody else measures the same by now.
    """
    about = (*key, report.question.measure, report.question.messages)
    rows = [
        {
            **dict(zip(("WORKSPACE", "COHORT_ID", "MEASURE", "MESSAGES"), about, strict=True)),
            "FIRST_DAY": report.since.isoformat(),
            "LAST_DAY": report.until.isoformat(),
            "MEASURED_AT": utc_text(report.measured_at),
            "RUN_ID": report.run_id,
            **row,
        }
        for message in report.messages
        for row in _rows(message)
    ]

    def work() -> None:
        session.execute(f"DELETE FROM {tables.impact_summary} WHERE {KEY} AND MESSAGES = %s", about)
        columns = list(dict.fromkeys(name for row in rows for name in row))
        values = ", ".join(_value(name) for name in columns)
        for some in chunks(rows):
            session.execute(
                f"INSERT INTO {tables.impact_summary} ({', '.join(columns)}) "
                + " UNION ALL ".join([f"SELECT {values}"] * len(some)),
                [row.get(name) for row in some for name in columns],
            )
        fence()

    session.transact(work)


def _value(column: str) -> str:
    if column in _DATES:
        return "CAST(%s AS DATE)"
    return "CAST(%s AS TIMESTAMP_NTZ)" if column == "MEASURED_AT" else "%s"


def _rows(message: MessageImpact) -> Iterator[dict[str, Any]]:
    whole = {"KIND": message.kind, "MESSAGE_ID": message.id, "NAME": message.name, "CURRENCY": "USD"}
    of_message = {**whole, "CHANNEL": ALL, "VARIATION_ID": ALL, **_figures(message.figures)}
    for judgement in message.judgements or (None,):
        yield {**of_message, **(_judgement(judgement) if judgement else {})}
    for part in message.channels:
        yield {**whole, "CHANNEL": part.channel, "VARIATION_ID": ALL, **_figures(part.figures)}
    for part in message.variations:
        yield {
            **whole,
            "NAME": part.name or message.name,
            "CHANNEL": part.channel,
            "VARIATION_ID": part.variation,
            **_figures(part.figures),
        }


def _figures(figures: Figures) -> dict[str, Any]:
    return {figure.upper(): figures[figure] for figure in FUNNEL}


def _judgement(judgement: Judgement) -> dict[str, Any]:
    found: dict[str, Any] = {
        "CONTROL_KIND": judgement.control_kind,
        "CONTROL_ID": judgement.control_id,
        "TREATED_USERS": judgement.treated_users,
        "CONTROL_USERS": judgement.control_users,
        **_effect("CONVERSION", judgement.conversion),
    }
    if judgement.revenue:
        found |= {"REVENUE_CURRENCY": judgement.revenue.currency, **_effect("REVENUE", judgement.revenue)}
    return found


def _effect(measure: str, effect: Effect) -> dict[str, Any]:
    lift = effect.intervals.lift if effect.intervals else None
    return {
        f"{measure}_TREATED": effect.treated,
        f"{measure}_CONTROL": effect.control,
        # Groups that cannot be compared have a lift all the same, which says nothing of the message.
        f"{measure}_LIFT": effect.lift if lift else None,
        f"{measure}_LIFT_LOW": lift.low if lift else None,
        f"{measure}_LIFT_HIGH": lift.high if lift else None,
        f"{measure}_VERDICT": effect.verdict.value,
        f"{measure}_SENTENCE": effect.sentence,
    }

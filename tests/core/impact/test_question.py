from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from airflow_provider_kubit_braze.core.cohort import Cohort
from airflow_provider_kubit_braze.core.impact.question import ImpactQuestion
from airflow_provider_kubit_braze.exceptions import CohortConfigError

SHARE = {"source": "BRAZE_SHARE.PUBLIC", "app_group_id": "growth"}


def question(**fields: Any) -> ImpactQuestion:
    return ImpactQuestion(**{**SHARE, **fields})


def cohort(**fields: Any) -> Cohort:
    return Cohort(
        **{"id": "vip", "source": {"table": "A.B.C"}, "identifiers": {"external_id": "ID"}, **fields}
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"source": "BRAZE"}, "field 'source': 'BRAZE' is not a schema of a data share"),
        ({"app_group_id": None}, "field 'app_group_id'"),
        ({"campaigns": "abc"}, "field 'campaigns': 'abc' is not a list"),
        (
            {"campaigns": ["a b"]},
            "field 'campaigns': 'a b' is not the API identifier of a campaign or Canvas",
        ),
        ({"canvases": [7]}, "field 'canvases': 7 is not the API identifier"),
        ({"goal": " "}, "field 'goal': ' ' is no goal; write purchase, or the name of a custom event"),
        ({"goal": "a\nb"}, "field 'goal'"),
        ({"window": "7 weeks"}, "field 'window': '7 weeks' is no duration"),
        ({"window": "91d"}, "field 'window': an attribution window of 91d is too long; write 90d or less"),
        ({"since": "yesterday"}, "field 'since': 'yesterday' is no day; write a date such as 2026-01-31"),
        ({"until": "0001-01-01"}, "field 'until': 0001-01-01 is not within the years 1971 to 2999"),
        ({"since": date(9999, 12, 31)}, "field 'since': 9999-12-31 is not within the years 1971 to 2999"),
        (
            {"since": "2026-02-02", "until": "2026-02-01"},
            "field 'since': the first day, 2026-02-02, is after the last",
        ),
        ({"timezone": "Berlin"}, "field 'timezone': 'Berlin' is no known time zone; write Europe/Berlin"),
        ({"currency": "usd"}, "field 'currency': 'usd' is no currency; write its ISO code, such as USD"),
        ({"worth": "nothing"}, "field 'worth': 'nothing' is no lift; write the least that would matter"),
        ({"worth": 0}, "field 'worth': 0 is no lift"),
        ({"worth": True}, "field 'worth': true is no lift"),
        ({"worth": 10}, "field 'worth': 10 is no lift; write the least that would matter, such as 10%"),
        ({"goal": "Purchase"}, "field 'goal': 'Purchase' is no goal; write purchase"),
        ({"windw": "7d"}, "field 'windw': unknown key 'windw'; write 'window' or remove it"),
    ],
)
def test_a_bad_question_is_refused_with_the_field_the_value_and_the_fix(
    fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(CohortConfigError) as caught:
        question(**fields)
    assert said in str(caught.value)


def test_the_measure_says_what_tells_rows_apart() -> None:
    assert question().measure == "purchase within 7d"
    assert question(goal="trial started", window="24h").measure == "event trial started within 1d"
    assert question(timezone="Asia/Tokyo").measure == "purchase within 7d, days of Asia/Tokyo"


@pytest.mark.parametrize(("worth", "share"), [("10%", 0.1), (0.05, 0.05), ("2.5%", 0.025)])
def test_the_lift_worth_seeing_is_a_share(worth: Any, share: float) -> None:
    assert question(worth=worth).worth == pytest.approx(share)


def test_the_days_are_the_last_ninety_and_end_today_where_people_are() -> None:
    late = datetime(2026, 3, 31, 23, 30, tzinfo=UTC)
    assert question().days(late) == (date(2026, 1, 1), date(2026, 3, 31))
    assert question(timezone="Asia/Tokyo").days(late)[1] == date(2026, 4, 1)
    assert question(until="2026-03-01").days(late) == (date(2025, 12, 2), date(2026, 3, 1))
    assert question(since="2026-03-30", until="2027-01-01").days(late) == (
        date(2026, 3, 30),
        date(2026, 3, 31),
    )


def test_a_day_begins_at_midnight_where_people_are_also_when_the_clocks_change() -> None:
    berlin = question(timezone="Europe/Berlin")
    length = berlin.starts(date(2026, 3, 30)) - berlin.starts(date(2026, 3, 29))
    assert timedelta(seconds=length) == timedelta(hours=23)
    assert datetime.fromtimestamp(berlin.starts(date(2026, 3, 29)), UTC) == datetime(
        2026, 3, 28, 23, tzinfo=UTC
    )


# -- in a cohort ------------------------------------------------------------------------------------------------------


def test_a_cohort_asks_with_its_own_share_and_time_zone() -> None:
    impact = cohort(
        braze={"share": "BRAZE.PUBLIC", "app_group_id": "growth"},
        schedule={"mode": "daily", "at": "06:00", "timezone": "Europe/Berlin"},
        impact=True,
    ).impact
    assert impact is not None
    assert (impact.source, impact.app_group_id, impact.timezone, impact.at) == (
        "BRAZE.PUBLIC",
        "growth",
        "Europe/Berlin",
        "07:00",
    )


def test_what_an_impact_says_itself_goes_first() -> None:
    impact = cohort(
        braze={"share": "BRAZE.PUBLIC", "app_group_id": "growth"},
        impact={"source": "OTHER.PUBLIC", "app_group_id": "other", "timezone": "Asia/Tokyo"},
    ).impact
    assert impact is not None
    assert (impact.source, impact.app_group_id, impact.timezone) == ("OTHER.PUBLIC", "other", "Asia/Tokyo")


def test_no_impact_is_measured_unless_it_is_asked_for() -> None:
    assert cohort().impact is None
    assert cohort(impact=False).impact is None
    assert cohort(impact=None).impact is None


@pytest.mark.parametrize(
    ("impact", "said"),
    [
        (
            True,
            "cohort 'vip', field 'impact': true takes the share from braze.share and braze.app_group_id, which this "
            "cohort does not have; write those, or impact: {source: BRAZE_SHARE.PUBLIC, app_group_id: ...}",
        ),
        (
            {"app_group_id": "growth"},
            "cohort 'vip', field 'impact.source': this key is required and missing; add source, for example",
        ),
        ({"at": "7"}, "cohort 'vip', field 'impact.at': '7' is no time of day"),
        (
            "yes",
            "cohort 'vip', field 'impact': 'yes' does not say how to measure; write true, or keys such as",
        ),
    ],
)
def test_a_bad_impact_is_refused_at_its_place(impact: Any, said: str) -> None:
    with pytest.raises(CohortConfigError) as caught:
        cohort(impact=impact)
    assert said in str(caught.value)


def test_a_cohort_with_an_impact_is_read_back_as_it_is_written() -> None:
    one = cohort(impact={**SHARE, "campaigns": ["a"], "since": "2026-01-01", "worth": "5%"})
    assert Cohort(**json.loads(one.model_dump_json(by_alias=True))).impact == one.impact

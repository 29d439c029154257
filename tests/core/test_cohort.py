from __future__ import annotations

import copy
import pickle
from fractions import Fraction
from typing import Any

import pytest

from airflow_provider_kubit_braze.core.cohort import (
    BrazeTarget,
    Cohort,
    Guards,
    Identifiers,
    Limit,
    Schedule,
    Share,
    Source,
)
from airflow_provider_kubit_braze.exceptions import CohortConfigError, CohortFilesError

SMALL: dict[str, Any] = {"id": "vip", "source": {"table": "A.B.C"}, "identifiers": {"external_id": "USER_ID"}}

FULL: dict[str, Any] = {
    "id": "power_users",
    "name": "Power users of 2026",
    "source": {
        "conn_id": "snow",
        "table": "ANALYTICS.KUBIT.POWER_USERS",
        "ready": {"column": "COMPUTED_AT", "within": "26h"},
    },
    "identifiers": {"external_id": "USER_ID", "user_alias": {"label": "crm", "name": "CRM_ID"}},
    "schedule": {"mode": "weekly", "on": "monday", "at": "09:00", "timezone": "America/New_York"},
    "notify": ["growth@example.com", "data@example.com"],
    "braze": {
        "conn_id": "braze",
        "attribute": "power",
        "on_exit": "unset",
        "share": "BRAZE_SHARE.PUBLIC",
        "app_group_id": "5e1-app",
    },
    "guards": {
        "allow_empty": True,
        "max_removed": None,
        "max_added": 500,
        "max_data_points": 10_000,
        "max_rejected": "0.5%",
    },
    "holdout": "10%",
    "verify": {"sample": 50, "after": "10m", "within": "2h"},
    "match": "all",
}

PARTNER: dict[str, Any] = {
    **SMALL,
    "identifiers": {"device_id": "D", "external_id": "U", "user_alias": {"label": "crm", "name": "N"}},
    "braze": {"deliver_as": "partner_cohort"},
    "match": "sample",
}


def refusal(**written: Any) -> CohortConfigError:
    with pytest.raises(CohortConfigError) as caught:
        Cohort(**written)
    return caught.value


def test_the_smallest_cohort_has_every_default() -> None:
    cohort = Cohort(**SMALL)
    assert cohort.name == "Vip"
    assert cohort.schedule is None
    assert cohort.notify == ()
    assert cohort.holdout == 0
    assert cohort.source.conn_id == "snowflake_default"
    assert cohort.braze == BrazeTarget()
    assert cohort.guards == Guards(
        allow_empty=False,
        max_removed=Limit(share=Share(3, 10)),
        max_added=None,
        max_data_points=None,
        max_rejected=Limit(share=Share(1, 100)),
    )
    assert cohort.dag_id == "kubit_braze__vip"
    assert cohort.attribute == "kubit_cohort_vip"


def test_every_field_is_read() -> None:
    cohort = Cohort(**FULL)
    assert cohort.name == "Power users of 2026"
    assert cohort.attribute == "power"
    assert cohort.notify == ("growth@example.com", "data@example.com")
    assert cohort.guards.max_removed is None
    assert cohort.guards.max_added == Limit(count=500)
    assert cohort.holdout == Fraction(1, 10)
    assert str(cohort.holdout) == "10%"
    assert cohort.braze.share == "BRAZE_SHARE.PUBLIC"
    assert cohort.verify is not None
    assert cohort.verify.sample == 50
    assert cohort.match == "all"


def test_a_partner_cohort_takes_devices_external_ids_and_aliases() -> None:
    cohort = Cohort(**PARTNER)
    assert cohort.braze.deliver_as == "partner_cohort"
    assert cohort.identifiers.kinds == ("device_id", "external_id", "user_alias")


def test_models_and_mappings_make_the_same_cohort() -> None:
    by_models = Cohort(
        id="vip",
        source=Source(table="A.B.C"),
        identifiers=Identifiers(external_id="USER_ID"),
        schedule=Schedule(mode="daily", at="09:00"),
        braze=BrazeTarget(create_users=True),
        guards=Guards(allow_empty=True),
        holdout=Fraction(1, 20),
    )
    by_mappings = Cohort(
        **SMALL,
        schedule={"mode": "daily", "at": "09:00"},
        braze={"create_users": True},
        guards={"allow_empty": True},
        holdout="5%",
    )
    assert by_models == by_mappings
    assert hash(by_models) == hash(by_mappings)
    assert repr(by_models) == repr(by_mappings)


@pytest.mark.parametrize("written", [SMALL, FULL, PARTNER], ids=["smallest", "full", "partner cohort"])
def test_a_cohort_survives_writing_copying_and_pickling(written: dict[str, Any]) -> None:
    cohort = Cohort(**written)
    assert Cohort(**cohort.model_dump(mode="json")) == cohort
    assert copy.deepcopy(cohort) == cohort
    pickled = pickle.loads(pickle.dumps(cohort))  # noqa: S301  # our own
    assert pickled == cohort
    assert repr(pickled) == repr(cohort)


def test_a_cohort_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Cohort(**SMALL).id = "other"


@pytest.mark.parametrize(
    ("id_", "name"), [("vip", "Vip"), ("power_users_2026", "Power users 2026"), ("a__b", "A  b")]
)
def test_the_name_is_made_of_the_id(id_: str, name: str) -> None:
    assert Cohort(**{**SMALL, "id": id_}).name == name
    assert Cohort(**{**SMALL, "id": id_, "name": None}).name == name


def test_recipients_named_twice_are_mailed_once_and_in_order() -> None:
    assert Cohort(**SMALL, notify=["b@x.y", "a@x.y", "b@x.y"]).notify == ("b@x.y", "a@x.y")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        *(
            pytest.param(
                {"id": id_},
                f"cohort {id_!r}, field 'id': {id_!r} is not a cohort id; write at most 63 lower-case "
                "letters, digits "
                f"and underscores, a letter first{such_as}.",
                id=f"id {id_[:20]}",
            )
            for id_, such_as in (
                ("Power-Users", ", such as power_users"),
                ("1st", ""),
                ("_a", ", such as a"),
                ("a" * 64, f", such as {'a' * 63}"),
                ("vip\n", ", such as vip"),
            )
        ),
        pytest.param(
            {"id": 7},
            "field 'id': 7 is not text; write text, in quotes if it looks like something else",
            id="id 7",
        ),
        pytest.param({"name": " "}, "cohort 'vip', field 'name': the name ' ' is blank", id="blank name"),
        pytest.param(
            {"name": "a\nb"},
            "cohort 'vip', field 'name': the name 'a\\nb' is blank, over 200",
            id="two lines",
        ),
        pytest.param(
            {"source": None},
            "cohort 'vip', field 'source': null is not a mapping; write keys and values below it, or "
            "remove the key",
            id="empty section",
        ),
        pytest.param(
            {"source": {"table": "A", "sql": "SELECT 1"}},
            "cohort 'vip', field 'source': table and sql are both given; keep one of them.",
            id="two sources",
        ),
        pytest.param(
            {"identifiers": []},
            "cohort 'vip', field 'identifiers': [] is not a mapping",
            id="identifiers list",
        ),
        pytest.param(
            {"identifiers": {"external_ids": "A"}},
            "cohort 'vip', field 'identifiers.external_ids': unknown key 'external_ids'; write "
            "'external_id' or",
            id="misspelt identifier",
        ),
        pytest.param(
            {"identifiers": {"user_alias": {"label": 5, "name": "N"}}},
            "cohort 'vip', field 'identifiers.user_alias.label': 5 is not an alias label; write the "
            "label as text.",
            id="alias label",
        ),
        pytest.param(
            {"identifiers": {"device_id": "D"}},
            "cohort 'vip', field 'identifiers.device_id': device_id names users only with "
            "deliver_as: partner_cohort; "
            "use external_id, braze_id, email, phone or user_alias.",
            id="device id",
        ),
        *(
            pytest.param(
                {"identifiers": {"external_id": "U", kind: "D"}, "braze": {"deliver_as": "partner_cohort"}},
                f"cohort 'vip', field 'identifiers.{kind}': {kind} does not name users with deliver_as: "
                "partner_cohort; use external_id, user_alias or device_id, or write deliver_as: attribute.",
                id=f"partner cohort by {kind}",
            )
            for kind in ("braze_id", "email", "phone")
        ),
        pytest.param(
            {"braze": {"deliver_as": "partner_cohort", "on_exit": "unset"}},
            "cohort 'vip', field 'braze.on_exit': 'unset' means nothing with deliver_as: partner_cohort",
            id="partner cohort with on_exit",
        ),
        pytest.param(
            {"schedule": {"mode": "monthly", "on": 31, "at": "09:00"}},
            "cohort 'vip', field 'schedule.on': 31 is not a day every month has; write 1 to 28, or last.",
            id="31st",
        ),
        pytest.param(
            {"schedule": "daily"},
            "cohort 'vip', field 'schedule': 'daily' is not a mapping",
            id="schedule word",
        ),
        pytest.param(
            {"notify": "a@x.y"},
            "cohort 'vip', field 'notify': 'a@x.y' is not a list; write a list: [a@x.y].",
            id="one recipient",
        ),
        pytest.param(
            {"notify": None}, "cohort 'vip', field 'notify': null is not a list", id="no recipients"
        ),
        *(
            pytest.param(
                {"notify": ["a@x.y", address]},
                f"cohort 'vip', field 'notify': {shown} is not an e-mail address; write an address such as",
                id=f"address {shown}",
            )
            for address, shown in (
                ("growth", "'growth'"),
                ("a@", "'a@'"),
                ("@x.y", "'@x.y'"),
                ("a@b@c", "'a@b@c'"),
                ("a b@x.y", "'a b@x.y'"),
                ("a@x.y\n", "'a@x.y\\n'"),
                (5, "5"),
            )
        ),
        pytest.param(
            {"braze": {"attribute": "email"}},
            "cohort 'vip', field 'braze.attribute': the attribute name 'email' is reserved by Braze; choose",
            id="reserved attribute",
        ),
        pytest.param(
            {"guards": {"max_removed": "lots"}},
            "cohort 'vip', field 'guards.max_removed': 'lots' is neither a percentage nor a number "
            "of users; write",
            id="bad limit",
        ),
        pytest.param(
            {"guards": {"max_data_points": -1}},
            "cohort 'vip', field 'guards.max_data_points': -1 is not 0 or more; write 0 or more.",
            id="negative data points",
        ),
        pytest.param(
            {"guards": {"max_data_points": "10%"}},
            "cohort 'vip', field 'guards.max_data_points': '10%' is not a whole number; write a whole number",
            id="share of data points",
        ),
        pytest.param(
            {"guards": {"allow_empty": "no"}},
            "cohort 'vip', field 'guards.allow_empty': 'no' is not true or false; write true or "
            "false, without quotes.",
            id="no for false",
        ),
        pytest.param(
            {"shards": 65},
            "cohort 'vip', field 'shards': 65 is no number of shards; write a whole number from 1 to 64",
            id="too many shards",
        ),
        pytest.param(
            {"shards": "4"},
            "cohort 'vip', field 'shards': '4' is no number of shards; write a whole number from 1 to 64",
            id="shards as text",
        ),
        pytest.param(
            {"shards": 2, "braze": {"deliver_as": "partner_cohort"}},
            "cohort 'vip', field 'shards': shards: 2 cannot deliver a partner cohort, which Braze locks while it",
            id="shards of a partner cohort",
        ),
        pytest.param(
            {"holdout": "100%"},
            "cohort 'vip', field 'holdout': 100% is out of range; write 0% or more, and less than 100%.",
            id="everybody held out",
        ),
        pytest.param(
            {"holdout": 0.1},
            "cohort 'vip', field 'holdout': 0.1 does not say of what; write a percentage",
            id="0.1",
        ),
        pytest.param(
            {"shedule": {}},
            "cohort 'vip', field 'shedule': unknown key 'shedule'; write 'schedule' or remove it.",
            id="misspelt key",
        ),
        pytest.param(
            {"zzz": 1},
            "cohort 'vip', field 'zzz': unknown key 'zzz'; remove it (the keys here are id, name, "
            "source, identifiers, "
            "schedule, notify, notify_when, braze, guards, holdout, verify, match, shards, impact).",
            id="unknown key",
        ),
    ],
)
def test_a_bad_cohort_is_refused_with_the_cohort_the_field_the_value_and_the_fix(
    change: dict[str, Any], sentence: str
) -> None:
    assert str(refusal(**{**SMALL, **change})).startswith(sentence)


@pytest.mark.parametrize("key", ["id", "source", "identifiers"])
def test_a_missing_key_is_named_with_an_example(key: str) -> None:
    error = refusal(**{name: value for name, value in SMALL.items() if name != key})
    assert error.field == key
    assert error.problem == "this key is required and missing"
    assert error.fix.startswith(f"add {key}, for example {key}: ")


def test_every_problem_of_a_cohort_is_told_at_once() -> None:
    error = refusal(
        **{
            **SMALL,
            "source": {"table": "A B", "sql": "x", "tabel": 1},
            "notify": ["a", "b"],
            "braze": {"on_exit": "no", "attribute": "email"},
            "holdout": 1,
        }
    )
    assert isinstance(error, CohortFilesError)
    assert [one.field for one in error.errors] == [
        "source.table",
        "source.sql",
        "source.tabel",
        "notify",
        "notify",
        "braze.attribute",
        "braze.on_exit",
        "holdout",
    ]
    assert {one.cohort for one in error.errors} == {"vip"}
    assert len(str(error).splitlines()) == 8


def test_pydantics_own_report_is_not_shown() -> None:
    error = refusal(**{**SMALL, "holdout": 1})
    with pytest.raises(CohortConfigError) as of_a_part:
        Guards(max_added="lots")  # type: ignore[arg-type]
    for one in (error, of_a_part.value):
        assert "pydantic" not in str(one)
        assert one.__suppress_context__


def test_a_long_value_is_cut_in_the_sentence() -> None:
    assert len(str(refusal(**{**SMALL, "source": {"table": "A B " * 1000}}))) < 400

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest

from airflow_provider_kubit_braze._compat import AIRFLOW_V_3_0_PLUS
from airflow_provider_kubit_braze.assets import cohort_asset, impact_asset, sanitize_uri
from airflow_provider_kubit_braze.exceptions import CohortConfigError


def test_the_asset_is_named_after_the_cohort_and_found_by_connection_and_cohort() -> None:
    asset = cohort_asset("power_users", "kubit_braze_default")
    assert asset.uri == "braze://kubit_braze_default/cohort/power_users"
    if AIRFLOW_V_3_0_PLUS:
        assert asset.name == "braze_cohort_power_users"


def test_a_connection_id_that_no_host_could_have_is_encoded() -> None:
    assert cohort_asset("a", "eu/growth:1").uri == "braze://eu%2Fgrowth%3A1/cohort/a"


@pytest.mark.parametrize(
    ("cohort_id", "conn_id", "said"),
    [
        ("P U", "x", "field 'cohort_id': 'P U' is not a cohort id; .+ such as p_u"),
        ("{{ params.cohort }}", "x", "is not a cohort id"),
        ("power_users", None, "cohort 'power_users', field 'conn_id': null is no connection"),
        ("power_users", " ", "is no connection; write the id of the connection to Braze"),
    ],
)
def test_an_asset_that_nothing_could_ever_update_is_refused(cohort_id: Any, conn_id: Any, said: str) -> None:
    for make in (cohort_asset, impact_asset):
        with pytest.raises(CohortConfigError, match=said):
            make(cohort_id, conn_id)


@pytest.mark.parametrize("uri", ["braze://growth/cohort/power_users", "braze://growth/impact/power_users"])
def test_a_good_uri_passes_as_it_is(uri: str) -> None:
    assert sanitize_uri(urlsplit(uri)) == urlsplit(uri)


def test_the_impact_of_a_cohort_is_another_asset_than_the_cohort() -> None:
    asset = impact_asset("power_users", "growth")
    assert asset.uri == "braze://growth/impact/power_users"
    if AIRFLOW_V_3_0_PLUS:
        assert asset.name == "braze_impact_power_users"


@pytest.mark.parametrize(
    "uri",
    [
        "braze://",
        "braze:///cohort/a",
        "braze://growth/",
        "braze://growth/cohort/",
        "braze://growth/segment/a",
        "braze://growth/cohort/a/b",
        "braze://growth/cohort/a?b=c",
    ],
)
def test_a_uri_without_connection_or_cohort_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match="braze://<connection>/cohort/<cohort>, or /impact/<cohort>, not "):
        sanitize_uri(urlsplit(uri))

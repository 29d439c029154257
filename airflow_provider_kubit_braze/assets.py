"""A cohort in Braze as an Airflow asset, ``braze://<connection>/cohort/<cohort>``, and its impact."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow.providers.common.compat.sdk import Asset

from airflow_provider_kubit_braze._compat import AIRFLOW_V_3_0_PLUS
from airflow_provider_kubit_braze.core.cohort import check_cohort_id
from airflow_provider_kubit_braze.core.part import show, told_of
from airflow_provider_kubit_braze.exceptions import CohortConfigError

if TYPE_CHECKING:
    from urllib.parse import SplitResult


def cohort_asset(cohort_id: str, conn_id: str) -> Asset:
    """Make the asset that an import of the cohort updates.

    :param cohort_id: the cohort's id.
    :param conn_id: the connection to Braze. Characters that a host name cannot hold are percent-encoded.
    :raises CohortConfigError: when it is no cohort's id, or no connection: a DAG would wait for it for ever.
    """
    return _asset("cohort", cohort_id, conn_id)


def impact_asset(cohort_id: str, conn_id: str) -> Asset:
    """Make the asset that a measurement of the cohort's impact updates.

    :param cohort_id: the cohort's id.
    :param conn_id: the connection to Braze.
    :raises CohortConfigError: as for ``cohort_asset``.
    """
    return _asset("impact", cohort_id, conn_id)


def _asset(kind: str, cohort_id: str, conn_id: str) -> Asset:
    with told_of(under="cohort_id"):
        check_cohort_id(cohort_id)
    given: object = conn_id
    if not isinstance(given, str) or not given.strip():
        raise CohortConfigError(
            f"{show(given)} is no connection",
            fix="write the id of the connection to Braze, such as kubit_braze_default",
            cohort=cohort_id,
            field="conn_id",
        )
    uri = f"braze://{quote(conn_id, safe='')}/{kind}/{quote(cohort_id, safe='')}"
    # Before Airflow 3 assets are datasets and have no name.
    return Asset(name=f"braze_{kind}_{cohort_id}", uri=uri) if AIRFLOW_V_3_0_PLUS else Asset(uri=uri)


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """Check a ``braze://`` URI; Airflow calls this for every asset with that scheme.

    :param uri: the URI, split.
    :raises ValueError: when it names no connection or no cohort.
    """
    match uri.path.split("/"):
        case ["", "cohort" | "impact", cohort_id] if cohort_id and uri.netloc and not uri.query:
            return uri
        case _:
            raise ValueError(
                f"An asset of Braze is braze://<connection>/cohort/<cohort>, or /impact/<cohort>, not {uri.geturl()}."
            )

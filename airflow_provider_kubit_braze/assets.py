"""The cohort in Braze as an Airflow asset: ``braze://<connection>/cohort/<cohort>``."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow.providers.common.compat.sdk import Asset

from airflow_provider_kubit_braze._compat import AIRFLOW_V_3_0_PLUS

if TYPE_CHECKING:
    from urllib.parse import SplitResult


def cohort_asset(cohort_id: str, conn_id: str) -> Asset:
    """Make the asset that an import of the cohort updates.

    :param cohort_id: the cohort's id.
    :param conn_id: the connection to Braze. Characters that a host name cannot hold are percent-encoded.
    """
    uri = f"braze://{quote(conn_id, safe='')}/cohort/{quote(cohort_id, safe='')}"
    # Before Airflow 3 assets are datasets and have no name.
    return Asset(name=f"braze_cohort_{cohort_id}", uri=uri) if AIRFLOW_V_3_0_PLUS else Asset(uri=uri)


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """Check a ``braze://`` URI; Airflow calls this for every asset with that scheme.

    :param uri: the URI, split.
    :raises ValueError: when it names no connection or no cohort.
    """
    match uri.path.split("/"):
        case ["", "cohort", cohort_id] if cohort_id and uri.netloc and not uri.query:
            return uri
        case _:
            raise ValueError(
                f"An asset of Braze is braze://<connection>/cohort/<cohort>, not {uri.geturl()}."
            )

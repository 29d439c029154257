"""Where the page *Kubit → Braze* is in Airflow: the plugin serves it there, and mails lead to it."""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

#: Where the page is, below Airflow's own address, and its name in the address of Airflow's page around it.
ROUTE: Final = "kubit-braze"

#: Airflow's page around it.
PAGE: Final = f"plugin/{ROUTE}"


def history_address(airflow: str, cohort_id: str) -> str:
    """Return the address of a cohort's history.

    :param airflow: Airflow's own address, without a slash at its end.
    """
    return f"{airflow}/{PAGE}#/cohort/{quote(cohort_id)}"

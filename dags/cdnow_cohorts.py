"""Four cohorts of CD buyers, one in each schedule mode: what ``make demo`` runs, and a pattern to copy."""

from pathlib import Path

from airflow_provider_kubit_braze.factory import load_cohort_dags

load_cohort_dags(Path(__file__).parent / "cohorts")

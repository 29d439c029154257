"""What an import is: frozen values and pure functions. No Airflow, no driver, no socket."""

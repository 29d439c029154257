"""The console command ``kubit-braze``: what can be done without a browser."""

from airflow_provider_kubit_braze.cli.parser import main

__all__ = ["main"]

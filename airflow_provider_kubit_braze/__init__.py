"""Take a user cohort from Snowflake into Braze, keep it there exactly mirrored, and measure what the campaign did.

Airflow imports this package while it discovers providers, so nothing else may be imported here.
"""

__version__ = "0.1.0"

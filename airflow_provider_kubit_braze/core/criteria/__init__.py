"""Cohorts without SQL: conditions over events and users, and the Snowflake query they stand for."""

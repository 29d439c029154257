"""Snowflake: the plan, the ledger, the stream of changes."""

"""A local Braze, Snowflake and mailbox, to try and to test with."""

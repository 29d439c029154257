"""The wire to Braze."""

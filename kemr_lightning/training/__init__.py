"""Training and what it leaves: the Lightning module, schedules, checkpoints, the store of initial predictions."""

"""Training: the Lightning module, schedules, checkpoints, the store of initial predictions."""

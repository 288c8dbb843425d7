"""Search for the CRF's parameters with Optuna, on stored predictions."""

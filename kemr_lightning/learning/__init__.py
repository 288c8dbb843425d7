"""Learning refinement from masks of known truth: the CRF's parameters, the evidence network, and experiences."""

"""Learning to refine from annotated masks: the CRF's parameters, the evidence network, and experiences."""

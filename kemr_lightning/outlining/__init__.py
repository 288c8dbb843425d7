"""``task=outline``: from boxes to outlines."""

"""Table 1 for any data set: systems trained alike, scored on the same images, with intervals of their differences."""

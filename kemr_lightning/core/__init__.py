"""The ground floor: shared types, geometry, run-length encoding, errors, files. Imports none of the others."""

"""The ground floor: shared types, geometry, run-length encoding, errors, files. Imports no other room."""

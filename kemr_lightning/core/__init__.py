"""The ground floor: types that travel between rooms, geometry, run lengths, errors, files. Imports no other room."""

"""Tests of `kemr_lightning.outlining`."""

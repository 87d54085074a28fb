"""Calibration, as a property."""

"""Prediction sets, as a property."""

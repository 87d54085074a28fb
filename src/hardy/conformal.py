"""Prediction sets."""

"""Accuracy, as a property."""

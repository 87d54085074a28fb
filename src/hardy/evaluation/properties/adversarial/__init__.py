"""Adversarial robustness, as a property."""

"""Evaluation: what is measured of a classifier, the records of it, and the figures made of them."""

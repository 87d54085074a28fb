"""Scores: how suspicious an input is; higher means more suspicious."""

from hardy.detection.logit_scores import SCORES

__all__ = ["SCORES"]

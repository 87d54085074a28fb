"""Certificates: what holds for every image within a radius, whatever attack may come.

Where a network can be traced, :func:`bounds` and :func:`certify` hold for sure; :func:`smooth` works for every
classifier and holds but for a stated probability.

>>> import hardy, torch
>>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 3))
>>> images, labels = torch.rand(4, 1, 6, 6), torch.tensor([0, 1, 2, 1])
>>> hardy.certification.bounds(model, images, labels, eps=0.01).margins.shape
(4, 3)
"""

from __future__ import annotations

from hardy.certification.certify import VERDICTS, Bounds, Certificates, Effort, Verdict, bounds, certify
from hardy.certification.confidence import BOUNDED_SCORES, confidence_bounds, score_bounds
from hardy.certification.onnx import NoOnnxError, onnx_model
from hardy.certification.smoothing import Smoothed, smooth
from hardy.certification.trace import NoBoundError, reason_without_bounds
from hardy.certification.vnnlib import write_vnnlib

__all__ = [
    "BOUNDED_SCORES",
    "VERDICTS",
    "Bounds",
    "Certificates",
    "Effort",
    "NoBoundError",
    "NoOnnxError",
    "Smoothed",
    "Verdict",
    "bounds",
    "certify",
    "confidence_bounds",
    "onnx_model",
    "reason_without_bounds",
    "score_bounds",
    "smooth",
    "write_vnnlib",
]

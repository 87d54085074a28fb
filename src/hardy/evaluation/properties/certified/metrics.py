"""The metrics of certified robustness: which images are certified, by what, and which are not decided."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hardy.certification import VERDICTS, Verdict
from hardy.evaluation.framework import Measurement, Metric, MetricKind, Results, Skipped, share_of, view
from hardy.evaluation.properties.adversarial.measure import radii, radii_of
from hardy.evaluation.properties.certified import detection
from hardy.evaluation.properties.certified.measure import measurements

CERTIFIED_ACCURACY = MetricKind.share(
    "certified_accuracy",
    "Certified accuracy",
    higher_is_better=True,
    question="Is it shown to withstand every attack there may be?",
)
VERDICT = MetricKind.share("certificate_verdict", "Share by verdict", higher_is_better=None)


@dataclass(frozen=True, eq=False)
class Certified:
    """The certificates in one norm, and the attack on the same images.

    Attributes:
        measurement: of the certificates.
        radii: by method, the largest radius that is certified by it or a cheaper one, float64 (N,).
        broken: the smallest perturbation that the attack found, float64 (N,); infinity where it found none.
    """

    measurement: Measurement
    radii: dict[str, NDArray[np.float64]]
    broken: NDArray[np.float64]

    @property
    def norm(self) -> str:
        return str(self.measurement.settings["norm"])

    @property
    def eps(self) -> list[float]:
        return radii(self.measurement)

    def certified(self, eps: float, method: str = "branching") -> NDArray[np.bool_]:
        """bool (N,): by the method or a cheaper one."""
        return self.radii[method] >= eps

    def verdicts(self, eps: float) -> dict[Verdict, NDArray[np.bool_]]:
        """Per verdict, bool (N,): each image has exactly one."""
        left = np.ones(len(self.broken), dtype=bool)
        rules = {
            "wrong": self.radii["branching"] < 0,
            **{name: self.certified(eps, name) for name in ("intervals", "crown", "branching")},
            "falsified": self.broken <= eps,
            "unknown": left,
        }
        found: dict[Verdict, NDArray[np.bool_]] = {}
        for name in VERDICTS:
            found[name] = left & rules[name]
            left = left & ~rules[name]
        return found


@view
def certified_of(results: Results) -> list[Certified]:
    """What was certified, per norm; nothing where there are no bounds."""
    found = []
    for certificates, attack in measurements(results.context):
        columns = results.records[certificates]
        if columns["reason"].str.len_chars().max():
            continue
        known = dict(zip(results.column(attack, "index"), results.column(attack, "norm"), strict=True))
        broken = np.array([known.get(index, np.inf) for index in results.column(certificates, "index")])
        by_method = {name: columns[name].to_numpy() for name in ("intervals", "crown", "branching")}
        found.append(Certified(certificates, by_method, broken))
    return found


def metrics(results: Results) -> list[Metric]:
    found = []
    for each in certified_of(results):
        examples = results.examples(each.measurement)
        for eps in each.eps:
            asked = eps in radii_of(results.context)[each.norm]  # type: ignore[index]
            setting = {"norm": each.norm, "eps": eps}
            found.append(share_of(CERTIFIED_ACCURACY, each.certified(eps), examples, setting=setting, headline=asked))
            if asked:
                found += [
                    share_of(VERDICT, flags, examples, setting={"verdict": verdict, **setting})
                    for verdict, flags in each.verdicts(eps).items()
                ]
    return found + detection.metrics(results)


def without_bounds(results: Results) -> list[Skipped]:
    """Why nothing could be certified."""
    reasons = dict.fromkeys(
        reason
        for certificates, _ in measurements(results.context)
        for reason in results.records[certificates]["reason"].unique()
        if reason
    )
    return [Skipped("certified", f"no certificate: {reason}") for reason in reasons]


def contradictions(results: Results) -> list[str]:
    """Images that are certified and broken at one radius, of which there can be none."""
    found = []
    for each in certified_of(results):
        both = int(np.any([each.certified(eps) & (each.broken <= eps) for eps in each.eps], axis=0).sum())
        if both:
            found.append(
                f"{both} images are certified in {each.norm} and broken by an attack within the same radius: does the "
                "classifier compute otherwise than in float32 with sums of products? Certificates do not hold for it"
            )
    return found + detection.contradictions(results)

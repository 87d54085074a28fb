"""How often the 95 % intervals of the scorecard hold the truth, in simulations whose truth is known.

    python benchmarks/coverage.py [--repetitions 2000] [--only TEXT] [--resamples 200]

Prints one row per kind of figure, truth and number of examples: the share of repetitions whose interval holds the
truth, the share whose interval lies wholly above it and wholly below it, and the mean width. For what has no interval
of its own the row is of what is printed in its place: the noise floor of a calibrated classifier, the band of coverage,
and for differences of equal figures the share of p-values above 5 %. Rows of shares are exact sums, not simulated.
``--only`` takes rows whose kind holds the text.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, norm

from hardy.calibration.conformal import conformal_quantile, coverage_band
from hardy.evaluation.compare import _of_resamples, _of_shares
from hardy.evaluation.evaluate import estimate
from hardy.evaluation.framework import Metric, MetricKind, mean_of, share_of
from hardy.evaluation.properties.error_detection.metrics import against_mistakes
from hardy.evaluation.properties.ood.metrics import _balanced_interval
from hardy.metrics import (
    auroc_interval,
    bounded_interval,
    ece,
    mover,
    noise_floors,
    prepared_aupr,
    prepared_aurc,
    prepared_auroc,
    prepared_excess_aurc,
    prepared_fpr_at_tpr,
    prepared_risk_at_coverage,
    share_interval,
)
from hardy.studies.paired import gain, spreads

KIND = MetricKind("figure", "figure", None)
MANY = 400_000
"""Examples that a truth without a closed form is found on."""

Generator = np.random.Generator
Ends = tuple[float, float, float]
"""Low, high and truth of one repetition."""


def _ends(interval: Sequence[float], truth: float) -> Ends:
    low, high = interval
    return float(low), float(high), truth


class Case(NamedTuple):
    """One row: a repetition from a generator, or where it can be summed, coverage, above, below and width."""

    kind: str
    truth: str
    examples: str
    repeat: Callable[[Generator], Ends] | None = None
    summed: tuple[float, float, float, float] | None = None


def of_share(n: int, share: float) -> Case:
    counts = np.arange(n + 1)
    near = binom.pmf(counts, n, share) > 1e-12
    low, high = np.array([share_interval(int(count), n) for count in counts[near]]).T
    chance = binom.pmf(counts[near], n, share)
    above, below = float(chance[low > share].sum()), float(chance[high < share].sum())
    return Case("share", f"{share:g}", f"{n:,}", summed=(1 - above - below, above, below, float(chance @ (high - low))))


def outliers(kind: str, good: float) -> Callable[[Generator, int, int], tuple[NDArray, NDArray]]:
    """Scores of n test images and m outliers: two normal distributions, or a share of outliers like test images."""

    def draw(rng: Generator, n: int, m: int) -> tuple[NDArray, NDArray]:
        inside, outside = rng.normal(size=n), rng.normal(size=m)
        return inside, outside + (good if kind == "shifted by" else 8.0 * (rng.random(m) >= good))

    return draw


def detection(resamples: int) -> Iterator[Case]:
    for kind, good in (
        ("shifted by", 1.0),
        ("shifted by", 3.0),
        ("shifted by", 4.0),
        ("digit-like", 0.01),
        ("digit-like", 0.05),
    ):
        draw = outliers(kind, good)
        label = f"{kind} {good:g}"
        many = draw(np.random.default_rng(1), MANY, MANY)
        for n, m in ((50, 50), (1000, 20), (1000, 100), (1000, 300)):
            area = float(norm.cdf(good / np.sqrt(2)) if kind == "shifted by" else 1 - good / 2)

            def of_area(rng: Generator, draw=draw, n=n, m=m, area=area) -> Ends:
                return _ends(auroc_interval(*draw(rng, n, m)), area)

            yield Case("AUROC", label, f"{n:,} and {m}", of_area)
        for n, m in ((200, 100), (1000, 300)):
            figures = {
                "FPR at 95 % TPR": (prepared_fpr_at_tpr, prepared_fpr_at_tpr(*many)(None)),
                "AUPR": (prepared_aupr, prepared_aupr(*many)(np.repeat([1.0, m / n], MANY))),
            }
            for name, (prepare, truth) in figures.items():

                def repeat(rng: Generator, draw=draw, prepare=prepare, n=n, m=m, truth=truth) -> Ends:
                    compute = prepare(*draw(rng, n, m))
                    examples = (("in", np.arange(n)), ("out", np.arange(m)))
                    return _ends(ends(Metric(KIND, compute, examples, event=1 / min(n, m)), rng, resamples), truth)

                yield Case(name, label, f"{n:,} and {m}", repeat)
    for kept, caught in ((0.95, 0.9), (0.99, 0.999)):

        def balanced(rng: Generator, kept=kept, caught=caught) -> Ends:
            accepted, refused = rng.random(1000) < kept, rng.random(200) < caught
            return (*_balanced_interval(accepted, refused), (kept + caught) / 2)

        yield Case("detection accuracy", f"{kept:g} and {caught:g}", "1,000 and 200", balanced)


def ends(metric: Metric, rng: Generator, resamples: int) -> tuple[float, float]:
    found = estimate("coverage", metric, int(rng.integers(1 << 30)), resamples)
    if found is None:
        return np.nan, np.nan
    interval = found.interval()
    assert interval is not None
    return interval


def mistakes(rate: float, apart: float) -> Callable[[Generator, int], tuple[NDArray, NDArray]]:
    def draw(rng: Generator, n: int) -> tuple[NDArray, NDArray]:
        wrong = rng.random(n) < rate
        return rng.normal(size=n) + apart * wrong, wrong

    return draw


def error_detection(resamples: int) -> Iterator[Case]:
    for rate, apart in ((0.2, 1.5), (0.05, 2.0), (0.01, 3.0)):
        draw = mistakes(rate, apart)
        score, wrong = draw(np.random.default_rng(2), MANY)
        prepares = {
            "AURC": (prepared_aurc, False),
            "excess AURC": (prepared_excess_aurc, False),
            "risk at 95 % coverage": (partial(prepared_risk_at_coverage, coverage=0.95), False),
            "AUROC of mistakes": (prepared_auroc, True),
            "FPR at 95 % TPR of mistakes": (prepared_fpr_at_tpr, True),
            "AUPR of mistakes": (prepared_aupr, True),
        }
        for name, (prepare, split) in prepares.items():
            truth = (against_mistakes(prepare, score, wrong) if split else prepare(score, wrong))(np.ones(MANY))
            for n in (200, 1000):

                def repeat(
                    rng: Generator, draw=draw, prepare=prepare, split=split, n=n, truth=truth, name=name
                ) -> Ends:
                    score, wrong = draw(rng, n)
                    if split and not 1 < wrong.sum() < n - 1:
                        return np.nan, np.nan, truth
                    compute = against_mistakes(prepare, score, wrong) if split else prepare(score, wrong)
                    few = max(min(wrong.sum(), n - wrong.sum()), 1) if split else n
                    event = 1 / (0.95 * n) if name.startswith("risk") else 1 / few
                    metric = Metric(KIND, compute, (("in", np.arange(n)),), event=event)
                    return _ends(ends(metric, rng, resamples), truth)

                yield Case(name, f"{rate:.0%} wrong", f"{n:,}", repeat)


def answers(rng: Generator, n: int, sure: float, sharper: float) -> tuple[NDArray, NDArray]:
    """Probabilities of three classes and labels: calibrated where ``sharper`` is 1, overconfident above."""
    truth = rng.dirichlet(np.full(3, sure), n) + 1e-9
    truth /= truth.sum(axis=1, keepdims=True)
    labels = (truth.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1).clip(max=2)
    shown = truth**sharper
    return shown / shown.sum(axis=1, keepdims=True), labels


def scores_of(probabilities: NDArray, labels: NDArray) -> tuple[NDArray, NDArray]:
    chosen = -np.log(probabilities[np.arange(len(labels)), labels])
    return chosen, ((probabilities - np.eye(3)[labels]) ** 2).sum(axis=1)


def calibration(_: int) -> Iterator[Case]:
    for sure, sharper, label in (
        (0.3, 1.0, "calibrated"),
        (0.02, 1.0, "calibrated, 99 % right"),
        (0.3, 2.0, "overconfident"),
    ):
        many = scores_of(*answers(np.random.default_rng(3), MANY, sure, sharper))
        for place, name in enumerate(("NLL", "Brier score")):
            truth = float(many[place].mean())
            for n in (50, 200, 1000):

                def repeat(rng: Generator, sure=sure, sharper=sharper, n=n, place=place, truth=truth) -> Ends:
                    probabilities, labels = answers(rng, n, sure, sharper)
                    values = scores_of(probabilities, labels)[place]
                    more = {"event": 2 / n, "top": 2.0} if place else {"event": -np.log(probabilities.min()) / n}
                    # Of a mean the variance over resamples is known.
                    return _ends(bounded_interval(values.mean(), values.var() / n, **({"top": np.inf} | more)), truth)

                yield Case(name, label, f"{n:,}", repeat)
    for n in (50, 200, 2000):
        for sure in (0.3, 0.02):

            def floor(rng: Generator, n=n, sure=sure) -> Ends:
                probabilities, labels = answers(rng, n, sure, 1.0)
                confidence = probabilities.max(axis=1)
                band = noise_floors(confidence, resamples=300, rng=rng)["ece"]
                return band.low, band.high, ece(confidence, probabilities.argmax(axis=1) == labels)

            yield Case("noise floor of the ECE", "calibrated" + (", 99 % right" if sure < 0.1 else ""), f"{n:,}", floor)


def sets(_: int) -> Iterator[Case]:
    for fitted_on, n, alpha in ((200, 1000, 0.1), (1000, 1000, 0.05), (5000, 10_000, 0.05), (200, 50, 0.01)):

        def band(rng: Generator, fitted_on=fitted_on, n=n, alpha=alpha) -> Ends:
            threshold = conformal_quantile(rng.random(fitted_on), alpha)
            found = coverage_band(fitted_on, n, alpha)
            assert found is not None
            return (*found, float((rng.random(n) <= threshold).mean()))

        yield Case("band of coverage", f"alpha {alpha:g}", f"{fitted_on:,} and {n:,}", band)
    for n in (50, 1000):
        for rare in (0.3, 0.01):

            def size(rng: Generator, n=n, rare=rare) -> Ends:
                values = 1.0 + rng.binomial(9, 0.5, n) * (rng.random(n) < rare)
                return _ends(bounded_interval(values.mean(), values.var() / n, 10 / n, 10.0), 1 + 4.5 * rare)

            yield Case("mean set size", f"{rare:g} of several classes", f"{n:,}", size)

            def flips(rng: Generator, n=n, rare=rare) -> Ends:
                values = rng.binomial(14, 0.2, n) / 14 * (rng.random(n) < rare)
                return _ends(bounded_interval(values.mean(), values.var() / n, 1 / n), 0.2 * rare)

            yield Case("flip rate", f"{rare:g} of images flip", f"{n:,}", flips)


def shift(resamples: int) -> Iterator[Case]:
    for wrong, n in ((0.1, 200), (0.01, 200), (0.1, 1000)):

        def accuracy(rng: Generator, wrong=wrong, n=n) -> Ends:
            hard = rng.beta(0.3 * wrong, 0.3 * (1 - wrong), n)[:, None]
            values = (rng.random((n, 15)) >= hard).mean(axis=1)
            metric = Metric(KIND, lambda weights: float(values @ weights / n), (("in", np.arange(n)),), event=1 / n)
            return (*ends(metric, rng, resamples), 1 - wrong)

        yield Case("mean accuracy, 15 corruptions of the same images", f"{wrong:g} wrong", f"{n:,}", accuracy)


def pair(rng: Generator, n: int, wrong: float, differs: float) -> tuple[Metric, Metric]:
    """Two classifiers' right answers: what both miss, and what either does."""
    shared = rng.random(n) < wrong
    flags = [~(shared | (rng.random(n) < differs)) for _ in range(2)]
    first, second = (share_of(KIND, it, (("in", np.arange(n)),)) for it in flags)
    return first, second


def differences(resamples: int) -> Iterator[Case]:
    for n, wrong, differs in ((50, 0.02, 0.01), (50, 0.1, 0.1), (200, 0.005, 0.002), (1000, 0.01, 0.005)):

        def interval(rng: Generator, n=n, wrong=wrong, differs=differs) -> Ends:
            first, second = pair(rng, n, wrong, differs)
            shares = [it.compute(np.ones(n)) for it in (first, second)]
            a, b = (share_interval(round(share * n), n) for share in shares)
            return _ends(mover(shares[0], a, shares[1], b, _of_shares(first, second, True)[0]), 0.0)

        yield Case("difference of paired shares", f"{wrong:g} both, {differs:g} each", f"{n:,}", interval)

        def verdict(rng: Generator, n=n, wrong=wrong, differs=differs) -> Ends:
            return 0.05, 1.0, max(_of_shares(*pair(rng, n, wrong, differs), True)[1], 1e-12)

        yield Case("p-value of equal shares", f"{wrong:g} both, {differs:g} each", f"{n:,}", verdict)
    for n, noise in ((200, 0.5), (1000, 0.5)):

        def losses(rng: Generator, n=n, noise=noise) -> tuple[list[Metric], list[NDArray]]:
            shared = rng.exponential(size=n) ** 2
            values = [shared * rng.uniform(1 - noise, 1 + noise, n) for _ in range(2)]
            metrics = [mean_of(KIND, it, (("in", np.arange(n)),)) for it in values]
            weights = rng.multinomial(n, np.full(n, 1 / n), resamples)
            return metrics, [weights @ it / n for it in values]

        def of_losses(rng: Generator, losses=losses) -> Ends:
            metrics, drawn = losses(rng)
            values = [it.compute(np.ones(it.n)) for it in metrics]
            a, b = (
                bounded_interval(value, float(it.var()), metric.event, metric.top)
                for value, it, metric in zip(values, drawn, metrics, strict=True)
            )
            correlation, _ = _of_resamples(drawn[0], drawn[1], values[1] - values[0], True)
            return _ends(mover(values[0], a, values[1], b, correlation), 0.0)

        def verdict_of_losses(rng: Generator, losses=losses) -> Ends:
            metrics, drawn = losses(rng)
            values = [it.compute(np.ones(it.n)) for it in metrics]
            return 0.05, 1.0, max(_of_resamples(drawn[0], drawn[1], values[1] - values[0], True)[1], 1e-12)

        yield Case("difference of paired means", "equal, heavy tails", f"{n:,}", of_losses)
        yield Case("p-value of equal means", "equal, heavy tails", f"{n:,}", verdict_of_losses)


def studies(_: int) -> Iterator[Case]:
    for seeds, deviation in ((3, 0.02), (5, 0.02), (5, 0.0), (5, 0.1)):

        def repeat(rng: Generator, seeds=seeds, deviation=deviation) -> Ends:
            easy = rng.normal(size=200)
            arms = {
                arm: [
                    mean_of(KIND, easy + rng.normal(0, deviation) + rng.normal(0, 0.3, 200), (("in", np.arange(200)),))
                    for _ in range(seeds)
                ]
                for arm in ("arm", "control")
            }
            found = spreads(arms)
            return _ends(gain(found["arm"], found["control"])[1:3], 0.0)

        yield Case("gain of an arm of a study", f"seeds vary by {deviation:g}", f"{seeds} seeds, 200", repeat)


def cases(resamples: int) -> Iterator[Case]:
    for n in (50, 200, 10_000):
        for share in (0.5, 0.05, 0.01, 0.001):
            yield of_share(n, share)
    for part in (detection, error_detection, calibration, sets, shift, differences, studies):
        yield from part(resamples)


def measured(case: Case, repetitions: int) -> tuple[float, float, float, float]:
    if case.summed is not None:
        return case.summed
    assert case.repeat is not None
    name = "|".join(case[:3])
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    low, high, truth = np.array([case.repeat(rng) for _ in range(repetitions)]).T
    known = ~np.isnan(low)
    low, high, truth = low[known], high[known], truth[known]
    above, below = float((low > truth + 1e-12).mean()), float((high < truth - 1e-12).mean())
    return 1 - above - below, above, below, float((high - low).mean())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=200)
    parser.add_argument("--only", default="")
    given = parser.parse_args(arguments)
    print("| Figure | Truth | Examples | Nominal | Found | Above | Below | Width |")
    print("|---|---|---|---:|---:|---:|---:|---:|")
    for case in cases(given.resamples):
        if given.only.lower() in case.kind.lower():
            found, above, below, width = measured(case, given.repetitions)
            print(
                f"| {case.kind} | {case.truth} | {case.examples} | 95 % | {found:.1%} | {above:.1%} | {below:.1%} "
                f"| {width:.3g} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

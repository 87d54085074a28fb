"""Detectors against independent implementations, in closed form, and through what can go wrong."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
from helpers.detecting import CLASSES, clusters, features_of, head_of, strangers
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax
from sklearn.covariance import EmpiricalCovariance
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from hardy.errors import ContractError, UsageError
from hardy.metrics import auroc
from hardy.ood import (
    DETECTORS,
    Detector,
    Features,
    Head,
    Member,
    fit_combination,
    fit_detector,
    fit_exposed,
    lacking,
    neighbors,
    restore_detector,
)
from hardy.ood.mahalanobis import principal_axes
from hardy.ood.react import QUANTILE

FITTED = [name for name, method in DETECTORS.items() if method.of_training]
OF_FEATURES = [name for name, method in DETECTORS.items() if method.needs != "gradients" and not method.of_mistakes]
TRAIN, LABELS = clusters(600, members=2)
INSIDE, _ = clusters(200, seed=1, members=2)
OUTSIDE = strangers(200, members=2)


def penultimate(features: Features) -> NDArray[np.float64]:
    return np.concatenate(parts_of(features), axis=1).astype(float)


def parts_of(features: Features) -> list[NDArray[np.float32]]:
    return [it.penultimate for it in features.members if it.penultimate is not None]


def fitted(name: str) -> Detector:
    if name == "discriminator":
        return fit_exposed(TRAIN, [strangers(300, seed=3, members=2), strangers(300, seed=4, members=2)])
    if name != "combination":
        return fit_detector(name, TRAIN, LABELS)
    parts = [fit_detector(part, TRAIN, LABELS) for part in ("max_softmax", "vim", "nearest_neighbours")]
    return fit_combination(parts, clusters(300, seed=2, members=2)[0], strangers(300, seed=3, members=2))


@pytest.mark.parametrize("name", OF_FEATURES)
class TestEveryDetector:
    def test_strangers_are_more_suspicious(self, name: str) -> None:
        detector = fitted(name)
        inside, outside = detector.scores(INSIDE), detector.scores(OUTSIDE)
        assert inside.shape == (200,)
        assert inside.dtype == np.float64
        assert np.isfinite(inside).all()
        assert np.isfinite(outside).all()
        assert auroc(inside, outside) > 0.75

    def test_a_score_is_the_images_own(self, name: str) -> None:
        detector = fitted(name)
        alone = np.concatenate([detector.scores(INSIDE.select(slice(row, row + 1))) for row in range(20)])
        assert alone == pytest.approx(detector.scores(INSIDE)[:20], rel=1e-5, abs=1e-5)
        assert detector.scores(INSIDE.select(slice(0))).shape == (0,)

    def test_the_arrays_are_the_whole_state(self, name: str) -> None:
        detector = fitted(name)
        restored = restore_detector(name, {key: array.copy() for key, array in detector.arrays.items()})
        assert np.array_equal(restored.scores(OUTSIDE), detector.scores(OUTSIDE))


@pytest.mark.parametrize("name", FITTED)
def test_fitting_twice_gives_the_same(name: str) -> None:
    first, second = (fit_detector(name, TRAIN, LABELS).arrays for _ in range(2))
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[key], second[key]) for key in first)


def test_mahalanobis_is_that_of_scikit_learn() -> None:
    values, tested = penultimate(TRAIN), penultimate(INSIDE)
    means = np.stack([values[label == LABELS].mean(0) for label in range(CLASSES)])
    shared = EmpiricalCovariance(assume_centered=True).fit(values - means[LABELS])
    each = np.stack([shared.mahalanobis(tested - mean) for mean in means], axis=1)
    assert fitted("mahalanobis").scores(INSIDE) == pytest.approx(each.min(1), rel=1e-3)
    common = EmpiricalCovariance().fit(values).mahalanobis(tested)
    assert fitted("relative_mahalanobis").scores(INSIDE) == pytest.approx(each.min(1) - common, rel=1e-2, abs=1e-1)


def test_nearest_neighbours_are_those_of_scikit_learn() -> None:
    def unit(features: Features) -> NDArray[np.float64]:
        parts = parts_of(features)
        return np.concatenate([part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts], axis=1) / 2**0.5

    nearest = NearestNeighbors(n_neighbors=neighbors.NEIGHBORS).fit(unit(TRAIN))
    expected = nearest.kneighbors(unit(OUTSIDE))[0][:, -1]
    assert fitted("nearest_neighbours").scores(OUTSIDE) == pytest.approx(expected, abs=1e-3)


def test_the_bank_of_neighbours_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbors, "BANK", 50)
    detector = fit_detector("nearest_neighbours", TRAIN, LABELS)
    assert len(detector.arrays["bank"]) == 50
    assert auroc(detector.scores(INSIDE), detector.scores(OUTSIDE)) > 0.9


def vim_by_pca(train: NDArray, weight: NDArray, bias: NDArray, tested: NDArray) -> NDArray:
    """ViM as its paper states it: the null space of scikit-learn's PCA, the softmax with one logit more."""
    origin = -np.linalg.pinv(weight) @ bias
    # PCA centres; mirrored data has its mean at the origin and the same second moments.
    moved = train - origin
    null = np.asarray(PCA().fit(np.concatenate([moved, -moved])).components_)[train.shape[1] // 2 :]
    residual = np.linalg.norm(moved @ null.T, axis=1)
    alpha = (train @ weight.T + bias).max(1).mean() / residual.mean()
    virtual = alpha * np.linalg.norm((tested - origin) @ null.T, axis=1)
    return softmax(np.column_stack([tested @ weight.T + bias, virtual]), axis=1)[:, -1]


def test_vim_over_an_ensemble_is_vim_of_the_network_that_its_members_make_together() -> None:
    heads = [member.head for member in TRAIN.members if member.head is not None]
    weight = np.concatenate([head.weight for head in heads], axis=1) / 2
    bias = np.mean([head.bias for head in heads], axis=0)
    expected = vim_by_pca(penultimate(TRAIN), weight.astype(float), bias.astype(float), penultimate(INSIDE))
    detector = fitted("vim")
    found = detector.scores(INSIDE)
    # The probability of the virtual logit is the logistic function of the score.
    assert 1 / (1 + np.exp(-found)) == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_vim_per_member_is_the_mean_of_vim_alone() -> None:
    alone = [
        fit_detector("vim", TRAIN.of_member(number), LABELS).scores(OUTSIDE.of_member(number)) for number in range(2)
    ]
    assert fitted("vim_per_member").scores(OUTSIDE) == pytest.approx(np.mean(alone, axis=0))


def test_the_joint_null_space_sees_members_that_disagree_as_none_does_alone() -> None:
    """Two members with equal features in training: each one's features below are ordinary, together they never were."""
    single, labels = clusters(600)
    heads = (head_of(8), head_of(8))
    values = penultimate(single)
    train = features_of(values, values, heads=heads)
    inside = penultimate(clusters(200, seed=1)[0])
    swapped = np.roll(inside, 1, axis=0)
    same, mixed = features_of(inside, inside, heads=heads), features_of(inside, swapped, heads=heads)
    together = fit_detector("vim", train, labels)
    apart = fit_detector("vim_per_member", train, labels)
    assert auroc(together.scores(same), together.scores(mixed)) > 0.95
    assert auroc(apart.scores(same), apart.scores(mixed)) == pytest.approx(0.5, abs=0.1)


def test_react_without_a_ceiling_is_the_energy() -> None:
    detector = fitted("react")
    unclipped = Detector("react", {**detector.arrays, "ceiling": np.array(np.inf)})
    assert unclipped.scores(INSIDE) == pytest.approx(fitted("energy").scores(INSIDE), rel=1e-5)
    low = Detector("react", {**detector.arrays, "ceiling": np.array(-np.inf).clip(-1e3)})
    logits = np.full((1, 16), -1e3) @ detector.arrays["weight"].T + detector.arrays["bias"]
    assert low.scores(INSIDE) == pytest.approx(np.full(200, -np.logaddexp.reduce(logits[0])))


def test_reacts_ceiling_is_the_quantile_of_training() -> None:
    values = penultimate(TRAIN)
    assert (values <= fitted("react").arrays["ceiling"]).mean() == pytest.approx(QUANTILE, abs=1e-3)


def test_kl_matching_is_scipys_relative_entropy_to_the_nearest_template() -> None:
    p, train = softmax(INSIDE.logits.astype(float), axis=1), softmax(TRAIN.logits.astype(float), axis=1)
    templates = [train[label == LABELS].mean(0) for label in range(CLASSES)]
    expected = np.min([scipy.stats.entropy(p, template[None], axis=1) for template in templates], axis=0)
    assert fitted("kl_matching").scores(INSIDE) == pytest.approx(expected, abs=1e-9)


def test_mutual_information_is_the_entropy_that_the_members_do_not_have_alone() -> None:
    each = [softmax(member.logits.astype(float), axis=1) for member in OUTSIDE.members]
    mean = np.mean(each, axis=0)
    expected = np.mean([scipy.stats.entropy(p, mean, axis=1) for p in each], axis=0)
    assert fitted("mutual_information").scores(OUTSIDE) == pytest.approx(expected, abs=1e-6)
    agreed = Features(INSIDE.members[0].logits, (INSIDE.members[0], INSIDE.members[0]))
    assert fitted("mutual_information").scores(agreed) == pytest.approx(np.zeros(200), abs=1e-12)


def test_energy_and_max_logit_of_an_ensemble_are_of_the_members_mean_logits() -> None:
    """The logits of an ensemble are log probabilities, whose energy is 0 for every image."""
    assert logsumexp(OUTSIDE.logits, axis=1) == pytest.approx(np.zeros(200), abs=1e-5)
    mean = np.mean([member.logits for member in OUTSIDE.members], axis=0)
    assert fitted("energy").scores(OUTSIDE) == pytest.approx(-np.logaddexp.reduce(mean, axis=1), abs=1e-5)
    assert fitted("max_logit").scores(OUTSIDE) == pytest.approx(-mean.max(1), abs=1e-5)


@pytest.mark.parametrize("dimensions", [20, 1100])
def test_principal_axes_are_those_of_the_singular_value_decomposition(dimensions: int) -> None:
    """Beyond 1,024 dimensions they are found by random projections."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(300, 5)) * [9, 7, 5, 3, 2] @ np.linalg.qr(rng.normal(size=(dimensions, 5)))[0].T
    axes = principal_axes(values, 5)
    expected = np.linalg.svd(values, full_matrices=False)[2][:5]
    assert np.abs((axes * expected).sum(1)) == pytest.approx(np.ones(5), abs=1e-6)


@pytest.mark.parametrize("name", ["mahalanobis", "relative_mahalanobis", "nearest_neighbours", "vim", "react"])
def test_features_too_wide_to_be_taken_as_they_are(name: str) -> None:
    rng = np.random.default_rng(0)
    head = Head((rng.normal(size=(CLASSES, 1100)) / 30).astype(np.float32), np.zeros(CLASSES, np.float32))

    def wide(features: Features, noise: float) -> Features:
        values = penultimate(features) @ np.eye(8, 1100)
        return features_of(values + noise * rng.normal(size=values.shape), heads=(head,))

    detector = fit_detector(name, wide(clusters(400)[0], 0.01), clusters(400)[1])
    inside, outside = wide(clusters(100, seed=1)[0], 0.01), wide(strangers(100), 0.1)
    assert auroc(detector.scores(inside), detector.scores(outside)) > (0.0 if name == "react" else 0.9)
    assert sum(array.nbytes for array in detector.arrays.values()) < 8e6


def test_the_combination_weighs_what_tells_outliers_apart() -> None:
    def pair(informative: NDArray, noise: NDArray) -> Features:
        logits = np.column_stack([informative, informative, noise]).astype(np.float32)
        return Features(logits, (Member(logits),))

    rng = np.random.default_rng(0)
    inside = pair(rng.normal(size=400) + 3, np.zeros(400))
    outside = pair(rng.normal(size=400), np.zeros(400))
    combined = fit_combination([Detector("energy", {}), Detector("margin", {})], inside, outside)
    assert combined.arrays["energy/combination.weight"] > 1.0
    alone = auroc(Detector("energy", {}).scores(inside), Detector("energy", {}).scores(outside))
    assert auroc(combined.scores(inside), combined.scores(outside)) == pytest.approx(alone, abs=0.02)


class TestWhatCannotBe:
    def test_a_classifier_without_a_head_is_refused_with_the_reason(self) -> None:
        bare = Features(INSIDE.logits, (Member(INSIDE.logits),), "the network has no nn.Linear")
        assert lacking("vim", bare) == "the network has no nn.Linear"
        assert "no ensemble" in lacking("mutual_information", bare)
        assert "no nn.Conv2d" in lacking("layers", bare)
        assert lacking("energy", bare) == ""
        with pytest.raises(UsageError, match=r"'vim': the network has no nn\.Linear"):
            fit_detector("vim", bare, LABELS[:200])
        with pytest.raises(UsageError, match=r"'vim': the network has no nn\.Linear"):
            fitted("vim").scores(bare)

    def test_nothing_is_fitted_on_images_without_labels(self) -> None:
        with pytest.raises(UsageError, match="each with its class"):
            fit_detector("mahalanobis", TRAIN, np.full(600, -1))
        with pytest.raises(UsageError, match="600 images and 3 labels"):
            fit_detector("mahalanobis", TRAIN, LABELS[:3])
        with pytest.raises(UsageError, match="each with its class"):
            fit_detector("mahalanobis", TRAIN.select(slice(1)), LABELS[:1])

    def test_the_combination_is_not_fitted_on_training_images(self) -> None:
        with pytest.raises(UsageError, match="fit_combination"):
            fit_detector("combination", TRAIN, LABELS)
        with pytest.raises(UsageError, match="at least one of each"):
            fit_combination([fitted("vim")], INSIDE, OUTSIDE.select(slice(0)))

    def test_unknown_names_and_broken_arrays_are_refused(self) -> None:
        with pytest.raises(UsageError, match="unknown detector 'vmi'; did you mean vim"):
            fit_detector("vmi", TRAIN, LABELS)
        with pytest.raises(UsageError, match="unknown detector"):
            restore_detector("nothing", {})
        with pytest.raises(ContractError, match="'alpha'"):
            restore_detector("vim", {**fitted("vim").arrays, "alpha": np.array(np.nan)})


class TestDiscriminator:
    def test_what_lies_far_off_in_any_direction_is_suspicious(self) -> None:
        detector = fitted("discriminator")
        threshold = np.quantile(detector.scores(INSIDE), 0.99)
        for sign in (1.0, -1.0):
            for dimension in range(8):
                far = np.zeros((1, 8))
                far[0, dimension] = sign * 1e4
                assert (detector.scores(features_of(far, far)) > threshold).all()

    def test_absurd_confidence_is_suspicious(self) -> None:
        detector, inside = fitted("discriminator"), INSIDE.select(slice(0, 20))
        sure = [50.0 * it.penultimate for it in inside.members if it.penultimate is not None]
        assert (detector.scores(features_of(*sure)) > np.quantile(detector.scores(INSIDE), 0.99)).all()

    def test_a_family_counts_the_same_however_many_it_has(self) -> None:
        few, many = strangers(20, seed=3, members=2), strangers(2000, seed=3, members=2)
        assert auroc(*(fit_exposed(TRAIN, [few, many]).scores(it) for it in (INSIDE, OUTSIDE))) > 0.9

    def test_nothing_to_fit_on_is_refused(self) -> None:
        with pytest.raises(UsageError, match="at least one of each"):
            fit_exposed(TRAIN, [OUTSIDE.select(slice(0))])

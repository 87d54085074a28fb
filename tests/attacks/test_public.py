"""Attacks as users call them: what they take, what they refuse, and what they warn of."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
import torch
from helpers.attacking import answers, undecided
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import hardy.attacks
from hardy.attacks import ATTACKS, AttackResult
from hardy.errors import ContractError, UsageError
from hardy.rng import Randomness
from hardy.threats import ThreatModel
from hardy.validation import Classifier, Images, Labels

IMAGES = torch.rand(12, 1, 6, 6, generator=torch.Generator().manual_seed(0))
LABELS = answers(undecided(3), IMAGES)
LABELS[-2:] = (LABELS[-2:] + 1) % 3


def pgd(images: object = IMAGES, labels: object = LABELS, model: nn.Module | None = None, **settings) -> AttackResult:
    return hardy.attacks.pgd(model or undecided(3), images, labels, **{"eps": 0.05, "steps": 5} | settings)  # type: ignore[arg-type]


def test_arrays_and_loaders_give_what_tensors_give() -> None:
    expected = pgd()
    state = torch.get_rng_state()
    read_only = IMAGES.numpy().copy()
    read_only.flags.writeable = False
    for images, labels in [
        (read_only, LABELS.numpy().astype(np.uint8)),
        (IMAGES.numpy(), LABELS.int()),
        (DataLoader(TensorDataset(IMAGES, LABELS), batch_size=5), None),
    ]:
        found = pgd(images, labels)
        assert torch.equal(found.images, expected.images)
        assert torch.equal(found.min_norm, expected.min_norm)
        assert found.warnings == expected.warnings == []
    assert torch.equal(torch.get_rng_state(), state)


def test_an_image_is_attacked_by_its_place_whatever_comes_after_it() -> None:
    whole, part = pgd(), pgd(IMAGES[:4], LABELS[:4])
    torch.testing.assert_close(part.images, whole.images[:4])
    assert torch.equal(pgd(batch_size=3).broken, whole.broken)
    assert not torch.equal(pgd(seed=1).images, whole.images)


def test_several_radii_give_one_answer_for_all() -> None:
    both = pgd(eps=(0.2, 0.05))
    assert torch.equal(both.min_norm <= 0.05, pgd(eps=0.05).min_norm <= 0.05)
    assert torch.equal(pgd(eps=np.array([0.05, 0.2])).min_norm, both.min_norm)


def test_no_image_gives_no_result() -> None:
    result = pgd(IMAGES[:0], LABELS[:0])
    assert len(result.images) == len(result.broken) == 0


def test_a_result_says_what_was_broken() -> None:
    result = pgd(eps=0.05)
    wrong, broken = (int((answer != LABELS).sum()) for answer in (result.clean_prediction, result.prediction))
    assert 0 < wrong < broken < 12
    assert repr(result) == f"AttackResult({broken} of 12 broken, {wrong} of them wrong without any attack)"


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"images": (255 * IMAGES).to(torch.uint8)}, ContractError, "divide uint8 by 255"),
        ({"images": 255 * IMAGES}, ContractError, r"images lie in \[0, 1\]"),
        ({"images": IMAGES[0]}, ContractError, "images are"),
        ({"labels": None}, UsageError, "labels are missing"),
        ({"labels": LABELS[:5]}, ContractError, r"shape \(5,\) for 12 images"),
        ({"labels": LABELS.float()}, ContractError, "labels are integers"),
        ({"labels": LABELS - 1}, ContractError, "-1 is no class"),
        ({"labels": LABELS + 1}, ContractError, "knows 3 classes"),
        ({"images": DataLoader(TensorDataset(IMAGES, LABELS))}, UsageError, "leave labels out"),
        ({"eps": 8}, UsageError, "if you mean 8/255"),
        ({"eps": -0.1}, UsageError, "a radius is"),
        ({"eps": ()}, UsageError, "all radii of an attack are in one norm"),
        ({"norm": "l3"}, UsageError, "unknown norm 'l3'"),
        ({"norm": "l0", "eps": 3}, UsageError, "attack 'pgd' works in linf, l2, l1, not in l0"),
        ({"step": 5}, UsageError, "unknown setting of pgd 'step'; did you mean steps"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_remedy(
    changed: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        pgd(**changed)  # type: ignore[arg-type]


def test_an_empty_loader_is_refused() -> None:
    with pytest.raises(UsageError, match="no batch"):
        pgd(DataLoader(TensorDataset(IMAGES[:0], LABELS[:0])), None)


def test_probabilities_are_refused() -> None:
    with pytest.raises(ContractError, match="leave out the final softmax"):
        pgd(model=nn.Sequential(undecided(3), nn.Softmax(1)))


class Stepped(nn.Module):
    """Rounds its input, so that its gradient is 0 everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = undecided(3)

    def forward(self, images: Tensor) -> Tensor:
        return self.inner((8 * images).round() / 8)


def test_a_gradient_of_0_is_warned_of_where_the_attack_needs_one() -> None:
    assert "the gradient is exactly zero on " in " ".join(pgd(model=Stepped()).warnings)
    assert hardy.attacks.repeated_noise(Stepped(), IMAGES, LABELS, eps=0.1).warnings == []
    assert pgd(model=nn.Sequential(undecided(3), Scale(100.0))).warnings == []


class Scale(nn.Module):
    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, logits: Tensor) -> Tensor:
        return self.by * logits


class Uncopyable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = undecided(3)

    def __deepcopy__(self, memo: object) -> Uncopyable:
        raise TypeError("holds a file")

    def forward(self, images: Tensor) -> Tensor:
        return self.inner(images)


def test_a_classifier_that_cannot_be_copied_is_attacked_as_it_is_and_that_is_said() -> None:
    result = pgd(model=Uncopyable())
    assert torch.equal(result.broken, pgd().broken)
    (warning,) = result.warnings
    assert warning.startswith("the classifier could not be copied in float32 for faster searches")
    assert warning.endswith("TypeError: holds a file")


def test_a_loader_that_shuffles_is_warned_of() -> None:
    loader = DataLoader(TensorDataset(IMAGES, LABELS), batch_size=5, shuffle=True)
    assert any("the loader shuffles" in warning for warning in pgd(loader, None).warnings)


def test_a_user_registers_an_attack_that_works_everywhere() -> None:
    try:

        @hardy.attacks.register(title="brighter", norms=("linf",), reference="this test", gradients=False)
        def lighter(
            classifier: Classifier,
            images: Images,
            labels: Labels,
            threat: ThreatModel,
            *,
            rng: Randomness,
            share: float = 0.5,
        ) -> Images:
            """Brightens.

            Args:
                share: of eps.
            """
            return images + share * threat.eps

        result = lighter(undecided(3), IMAGES, LABELS, eps=0.8, share=1.0)
        (registered,) = hardy.attacks.get_attacks("lighter", "linf")
        assert registered is ATTACKS["lighter"]
        assert registered.settings == {"share": 0.5}
        with torch.no_grad():
            expected = undecided(3)((IMAGES + 0.8).clamp(0, 1)).argmax(1) != LABELS
        assert torch.equal(result.broken, expected | (result.clean_prediction != LABELS))
        assert "share: of eps." in (lighter.__doc__ or "")
        again = hardy.attacks.register(title="again", norms=("linf",), reference="this test", name="lighter")
        with pytest.raises(UsageError, match="'lighter' already"):
            again(registered.function)
    finally:
        ATTACKS.remove("lighter")


def test_a_setting_without_a_default_is_refused() -> None:
    def forgetful(classifier: Classifier, images: Images, labels: Labels, threat: ThreatModel, *, steps: int) -> Images:
        return images

    with pytest.raises(UsageError, match="attack 'forgetful': give its setting 'steps' a default"):
        hardy.attacks.register(title="forgetful", norms=("linf",), reference="this test")(forgetful)
    assert "forgetful" not in ATTACKS


@pytest.mark.parametrize("what", [hardy.attacks, hardy.attacks.register], ids=["package", "register"])
def test_the_examples_of_the_package_run(what: object) -> None:
    known = set(ATTACKS)
    test = doctest.DocTestParser().get_doctest(what.__doc__ or "", {}, "example", None, None)
    assert len(test.examples) >= 4
    try:
        with torch.random.fork_rng(devices=[]):
            assert doctest.DocTestRunner().run(test).failed == 0
    finally:
        for name in set(ATTACKS) - known:
            ATTACKS.remove(name)

"""The door: each way of breaking the contract is refused by name, and nothing is changed by looking."""

from __future__ import annotations

import pytest
import torch
from helpers.classifiers import seeded_linear
from torch import Tensor, nn

from hardy.errors import ContractError
from hardy.validation import check_classifier, check_images

CLASSES = 3
GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.rand(40, 1, 6, 6, generator=GENERATOR)
LABELS = torch.arange(40) % CLASSES


class Answering(nn.Module):
    """A linear classifier whose logits go through ``change``."""

    def __init__(self, change=lambda logits: logits, classes: int = CLASSES) -> None:
        super().__init__()
        self.inner = seeded_linear(classes)
        self.change = change

    def forward(self, images: Tensor):
        return self.change(self.inner(images))


class Stubborn:
    """Mixed into a module, refuses evaluation mode."""

    def train(self, mode: bool = True):  # noqa: ARG002
        return nn.Module.train(self, True)  # type: ignore[arg-type]


class StubbornDropout(Stubborn, nn.Dropout):
    pass


class StubbornBatchNorm(Stubborn, nn.BatchNorm1d):
    pass


def with_layer(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten(), layer, nn.Linear(36, CLASSES))


def test_a_classifier_that_keeps_the_contract_is_admitted_without_warnings() -> None:
    assert check_classifier(Answering(), IMAGES, LABELS, CLASSES) == (CLASSES, [])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda logits: logits[:, 0], r"shape \(40,\) for 40 images"),
        (lambda logits: logits[:7], r"shape \(7, 3\) for 40 images"),
        (lambda logits: logits[:, :, None], r"shape \(40, 3, 1\)"),
        (lambda logits: (logits, logits), "returns tuple"),
        (lambda logits: {"logits": logits}, "returns dict"),
        (lambda logits: logits.detach().numpy(), "returns ndarray"),
        (lambda logits: logits.argmax(1, keepdim=True).expand(-1, CLASSES), "int64"),
        (lambda logits: logits.softmax(1), "probabilities.*leave out the final softmax"),
        (lambda logits: logits * torch.nan, "NaN or infinity"),
        (lambda logits: logits / 0.0, "NaN or infinity"),
        (lambda logits: logits[:, :2], "knows 2 classes, but the data has 3"),
        (lambda logits: logits + logits.mean(0), "depends on its batch"),
        (lambda logits: logits @ torch.ones(7, 7), r"fails on float32 images of shape \(40, 1, 6, 6\): RuntimeError"),
    ],
)
def test_a_broken_answer_is_refused_by_name(change, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        check_classifier(Answering(change), IMAGES, LABELS, CLASSES)


def test_log_probabilities_are_logits() -> None:
    assert check_classifier(Answering(lambda logits: logits.log_softmax(1)), IMAGES, LABELS, CLASSES).warnings == []


def test_one_hot_answers_are_probabilities() -> None:
    with pytest.raises(ContractError, match="probabilities"):
        check_classifier(
            Answering(lambda logits: nn.functional.one_hot(logits.argmax(1), 3).float()), IMAGES, LABELS, CLASSES
        )


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
def test_a_parameter_that_is_not_finite_is_named(broken: float) -> None:
    classifier = Answering()
    with torch.no_grad():
        classifier.inner.weight[1, 7] = broken
    with pytest.raises(ContractError, match=r"inner\.weight"):
        check_classifier(classifier, IMAGES, LABELS, CLASSES)


def test_a_statistic_that_is_not_finite_is_named() -> None:
    classifier = with_layer(nn.BatchNorm1d(36)).eval()
    classifier[1].running_var.fill_(torch.nan)  # type: ignore[operator, union-attr]
    with pytest.raises(ContractError, match=r"1\.running_var"):
        check_classifier(classifier, IMAGES, LABELS, CLASSES)


def random_classifier() -> nn.Module:
    return Answering(lambda logits: nn.functional.dropout(logits, 0.5))


def test_a_random_classifier_is_refused_with_the_way_out() -> None:
    with pytest.raises(ContractError, match=r"is random.*--allow-random"):
        check_classifier(random_classifier(), IMAGES, LABELS, CLASSES)


def test_a_random_classifier_is_allowed_on_demand_with_a_warning() -> None:
    info = check_classifier(random_classifier(), IMAGES, LABELS, CLASSES, allow_random=True)
    assert len(info.warnings) == 1
    assert "is random" in info.warnings[0]


def test_allowing_randomness_does_not_warn_of_a_classifier_that_is_not_random() -> None:
    assert check_classifier(Answering(), IMAGES, LABELS, CLASSES, allow_random=True).warnings == []


def test_a_submodule_that_refuses_evaluation_mode_is_named() -> None:
    with pytest.raises(ContractError, match=r"is random.*left in training mode: 1\b"):
        check_classifier(with_layer(StubbornDropout()), IMAGES, LABELS, CLASSES)


@pytest.mark.parametrize("allow_random", [False, True])
def test_batch_norm_that_refuses_evaluation_mode_is_named(allow_random: bool) -> None:
    """With one image it cannot answer at all, which is no reason to forget what is wrong."""
    with pytest.raises(ContractError, match=r"training mode: 1\b"):
        check_classifier(with_layer(StubbornBatchNorm(36)), IMAGES, LABELS, CLASSES, allow_random=allow_random)


def test_batch_norm_in_training_mode_beside_dropout_is_refused_even_where_randomness_is_allowed() -> None:
    classifier = nn.Sequential(nn.Flatten(), StubbornBatchNorm(36), StubbornDropout(), nn.Linear(36, CLASSES))
    with pytest.raises(ContractError, match=r"buffers.*1\.running_mean"):
        check_classifier(classifier, IMAGES, LABELS, CLASSES, allow_random=True)


def test_batch_norm_without_statistics_depends_on_the_batch() -> None:
    classifier = nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), nn.Flatten(), nn.Linear(36, CLASSES))
    with pytest.raises(ContractError, match="depends on its batch"):
        check_classifier(classifier, IMAGES, LABELS, CLASSES)


def test_more_classes_than_the_data_has_are_worth_a_warning() -> None:
    info = check_classifier(Answering(classes=5), IMAGES, LABELS, CLASSES)
    assert info.classes == 5
    assert info.warnings == ["the classifier knows 5 classes, the data has 3"]


def taught(normalise) -> tuple[nn.Module, Tensor]:
    """A classifier that is right on images normalised by ``normalise``, and the labels that make it so."""
    classifier = Answering()
    with torch.no_grad():
        classifier.inner.bias.zero_()
        answers = classifier(normalise(IMAGES))
        classifier.inner.bias.sub_(answers.mean(0))
        return classifier, (answers - answers.mean(0)).argmax(1)


@pytest.mark.parametrize(
    ("normalise", "hint"),
    [
        (lambda images: images * 255, "0 to 255"),
        (lambda images: 2 * images - 1, "-1 to 1"),
        (lambda images: (images - 0.5) / 0.1, "mean 0 and deviation 1"),
    ],
)
def test_normalisation_outside_the_model_is_seen(normalise, hint: str) -> None:
    classifier, labels = taught(normalise)
    (warning,) = check_classifier(classifier, IMAGES, labels, CLASSES).warnings
    assert "normalisation seems to be outside" in warning
    assert hint in warning


def test_a_classifier_that_refuses_images_outside_the_range_is_admitted() -> None:
    class Strict(Answering):
        def forward(self, images: Tensor):
            check_images(images)
            return super().forward(images)

    assert check_classifier(Strict(), IMAGES, LABELS, CLASSES).warnings == []


@pytest.mark.parametrize("images", [IMAGES * 255, IMAGES - 0.5, IMAGES.double(), IMAGES[:, 0]])
def test_images_that_break_the_contract_are_not_blamed_on_the_classifier(images: Tensor) -> None:
    with pytest.raises(ContractError, match="the images to measure on"):
        check_classifier(Answering(), images, LABELS, CLASSES)


@pytest.mark.parametrize("mode", [True, False])
def test_nothing_is_changed_by_looking(mode: bool) -> None:
    classifier = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(36), nn.Dropout(), nn.Linear(36, CLASSES)).train(mode)
    classifier[3].bias.requires_grad_(False)
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    check_classifier(classifier, IMAGES, LABELS, CLASSES)
    assert all(torch.equal(before[name], value) for name, value in classifier.state_dict().items())
    assert [module.training for module in classifier.modules()] == [mode] * 5
    assert {name for name, parameter in classifier.named_parameters() if not parameter.requires_grad} == {"3.bias"}
    assert all(parameter.grad is None for parameter in classifier.parameters())


def test_a_classifier_that_is_refused_is_given_back_as_it_was() -> None:
    classifier = with_layer(StubbornBatchNorm(36))
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    with pytest.raises(ContractError):
        check_classifier(classifier, IMAGES, LABELS, CLASSES)
    assert all(torch.equal(before[name], value) for name, value in classifier.state_dict().items())
    assert all(parameter.requires_grad for parameter in classifier.parameters())

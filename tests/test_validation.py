"""The contract: each way of breaking it is refused by name, and checking leaves a classifier as it was."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from helpers.classifiers import seeded_linear
from torch import Tensor, nn

from hardy.errors import ContractError
from hardy.validation import check_classifier, check_images, frozen_evaluation

IMAGES = torch.linspace(0, 1, 2 * 3 * 4 * 4).reshape(2, 3, 4, 4)


def with_pixel(value: float) -> Tensor:
    images = IMAGES.clone()
    images[1, 2, 3, 0] = value
    return images


def mixed() -> nn.Sequential:
    """Some modules in training mode, some not; some parameters frozen, some not."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(16, 2))
    model[1].eval()
    model[4].eval()
    model[0].weight.requires_grad_(False)
    return model


def modes_and_flags(model: nn.Module) -> tuple[list[bool], list[bool]]:
    return [it.training for it in model.modules()], [it.requires_grad for it in model.parameters()]


@pytest.mark.parametrize("images", [IMAGES, IMAGES[:0], torch.zeros(2, 1, 0, 0), torch.zeros(1, 1, 1, 1)])
def test_images_are_accepted(images: Tensor) -> None:
    check_images(images)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[0], r"shape \(3, 4, 4\); images are \(N, C, H, W\)"),
        (IMAGES[None], r"shape \(1, 2, 3, 4, 4\)"),
        ((IMAGES * 255).to(torch.uint8), r"torch.uint8; images are float32 in \[0, 1\] \(divide uint8 by 255\)"),
        (IMAGES.double(), "torch.float64"),
        (IMAGES.half(), "torch.float16"),
        (with_pixel(1.0000001), "normalize inside the model"),
        (with_pixel(-1e-9), "normalize inside the model"),
        (IMAGES * 2 - 1, "from -1 to 1; images lie in"),
        (with_pixel(math.nan), "nan"),
        (with_pixel(math.inf), "to inf"),
        (with_pixel(-math.inf), "from -inf"),
    ],
)
def test_what_is_no_image_is_refused_by_name(images: Tensor, message: str) -> None:
    with pytest.raises(ContractError, match=f"probes: .*{message}"):
        check_images(images, "probes")


def test_inside_the_model_is_frozen_and_in_evaluation_mode() -> None:
    model = mixed()
    with frozen_evaluation(model) as same:
        assert same is model
        assert modes_and_flags(model) == ([False] * 6, [False] * 6)
        images = IMAGES.clone().requires_grad_()
        model(images).sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_modes_flags_weights_statistics_and_gradients_stay() -> None:
    model = mixed()
    model[4].bias.grad = torch.ones(2)
    before = modes_and_flags(model), {name: value.clone() for name, value in model.state_dict().items()}
    with frozen_evaluation(model):
        model(IMAGES.clone().requires_grad_()).sum().backward()
    assert modes_and_flags(model) == before[0]
    assert all(torch.equal(value, before[1][name]) for name, value in model.state_dict().items())
    assert [name for name, it in model.named_parameters() if it.grad is not None] == ["4.bias"]
    assert model[4].bias.grad.tolist() == [1.0, 1.0]


def test_an_exception_leaves_the_model_as_it_was() -> None:
    model = mixed()
    before = modes_and_flags(model)
    with pytest.raises(RuntimeError, match="mat1 and mat2"), frozen_evaluation(model):
        model(torch.zeros(1, 3, 9, 9))
    assert modes_and_flags(model) == before


def test_nested_use_gives_back_each_time_what_it_found() -> None:
    model = mixed()
    before = modes_and_flags(model)
    with frozen_evaluation(model):
        with frozen_evaluation(model):
            pass
        assert modes_and_flags(model) == ([False] * 6, [False] * 6)
    assert modes_and_flags(model) == before


def test_float32_is_not_rounded_to_tf32_meanwhile() -> None:
    cudnn: Any = torch.backends.cudnn
    backends = (cudnn.conv, torch.backends.cuda.matmul)
    before = [backend.fp32_precision for backend in backends]
    with frozen_evaluation(mixed()):
        assert [backend.fp32_precision for backend in backends] == ["ieee", "ieee"]
    assert [backend.fp32_precision for backend in backends] == before


# Checking a classifier

CLASSES = 3
GENERATOR = torch.Generator().manual_seed(0)
PROBES = torch.rand(40, 1, 6, 6, generator=GENERATOR)
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


def test_a_classifier_that_keeps_the_contract_is_accepted_without_warnings() -> None:
    assert check_classifier(Answering(), PROBES, LABELS, CLASSES) == (CLASSES, [])


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
        (lambda logits: logits + logits.mean(0), "depend on its batch"),
        (lambda logits: logits @ torch.ones(7, 7), r"fails on float32 images of shape \(40, 1, 6, 6\): RuntimeError"),
    ],
)
def test_a_broken_answer_is_refused_by_name(change, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        check_classifier(Answering(change), PROBES, LABELS, CLASSES)


@pytest.mark.parametrize("scale", [1e5, 1e8])
def test_rounding_grows_with_the_logits_and_what_depends_on_the_batch_is_seen_at_any_size(scale: float) -> None:
    def rounded(logits: Tensor) -> Tensor:
        # As float32 sums do that are taken in another order where the batch is another.
        return scale * logits * (1 + 1e-6 * (len(logits) == 1))

    assert check_classifier(Answering(rounded), PROBES, LABELS, CLASSES).warnings == []
    with pytest.raises(ContractError, match="depend on its batch"):
        check_classifier(Answering(lambda logits: scale * (logits + logits.mean(0))), PROBES, LABELS, CLASSES)


def test_log_probabilities_are_logits() -> None:
    assert check_classifier(Answering(lambda logits: logits.log_softmax(1)), PROBES, LABELS, CLASSES).warnings == []


def test_one_hot_answers_are_probabilities() -> None:
    with pytest.raises(ContractError, match="probabilities"):
        check_classifier(
            Answering(lambda logits: nn.functional.one_hot(logits.argmax(1), 3).float()), PROBES, LABELS, CLASSES
        )


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
def test_a_parameter_that_is_not_finite_is_named(broken: float) -> None:
    classifier = Answering()
    with torch.no_grad():
        classifier.inner.weight[1, 7] = broken
    with pytest.raises(ContractError, match=r"inner\.weight"):
        check_classifier(classifier, PROBES, LABELS, CLASSES)


def test_a_statistic_that_is_not_finite_is_named() -> None:
    classifier = with_layer(nn.BatchNorm1d(36)).eval()
    classifier[1].running_var.fill_(torch.nan)  # type: ignore[operator, union-attr]
    with pytest.raises(ContractError, match=r"1\.running_var"):
        check_classifier(classifier, PROBES, LABELS, CLASSES)


def random_classifier() -> nn.Module:
    return Answering(lambda logits: nn.functional.dropout(logits, 0.5))


def test_a_random_classifier_is_refused_with_the_way_out() -> None:
    with pytest.raises(ContractError, match=r"is random.*--allow-random"):
        check_classifier(random_classifier(), PROBES, LABELS, CLASSES)


def test_a_random_classifier_is_allowed_on_demand_with_a_warning() -> None:
    info = check_classifier(random_classifier(), PROBES, LABELS, CLASSES, allow_random=True)
    assert len(info.warnings) == 1
    assert "is random" in info.warnings[0]


def test_allowing_randomness_does_not_warn_of_a_classifier_that_is_not_random() -> None:
    assert check_classifier(Answering(), PROBES, LABELS, CLASSES, allow_random=True).warnings == []


def test_a_submodule_that_refuses_evaluation_mode_is_named() -> None:
    with pytest.raises(ContractError, match=r"is random.*left in training mode: 1\b"):
        check_classifier(with_layer(StubbornDropout()), PROBES, LABELS, CLASSES)


@pytest.mark.parametrize("allow_random", [False, True])
def test_batch_norm_that_refuses_evaluation_mode_is_named(allow_random: bool) -> None:
    """With one image it cannot answer at all, which is no reason to forget what is wrong."""
    with pytest.raises(ContractError, match=r"training mode: 1\b"):
        check_classifier(with_layer(StubbornBatchNorm(36)), PROBES, LABELS, CLASSES, allow_random=allow_random)


def test_batch_norm_in_training_mode_beside_dropout_is_refused_even_where_randomness_is_allowed() -> None:
    classifier = nn.Sequential(nn.Flatten(), StubbornBatchNorm(36), StubbornDropout(), nn.Linear(36, CLASSES))
    with pytest.raises(ContractError, match=r"buffers.*1\.running_mean"):
        check_classifier(classifier, PROBES, LABELS, CLASSES, allow_random=True)


def test_batch_norm_without_statistics_depends_on_the_batch() -> None:
    classifier = nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), nn.Flatten(), nn.Linear(36, CLASSES))
    with pytest.raises(ContractError, match="depend on its batch"):
        check_classifier(classifier, PROBES, LABELS, CLASSES)


def test_more_classes_than_the_data_has_are_worth_a_warning() -> None:
    info = check_classifier(Answering(classes=5), PROBES, LABELS, CLASSES)
    assert info.classes == 5
    assert info.warnings == ["the classifier knows 5 classes, the data has 3"]


def taught(normalize) -> tuple[nn.Module, Tensor]:
    """A classifier that is right on images normalized by ``normalize``, and the labels that make it so."""
    classifier = Answering()
    with torch.no_grad():
        classifier.inner.bias.zero_()
        answers = classifier(normalize(PROBES))
        classifier.inner.bias.sub_(answers.mean(0))
        return classifier, (answers - answers.mean(0)).argmax(1)


@pytest.mark.parametrize(
    ("normalize", "hint"),
    [
        (lambda images: images * 255, "0 to 255"),
        (lambda images: 2 * images - 1, "-1 to 1"),
        (lambda images: (images - 0.5) / 0.1, "mean 0 and deviation 1"),
    ],
)
def test_normalization_outside_the_model_is_seen(normalize, hint: str) -> None:
    classifier, labels = taught(normalize)
    (warning,) = check_classifier(classifier, PROBES, labels, CLASSES).warnings
    assert "seems to expect normalized images" in warning
    assert hint in warning


def test_a_classifier_that_refuses_images_outside_the_range_is_accepted() -> None:
    class Strict(Answering):
        def forward(self, images: Tensor):
            check_images(images)
            return super().forward(images)

    assert check_classifier(Strict(), PROBES, LABELS, CLASSES).warnings == []


@pytest.mark.parametrize("images", [PROBES * 255, PROBES - 0.5, PROBES.double(), PROBES[:, 0]])
def test_images_that_break_the_contract_are_not_blamed_on_the_classifier(images: Tensor) -> None:
    with pytest.raises(ContractError, match="the images to measure on"):
        check_classifier(Answering(), images, LABELS, CLASSES)


@pytest.mark.parametrize("mode", [True, False])
def test_checking_changes_nothing(mode: bool) -> None:
    classifier = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(36), nn.Dropout(), nn.Linear(36, CLASSES)).train(mode)
    classifier[3].bias.requires_grad_(False)
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    check_classifier(classifier, PROBES, LABELS, CLASSES)
    assert all(torch.equal(before[name], value) for name, value in classifier.state_dict().items())
    assert [module.training for module in classifier.modules()] == [mode] * 5
    assert {name for name, parameter in classifier.named_parameters() if not parameter.requires_grad} == {"3.bias"}
    assert all(parameter.grad is None for parameter in classifier.parameters())


def test_a_classifier_that_is_refused_is_given_back_as_it_was() -> None:
    classifier = with_layer(StubbornBatchNorm(36))
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    with pytest.raises(ContractError):
        check_classifier(classifier, PROBES, LABELS, CLASSES)
    assert all(torch.equal(before[name], value) for name, value in classifier.state_dict().items())
    assert all(parameter.requires_grad for parameter in classifier.parameters())

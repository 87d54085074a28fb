"""Features: computed once, of whatever classifier; and ODIN, which needs the classifier itself."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from helpers.classifiers import Linear, small_classifier
from torch import Tensor, nn

from hardy.data import load_dataset
from hardy.metrics import auroc
from hardy.models import Compact, Ensemble, SimpleNet, Strided, StudyCNN
from hardy.ood import OdinSetting, choose_odin, extract, odin_scores
from hardy.ood.logit_scores import max_softmax
from hardy.ood.odin import odin_perturb
from hardy.validation import frozen_evaluation


def digits(count: int = 40) -> Tensor:
    validation = load_dataset("mnist/validation")
    return validation.floats(validation.measuring_order()[:count])


def with_statistics(model: nn.Module) -> nn.Module:
    """Batch norms with running statistics and affine parameters that are not those of a fresh network."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
            with torch.no_grad():
                module.weight.uniform_(0.5, 2.0, generator=generator)
                module.bias.normal_(generator=generator)
    return model.eval()


NETWORKS = {
    "compact": lambda: Compact(width=4),
    "strided": Strided,
    "cnn": StudyCNN,
    "batch norm behind the head": lambda: SimpleNet(7, (4, 6)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_the_head_maps_the_features_to_the_logits(name: str) -> None:
    model = with_statistics(NETWORKS[name]())
    images = digits()
    features = extract(model, images)
    (member,) = features.members
    assert features.reason == ""
    assert member.penultimate is not None
    assert member.head is not None
    with torch.no_grad():
        logits = model(images).numpy()
    assert features.logits == pytest.approx(logits)
    assert member.penultimate @ member.head.weight.T + member.head.bias == pytest.approx(logits, rel=1e-3, abs=1e-3)
    assert len(member.layers) == sum(isinstance(module, nn.Conv2d) for module in model.modules())


def test_layers_are_means_and_deviations_over_space() -> None:
    model, images = StudyCNN().eval(), digits(5)
    with torch.no_grad():
        maps = model.conv1(images)
    expected = torch.cat([maps.mean((2, 3)), maps.flatten(2).std(2, correction=0)], dim=1)
    assert extract(model, images).members[0].layers[0] == pytest.approx(expected.numpy(), abs=1e-5)


def test_an_ensemble_is_asked_member_by_member() -> None:
    ensemble = Ensemble([with_statistics(Compact(width=2)), with_statistics(SimpleNet(7, (3, 4)))]).eval()
    images = digits()
    features = extract(ensemble, images)
    with torch.no_grad():
        assert features.logits == pytest.approx(ensemble(images).numpy(), abs=1e-4)
        for member, found in zip(ensemble.members, features.members, strict=True):
            assert found.logits == pytest.approx(member(images).numpy(), abs=1e-4)
    alone = features.of_member(1)
    assert alone.logits is features.members[1].logits
    assert len(alone.members) == 1


def test_features_do_not_depend_on_the_batch_size() -> None:
    model, images = with_statistics(Compact(width=4)), digits()
    once, thrice = extract(model, images), extract(model, images, batch_size=17)
    assert once.logits == pytest.approx(thrice.logits, abs=1e-4)
    for left, right in zip(once.members[0].layers, thrice.members[0].layers, strict=True):
        assert left == pytest.approx(right, abs=1e-4)
    assert once.members[0].penultimate == pytest.approx(thrice.members[0].penultimate, abs=1e-4)
    some = once.select(np.array([3, 1]))
    assert len(some) == 2
    assert np.array_equal(some.logits, once.logits[[3, 1]])


def test_nothing_of_the_classifier_is_changed() -> None:
    model = with_statistics(Compact(width=4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    extract(model, digits())
    with frozen_evaluation(model):
        odin_scores(model, digits(), OdinSetting(1.0, 0.1))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


class Without(nn.Module):
    """A linear layer for each pixel row, then a sum: no vector an image."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Linear(28, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.rows(images.squeeze(1)).sum(1)


class Squashed(Without):
    """Something that is not linear behind the last linear layer."""

    def forward(self, images: Tensor) -> Tensor:
        return self.rows(images.mean((1, 2))).tanh()


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Linear(torch.ones(10, 784), torch.zeros(10)), r"no nn\.Linear"),
        (Without(), "not given one vector per image"),
        (Squashed(), "not a linear map"),
    ],
)
def test_a_classifier_without_a_head_says_why(model: nn.Module, reason: str) -> None:
    features = extract(model.eval(), digits())
    assert re.search(reason, features.reason)
    assert features.members[0].penultimate is None
    assert features.logits.shape == (40, 10)


class TestOdin:
    def test_its_step_raises_the_top_softmax_in_distribution(self) -> None:
        model, images = small_classifier().eval(), digits(200)
        setting = OdinSetting(1.0, 0.02)
        with torch.no_grad():
            before = model(images).softmax(1).max(1).values
            after = model(odin_perturb(model, images, setting)).softmax(1).max(1).values
        assert (after > before).float().mean() > 0.95
        assert odin_scores(model, images, setting).mean() < odin_scores(model, images, OdinSetting(1.0, 0.0)).mean()

    def test_its_step_is_the_sign_of_the_gradient_in_closed_form(self) -> None:
        """Two classes, linear: the odds rise along the difference of their weights."""
        weight = torch.randn(2, 16, generator=torch.Generator().manual_seed(0))
        model = Linear(weight, torch.tensor([100.0, 0.0]))
        images = torch.full((3, 1, 4, 4), 0.5)
        step = odin_perturb(model, images, OdinSetting(0.33, 0.1)) - images
        assert step.flatten(1)[0] == pytest.approx(0.1 * (weight[0] - weight[1]).sign(), abs=1e-6)

    def test_without_a_step_it_is_max_softmax_at_the_temperature(self) -> None:
        model, images = small_classifier().eval(), digits()
        with torch.no_grad():
            logits = model(images).numpy()
        assert odin_scores(model, images, OdinSetting(0.33, 0.0)) == pytest.approx(max_softmax(logits / 0.33), rel=1e-4)

    def test_images_stay_in_range_and_do_not_depend_on_their_batch(self) -> None:
        model, images = small_classifier().eval(), digits()
        setting = OdinSetting(0.33, 0.1)
        perturbed = odin_perturb(model, images, setting)
        assert perturbed.min() >= 0.0
        assert perturbed.max() <= 1.0
        assert odin_scores(model, images, setting, 7) == pytest.approx(odin_scores(model, images, setting), abs=1e-3)

    def test_it_chooses_what_tells_the_outliers_apart(self) -> None:
        model, inside = small_classifier().eval(), digits(60)
        outside = torch.rand((60, 1, 28, 28), generator=torch.Generator().manual_seed(0))
        grid = (OdinSetting(1.0, 0.0), OdinSetting(10.0, 0.05), OdinSetting(0.33, 0.3))
        quality = {it: auroc(odin_scores(model, inside, it), odin_scores(model, outside, it)) for it in grid}
        assert choose_odin(model, inside, outside, grid) == max(grid, key=lambda it: quality[it])

"""What every registered attack and suite has to keep, in every norm that it works in."""

from __future__ import annotations

import copy
import doctest
import inspect
import re
from dataclasses import replace
from functools import partial

import pytest
import torch
from helpers.attacking import found_by
from helpers.cheap import cheaper
from helpers.classifiers import seeded_linear, small_classifier, some_digits
from torch import Tensor, nn

import hardy.attacks
from hardy.attacks import ATTACKS, SUITES, Attack, AttackResult, PublicAttack, run_attack, run_attacks
from hardy.rng import Randomness
from hardy.threats import NORMS, Norm, ThreatModel

RADIUS: dict[Norm, float] = {"linf": 0.15, "l2": 1.5, "l1": 10.0, "l0": 12}
COMMON = {"model", "images", "labels", "eps", "norm", "seed", "batch_size", "precision"}
# Each function that users call, beside the registered attacks that it is to run.
PUBLIC: dict[str, tuple[PublicAttack, tuple[Attack, ...]]] = {
    **{name: (getattr(hardy.attacks, attack.function.__name__), (attack,)) for name, attack in ATTACKS.items()},
    "standard": (hardy.attacks.autoattack, SUITES["standard"].attacks),
}

each = pytest.mark.parametrize("name", PUBLIC)
in_each_norm = pytest.mark.parametrize(
    ("name", "norm"),
    [
        (name, norm)
        for name, (_, attacks) in PUBLIC.items()
        for norm in NORMS
        if all(norm in attack.norms for attack in attacks)
    ],
)


def cheap(name: str) -> list[Attack]:
    return [cheaper(attack) for attack in PUBLIC[name][1]]


def attacked(name: str, norm: Norm, batch_size: int = 500) -> AttackResult:
    classifier, (images, labels, indices) = small_classifier(), some_digits()
    threats = [ThreatModel(norm, RADIUS[norm])]
    return run_attacks(
        classifier, images, labels, cheap(name), threats, rng=Randomness(0, indices), batch_size=batch_size
    )


def test_every_item_is_here_and_has_a_function() -> None:
    assert set(PUBLIC) == {*ATTACKS, *SUITES}
    assert all(function.attacks == attacks for function, attacks in PUBLIC.values())
    assert all(function.__name__ in hardy.attacks.__all__ for function, _ in PUBLIC.values())


@each
def test_an_attack_says_what_it_is(name: str) -> None:
    function, attacks = PUBLIC[name]
    item = ATTACKS.get(name) or SUITES[name]
    assert item.name == name
    assert item.title
    assert re.search(r"arXiv:\d{4}\.\d{4,5}", item.reference)
    assert item.reference in (function.__doc__ or "")
    assert all(attack.norms for attack in attacks)


@each
def test_a_signature_shows_each_setting_with_its_default_and_the_docstring_explains_it(name: str) -> None:
    function, attacks = PUBLIC[name]
    parameters = inspect.signature(function).parameters
    settings = dict(attacks[0].settings) if name in ATTACKS else {}
    assert {key: it.default for key, it in parameters.items() if key not in COMMON} == settings
    assert set(parameters) >= COMMON
    documented = re.findall(r"^    (\w+): ", function.__doc__ or "", flags=re.MULTILINE)
    assert [key for key in parameters if key not in documented] == []
    assert parameters["norm"].default == attacks[0].norms[0]


@each
def test_the_example_of_the_docstring_runs(name: str) -> None:
    function, _ = PUBLIC[name]
    test = doctest.DocTestParser().get_doctest(function.__doc__ or "", {}, name, None, None)
    assert len(test.examples) >= 4
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        report = doctest.DocTestRunner().run(test)
    assert report.failed == 0


@in_each_norm
def test_what_users_call_is_what_the_engine_runs(name: str, norm: Norm) -> None:
    function, attacks = PUBLIC[name]
    model, images = seeded_linear(), torch.rand(5, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    labels, eps = torch.tensor([0, 1, 2, 0, 1]), RADIUS[norm] / 2
    settings = dict(cheaper(attacks[0]).settings) if name in ATTACKS else {}
    result = function(model, images, labels, norm=norm, eps=[eps, 2 * eps], seed=3, **settings)
    chosen = [attack.with_settings(**settings) for attack in attacks]
    rng = Randomness(3, torch.arange(5), ("attack",))
    same = run_attacks(model, images, labels, chosen, [ThreatModel(norm, eps), ThreatModel(norm, 2 * eps)], rng=rng)
    assert torch.equal(result.images, same.images)
    assert torch.equal(result.min_norm, same.min_norm)
    assert torch.equal(result.broken, result.prediction != labels)


@in_each_norm
def test_an_attack_finds_images_inside_the_ball_that_the_classifier_gets_wrong(name: str, norm: Norm) -> None:
    classifier, (images, labels, indices) = small_classifier(), some_digits()
    labels = torch.cat([labels[:-2], (labels[-2:] + 1) % 10])
    before, clean_images = copy.deepcopy(classifier.state_dict()), images.clone()
    threats = [ThreatModel(norm, RADIUS[norm] / 3), ThreatModel(norm, RADIUS[norm])]
    result = run_attacks(classifier, images, labels, cheap(name), threats, rng=Randomness(0, indices))

    assert torch.equal(images, clean_images)
    assert classifier.training
    assert all(torch.equal(before[key], value) for key, value in classifier.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in classifier.parameters())
    assert threats[-1].contains(result.images, images).all()
    assert ((result.images >= 0) & (result.images <= 1)).all()
    with torch.no_grad():
        clean, found = (classifier.eval()(batch).argmax(1) for batch in (images, result.images))
    assert torch.equal(result.clean_prediction, clean)
    assert torch.equal(result.prediction, found)
    wrong = clean != labels
    assert wrong[-2:].all()
    assert torch.equal(result.min_norm == 0, wrong)
    assert torch.equal(result.images[wrong], images[wrong])
    assert torch.equal(found != labels, result.broken)
    distance = threats[-1].distance(result.images, images).double()
    assert torch.allclose(distance[result.broken], result.min_norm[result.broken], rtol=1e-4)
    assert torch.equal(result.images[~result.broken], images[~result.broken])


@in_each_norm
def test_an_attack_does_the_same_again_and_at_any_batch_size(name: str, norm: Norm) -> None:
    whole, again, small = attacked(name, norm), attacked(name, norm), attacked(name, norm, batch_size=5)
    assert torch.equal(whole.min_norm, again.min_norm)
    assert torch.equal(whole.images, again.images)
    # Rounding differs with the batch; a verdict may differ where it hangs on that.
    assert (whole.broken != small.broken).sum() <= 1


@pytest.mark.parametrize(
    ("attack", "norm"),
    [
        (attack, norm)
        for attack in ATTACKS.values()
        if attack.takes("start") and attack.search == "fixed"
        for norm in attack.norms
    ],
    ids=lambda it: it.name if isinstance(it, Attack) else it,
)
def test_a_warm_start_goes_on_where_another_search_ended(attack: Attack, norm: Norm) -> None:
    classifier, (images, labels, indices) = small_classifier().eval(), some_digits()
    threat = ThreatModel(norm, 2 * RADIUS[norm])
    first = run_attack(classifier, images, labels, attack, [threat], rng=Randomness(0, indices), precision="float32")
    with torch.no_grad():
        rows = ((first.min_norm > 0) & first.broken).nonzero().squeeze(1)
        clean, labels = images[rows], labels[rows]
        # A little short of where they fool, so that some do not.
        start = torch.lerp(clean, first.images[rows], 0.99)
        fooled = classifier(start).argmax(1) != labels
        assert len(rows)
        warm = replace(attack, function=partial(attack.function, start=start))
        found = found_by(warm, classifier, clean, labels, threat, Randomness(0, indices[rows]))
        inside = torch.where(threat.contains(found, clean).reshape(-1, 1, 1, 1), found, clean)
        now_fooled = classifier(inside).argmax(1) != labels
    assert now_fooled.sum() > fooled.sum() or fooled.all()
    assert now_fooled.double().mean() >= 0.75


class Constant(nn.Module):
    """Always the same answer, and a gradient of 0."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, images: Tensor) -> Tensor:
        return torch.eye(self.classes)[1] + 0.0 * images.flatten(1)[:, :1]


@pytest.mark.parametrize("classes", [2, 3, 4])
@in_each_norm
def test_an_attack_takes_few_classes_one_image_none_and_a_gradient_of_0(name: str, norm: Norm, classes: int) -> None:
    images = torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    threats = [ThreatModel(norm, 2.0)]

    def result_of(model: nn.Module, labels: Tensor) -> AttackResult:
        count = len(labels)
        rng = Randomness(0, torch.arange(count))
        return run_attacks(model, images[:count], labels, cheap(name), threats, rng=rng)

    assert len(result_of(Constant(classes), torch.ones(0, dtype=torch.int64)).images) == 0
    assert result_of(Constant(classes), torch.zeros(3, dtype=torch.int64)).min_norm.tolist() == [0.0, 0.0, 0.0]
    flat = result_of(Constant(classes), torch.ones(3, dtype=torch.int64))
    assert not flat.broken.any()
    assert torch.equal(flat.images, images)
    model = seeded_linear(classes)
    alone = result_of(model, model(images[:1]).argmax(1))
    assert len(alone.images) == 1
    assert alone.min_norm > 0

"""Every score is in one registry, says what it is, and is listed."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from hardy.cli.main import app
from hardy.ood import DETECTORS, SCORES
from hardy.ood.learned_score import LEARNED
from hardy.ood.member_scores import MEMBER_SCORES
from hardy.ood.odin import ODIN


def test_every_score_is_listed() -> None:
    listed = json.loads(CliRunner().invoke(app, ["list", "scores", "--json"], catch_exceptions=False).stdout)
    assert listed.keys() == DETECTORS.keys()
    assert listed.keys() >= {*SCORES, *MEMBER_SCORES, ODIN.name, LEARNED.name, "combination"}
    assert len(listed) == 20


@pytest.mark.parametrize("name", DETECTORS)
def test_a_method_says_what_it_is_what_it_needs_and_what_it_is_fitted_on(name: str) -> None:
    method = DETECTORS[name]
    assert method.title
    assert "(" not in method.title or name == "generalized_entropy"
    assert method.description == " ".join(method.description.split())
    assert (method.fit is None) == (method.fitted_on in ("nothing", "validation images and synthetic outliers"))

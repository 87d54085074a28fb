"""Written properties, read back clause by clause, say what the ball and the label say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from helpers.certifying import build, randomize
from onnx.reference import ReferenceEvaluator

import hardy
from hardy.certification import write_vnnlib
from hardy.errors import ContractError

SHAPE = (1, 6, 6)


def read(text: str) -> list[Any]:
    """S-expressions as nested lists; ';' begins a comment."""
    stack: list[list[Any]] = [[]]
    for token in re.findall(r"[()]|[^\s()]+", re.sub(r";.*", "", text)):
        if token == "(":
            stack.append([])
        elif token == ")":
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(token)
    assert len(stack) == 1
    return stack[0]


def holds(clause: Any, values: dict[str, float]) -> bool:
    match clause:
        case [("<=" | ">=") as sign, first, second]:
            a, b = (values[it] if it in values else float(it) for it in (first, second))
            return a <= b if sign == "<=" else a >= b
        case ["and", *parts]:
            return all(holds(it, values) for it in parts)
        case ["or", *parts]:
            return any(holds(it, values) for it in parts)
    raise AssertionError(f"unknown clause {clause}")


def satisfied(text: str, image: np.ndarray, logits: np.ndarray) -> bool:
    values = {f"X_{number}": float(it) for number, it in enumerate(image.flatten())}
    values |= {f"Y_{number}": float(it) for number, it in enumerate(logits)}
    forms = read(text)
    assert {it[1] for it in forms if it[0] == "declare-const"} == values.keys()
    assert all(it[2] == "Real" for it in forms if it[0] == "declare-const")
    return all(holds(it[1], values) for it in forms if it[0] == "assert")


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, torch.nn.Module, torch.Tensor, torch.Tensor]:
    model, generator = build("relu"), torch.Generator().manual_seed(0)
    randomize(model, generator)
    images = (1.4 * torch.rand(4, *SHAPE, generator=generator) - 0.2).clamp(0, 1)
    with torch.no_grad():
        labels = model(images).argmax(1)
    labels[3] = (labels[3] + 1) % 3
    out = write_vnnlib(model, images, labels, tmp_path / "out", eps=0.2, indices=[7, 3, 12345, 0], seconds=60)
    return out, model, images, labels


def test_a_property_is_satisfied_by_counterexamples_in_the_ball_alone(written: Any) -> None:
    out, _, images, labels = written
    rng, rows = np.random.default_rng(0), json.loads((out / "export.json").read_text())["images"]
    for image, label, row in zip(images.double().numpy(), labels.tolist(), rows, strict=True):
        text = (out / row["property"]).read_text()
        assert "e-" not in text.replace("declare-const", "")
        for _ in range(30):
            change = rng.uniform(-0.25, 0.25, image.shape) * rng.choice([0.5, 1.0])
            other, logits = image + change, rng.normal(size=3)
            inside = bool((np.abs(change) <= 0.2).all() and (other >= 0).all() and (other <= 1).all())
            assert satisfied(text, other, logits) == (inside and np.delete(logits, label).max() >= logits[label])
        other = np.clip(image + 0.2, 0, 1)
        wrong, tie = np.eye(3)[(label + 1) % 3], np.zeros(3)
        assert satisfied(text, other, wrong)
        assert satisfied(text, other, tie)
        assert not satisfied(text, other, np.eye(3)[label])
        assert not satisfied(text, np.clip(image + 0.2, 0, 1) + 1e-9, wrong)


def test_network_instances_and_facts_agree(written: Any) -> None:
    out, model, images, labels = written
    facts = json.loads((out / "export.json").read_text())
    assert (facts["norm"], facts["eps"], facts["classes"], facts["input"]) == ("linf", 0.2, 3, [1, 6, 6])
    assert [row["index"] for row in facts["images"]] == [7, 3, 12345, 0]
    assert [row["label"] for row in facts["images"]] == labels.tolist()
    assert [row["answer"] == row["label"] for row in facts["images"]] == [True, True, True, False]
    lines = (out / "instances.csv").read_text().splitlines()
    assert lines == [f"network.onnx,{row['property']},60" for row in facts["images"]]
    assert all((out / row["property"]).exists() for row in facts["images"])
    evaluator = ReferenceEvaluator(onnx.load(out / "network.onnx"))
    with torch.no_grad():
        for image in images.split(1):
            found: Any = evaluator.run(None, {"images": image.numpy()})
            np.testing.assert_allclose(found[0], model(image), atol=1e-5)


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    images, labels = torch.rand(2, *SHAPE), torch.tensor([0, 1])
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine").write_text("kept")
    with pytest.raises(hardy.UsageError, match="not empty"):
        write_vnnlib(build("relu"), images, labels, full, eps=0.1)
    out = tmp_path / "out"
    with pytest.raises(hardy.UsageError, match="different indices"):
        write_vnnlib(build("relu"), images, labels, out, eps=0.1, indices=[1, 1])
    with pytest.raises(ContractError, match="labels"):
        write_vnnlib(build("relu"), images, labels + 2, out, eps=0.1)
    with pytest.raises(hardy.UsageError, match="eps"):
        write_vnnlib(build("relu"), images, labels, out, eps=-0.1)
    assert [it.name for it in tmp_path.iterdir()] == ["full"]
    assert [it.name for it in full.iterdir()] == ["mine"]

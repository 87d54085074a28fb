"""Public hardened networks as ground truth: their loaders, and where weights are at hand the published figures."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest
import safetensors.torch
import torch

ROOT = Path(__file__).parent.parent
# The folder of the weights; without it nothing can be measured.
FOLDER = Path(os.environ.get("HARDY_PUBLIC_NETWORKS", ROOT / "data" / "public-networks"))


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("public_networks", ROOT / "examples" / "public_networks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_networks_have_the_sizes_that_their_authors_name(example: ModuleType) -> None:
    sizes = {name: sum(it.numel() for it in each.build().parameters()) for name, each in example.NETWORKS.items()}
    assert sizes == {"fast_adversarial": 166_406, "trades": 312_202, "madry": 3_274_634}
    for each in example.NETWORKS.values():
        assert each.build().eval()(torch.rand(2, 1, 28, 28)).shape == (2, 10)


def test_files_are_found_by_their_names_and_measured(example: ModuleType, tmp_path: Path) -> None:
    network = example.fast_adversarial()
    safetensors.torch.save_file(network.state_dict(), tmp_path / "fast_adversarial_any.safetensors")
    safetensors.torch.save_file(network.state_dict(), tmp_path / "other.safetensors")
    (found,) = example.found_in(tmp_path)
    row = example.measured(*found, count=4)
    # Nothing was trained: what is published lies far from that.
    assert row.robust <= row.clean <= 0.75
    assert not row.agrees


@pytest.mark.skipif(not FOLDER.is_dir(), reason="HARDY_PUBLIC_NETWORKS names no folder of public networks' weights")
def test_published_figures_lie_in_the_intervals(example: ModuleType) -> None:
    rows = [example.measured(*each, count=60) for each in example.found_in(FOLDER)]
    assert rows
    assert [row.file.name for row in rows if not row.agrees] == []

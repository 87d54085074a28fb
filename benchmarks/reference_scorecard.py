"""Makes what the report's scales mark as the reference network, from an evaluated run.

The run is that of the recipe ``compact``, evaluated at the quick budget with seed 0, as ``hardy demo`` leaves it in
``runs/demo/compact``: ``python benchmarks/reference_scorecard.py runs/demo/compact``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import hardy.report
from hardy.evaluation.compare import identity
from hardy.evaluation.scorecard import Scorecard


def main(run: Path) -> None:
    scorecard = Scorecard.read(run / "scorecard.json")
    content = {
        "name": scorecard.subject.name,
        "budget": scorecard.budget,
        "seed": scorecard.seed,
        "estimates": [[*identity(each), float(f"{each.value:.6g}")] for each in scorecard.estimates if each.headline],
    }
    path = Path(hardy.report.__file__).parent / "reference.json"
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"{len(content['estimates'])} figures of {scorecard.subject.name}: {path}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""What a system did under attack, as a table, and some of the images that it was made to answer wrongly."""

from __future__ import annotations

import numpy as np

from hardy.evaluation.charts import Chart, Table
from hardy.evaluation.framework import Results
from hardy.evaluation.properties.adversarial.charts import gallery
from hardy.evaluation.properties.system.measure import attacked
from hardy.evaluation.properties.system.metrics import metrics


def draw(results: Results) -> list[Chart]:
    measured = attacked(results.context)
    if not measured:
        return []
    rows = []
    for metric in metrics(results):
        setting = metric.setting
        place = f"{setting['norm']} {setting['eps']:g}" if setting["eps"] else "unperturbed"
        value = metric.compute(np.ones(metric.n))
        inputs = str(setting.get("inputs", metric.dataset))
        rows.append((metric.kind.title, inputs, place, f"{value:.1%}", f"{metric.n:,}"))
    table = Table(
        title="The system under attack",
        caption="Each share with how many images it is of.",
        header=("share", "images", "within", "value", "of"),
        rows=tuple(dict.fromkeys(rows)),
    )
    galleries = gallery(results, measured[0].wrong, "an attack on the whole system")
    return [table, *galleries]

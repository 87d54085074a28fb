"""What an ensemble's members answer."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.classifiers import small_classifier, some_digits

from hardy.errors import ContractError
from hardy.evaluation.framework import Measurement, Shard
from hardy.evaluation.properties import measurement_functions
from hardy.models import Ensemble


class TestMembersMeasure:
    def shard(self) -> Shard:
        return Shard(*some_digits(12))

    @pytest.mark.parametrize("batch_size", [5, 12])
    def test_rows_hold_one_member_after_another(self, batch_size: int) -> None:
        first, second = small_classifier().eval(), small_classifier().eval()
        with torch.no_grad():
            second.head.bias.add_(torch.arange(10.0))
        measurement = Measurement.of("predict_members", "mnist/test", 12)
        columns = measurement_functions()["predict_members"](
            Ensemble([first, second]), self.shard(), measurement, seed=0, batch_size=batch_size
        )
        with torch.no_grad():
            expected = torch.cat([first(self.shard().images), second(self.shard().images)], dim=1)
        np.testing.assert_allclose(columns["logits"], expected.numpy(), atol=1e-5)

    def test_a_single_network_has_no_members(self) -> None:
        with pytest.raises(ContractError, match="SmallNet has no members"):
            measurement_functions()["predict_members"](
                small_classifier(),
                self.shard(),
                Measurement.of("predict_members", "mnist/test", 12),
                seed=0,
                batch_size=5,
            )

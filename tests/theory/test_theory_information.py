"""Theorems about information: the water of a maximum stands at one level."""

import numpy as np
import pytest

from rqf_jax.theory.information import water_filling


@pytest.mark.parametrize("budget", [0.0, 0.3, 2.0, 50.0])
def test_powers_spend_the_budget_and_stand_at_one_level(budget):
    gains = np.array([0.2, 5.0, 1.0, 0.0, 3.0])
    powers = water_filling(gains, budget)
    assert powers.min() >= 0 and abs(powers.sum() - budget) < 1e-6
    # The conditions of a maximum: equal slopes a/(1 + a c) where c > 0, and smaller ones elsewhere.
    slopes = gains / (1 + gains * powers)
    open_ = powers > 0
    if open_.any():
        assert np.ptp(slopes[open_]) < 1e-6
        assert slopes[~open_].max(initial=0.0) <= slopes[open_].min() + 1e-6


def test_two_channels_by_hand():
    # 1/a = 1 and 2 with 3 to spend: the level is 3.
    np.testing.assert_allclose(water_filling([1.0, 0.5], 3.0), [2.0, 1.0], atol=1e-12)
    with pytest.raises(ValueError, match="`gains` must be one axis of numbers ≥ 0"):
        water_filling([-1.0, 1.0], 1.0)

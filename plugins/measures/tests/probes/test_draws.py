"""Stratified draws of labelled examples."""

from __future__ import annotations

import numpy as np
import pytest
from uncollapse.errors import ConfigError
from uncollapse_measures.probes import stratified_draw


def _rng(seed=0):
    return np.random.default_rng(seed)


def test_classes_keep_their_share():
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    labels = _rng().permutation(labels)
    chosen = stratified_draw(labels, 50, _rng())
    assert len(np.unique(chosen)) == 50
    assert np.bincount(labels[chosen]).tolist() == [30, 15, 5]


@pytest.mark.parametrize("count", [4, 5, 7, 11, 103])
def test_exactly_the_number_asked_for_with_every_class(count):
    labels = np.repeat([0, 1, 5, 9], [90, 7, 3, 3])
    chosen = stratified_draw(labels, count, _rng())
    assert len(chosen) == len(np.unique(chosen)) == count
    assert set(labels[chosen]) == {0, 1, 5, 9}


def test_seeded():
    labels = np.repeat([0, 1], 50)
    same = [stratified_draw(labels, 10, _rng(3)).tolist() for _ in range(2)]
    assert same[0] == same[1]
    assert same[0] != stratified_draw(labels, 10, _rng(4)).tolist()


@pytest.mark.parametrize("count", [2, 10])
def test_impossible_numbers_are_errors_with_the_place(count):
    with pytest.raises(ConfigError, match=r"evaluation.probes.labels: found \d+; allowed: from 3 .* to 9"):
        stratified_draw(np.repeat([0, 1, 2], 3), count, _rng())

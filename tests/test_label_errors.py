"""Labels that are probably wrong, and splits that can be told apart, by hand."""

import numpy as np

from tl_lightning.evaluation.domains import domains
from tl_lightning.evaluation.label_errors import of_classes, of_several, out_of_fold


def test_suspects_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.02, 0.98], [0.1, 0.9], [0.1, 0.9], [0.4, 0.6]])
    targets = np.array([0, 0, 0, 1, 1, 0])
    suspects = of_classes(np.tile(probabilities, (1, 1)), targets, ("a", "b"))
    assert [(s.place, s.suggested, s.sure) for s in suspects] == [(2, "b", False), (5, "b", False)]  # 4 of 6 are right
    many = of_classes(np.tile(probabilities[:5], (3, 1)), np.tile(targets[:5], 3), ("a", "b"))
    assert [(s.place, s.sure) for s in many] == [(2, True), (7, True), (12, True)]
    several = of_several(probabilities[:, 1:], targets[:, None], ("b",))
    assert [(s.place, s.suggested) for s in several] == [(2, "b"), (5, "b")]


def test_copies_are_left_out_together():
    random = np.random.default_rng(0)
    rows, targets = random.normal(size=(60, 4)).astype(np.float32), np.arange(60) % 2
    units = np.arange(60) // 2
    seen = []

    def fit(known, labels):
        seen.append({tuple(row) for row in known})
        return lambda new: np.array([[float(tuple(row) in seen[-1]), 0.0] for row in new])

    assert not out_of_fold(rows, targets, fit, units, units % 3).any()  # no sample is among those it is judged by
    for known in seen:
        inside = [tuple(row) in known for row in rows]
        assert all(inside[2 * k] == inside[2 * k + 1] for k in range(30))
        assert 0.7 < np.mean(inside) < 0.9


def test_splits_that_can_be_told_apart():
    random = np.random.default_rng(0)
    rows, second = random.normal(size=(300, 10)), np.arange(300) % 3 == 0
    alike, apart = domains(rows, second), domains(rows + 0.8 * second[:, None], second)
    assert not alike.differ and abs(alike.auroc - 0.5) < 3 * alike.error
    assert apart.differ and apart.auroc > 0.9

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from astrolabel.core.box import Box
from astrolabel.report import metrics


def instances(centres, masks=None, blended=None, whole=None):
    n = len(centres)
    square = np.ones((5, 5), bool)
    return metrics.Instances(
        np.array(centres, float).reshape(-1, 2),
        masks or [(square, Box.around(y, x, 2)) for y, x in centres],
        np.zeros(n, bool) if blended is None else np.array(blended),
        np.ones(n, bool) if whole is None else np.array(whole),
    )


def test_two_labels_cannot_both_claim_one_source():
    found = metrics.compare(instances([(10, 10), (11, 10)]), instances([(10, 10)]))
    assert found.completeness == 1
    assert found.purity == 0.5


def test_a_label_on_a_source_too_faint_for_a_mask_is_not_false():
    labels, truth = instances([(10, 10), (30, 30)]), instances([(10, 10)])
    everything = np.array([[10.0, 10.0], [30.0, 31.0]])
    assert metrics.compare(labels, truth).purity == 0.5
    assert metrics.compare(labels, truth, everything).purity == 1


def test_blended_sources_are_counted_apart():
    truth = instances([(10, 10), (30, 30), (50, 50)], blended=[True, True, False])
    found = metrics.compare(instances([(10, 10), (50, 50)]), truth)
    assert found.completeness == pytest.approx(2 / 3)
    assert found.completeness_blended == 0.5
    assert (found.n_truth, found.n_blended, found.n_labels) == (3, 2, 2)


def test_what_an_edge_cuts_is_not_counted():
    truth = instances([(10, 10), (30, 30)], whole=[True, False])
    found = metrics.compare(instances([(10, 10)]), truth)
    assert found.completeness == 1
    assert found.n_truth == 1


def test_labels_of_one_object_are_counted_where_its_mask_is_and_no_other_source_has_them():
    whole = (np.ones((41, 41), bool), Box.around(50, 50, 20))
    small = (np.ones((5, 5), bool), Box.around(60, 60, 2))
    truth = instances([(50, 50), (60, 60)], masks=[whole, small])
    objects = np.array([0])

    def count(*centres, masks=None):
        return list(metrics.labels_per_object(instances(centres, masks), truth, objects))

    assert count() == [0]
    assert count((50, 50)) == [1]
    assert count((50, 50), (60, 60)) == [1]  # the other source's own
    assert count((50, 50), (40, 40), (65, 45)) == [3]  # shreds
    assert count((50, 50), (90, 90)) == [1]  # elsewhere
    assert count((29.5, 50), masks=[(np.ones((1, 1), bool), Box(0, 0, 1, 1))]) == [1]  # its edge
    faint = np.array([(50, 50), (40, 40)])  # the object's own, and one without a mask
    found = instances([(50, 50), (41, 40), (65, 45)])
    assert list(metrics.labels_per_object(found, truth, objects, faint)) == [2]
    own = instances([(41, 40)], [whole])  # of the object, its middle off by chance
    assert list(metrics.labels_per_object(own, truth, objects, faint)) == [1]
    # A centre beyond the mask counts with most of the label's own mask inside.
    inside, outside = Box(30, 30, 20, 20), Box(15, 30, 20, 20)
    square = np.ones((20, 20), bool)
    assert count((10, 10), masks=[(square, inside)]) == [1]
    assert count((10, 10), masks=[(square, outside)]) == [0]


def test_iou_of_shifted_squares():
    square = np.ones((4, 4), bool)
    assert metrics.iou((square, Box(0, 0, 4, 4)), (square, Box(0, 2, 4, 4))) == pytest.approx(
        8 / 24
    )
    assert metrics.iou((square, Box(0, 0, 4, 4)), (square, Box(9, 9, 4, 4))) == 0
    assert metrics.iou((square, Box(3, 3, 4, 4)), (square, Box(3, 3, 4, 4))) == 1


points = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=12)


@given(points, points)
def test_matches_are_one_to_one_and_no_better_pair_is_left(a, b):
    a, b = np.array(a, float).reshape(-1, 2), np.array(b, float).reshape(-1, 2)
    pairs = metrics.match(a, b, 3.0)
    assert len(set(pairs[:, 0])) == len(set(pairs[:, 1])) == len(pairs)
    gap = np.hypot(a[:, None, 0] - b[:, 0], a[:, None, 1] - b[:, 1])
    of_a = {i: gap[i, j] for i, j in pairs}
    of_b = {j: gap[i, j] for i, j in pairs}
    for i in range(len(a)):
        for j in range(len(b)):
            if gap[i, j] <= 3.0:
                # Somebody got what this pair would have taken, and nearer.
                assert min(of_a.get(i, 99), of_b.get(j, 99)) <= gap[i, j]

"""Where ticks, spans and labels of charts stand."""

import pytest

from oneshot.report.axes import Axis, padded, without_outliers
from oneshot.report.labels import Box, Label, place_labels


def test_ticks_are_round_and_inside():
    values, step = Axis(10.0, 65.0, 0, 1000).ticks(apart=110)
    assert (values, step) == ([10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 65], 5)
    assert Axis(0.712, 0.7193, 400, 0).ticks(apart=100)[0] == pytest.approx([0.712, 0.714, 0.716, 0.718])
    assert Axis(10.0, 60.0, 400, 0).place(35.0) == 200


def test_a_span_has_air_and_keeps_to_its_bounds():
    assert padded([10.0, 20.0], air=0.1) == (9, 21)
    assert padded([0.1, 100.0], air=0.1, ceiling=100) == (0, 100)
    assert padded([50.0, 50.0], air=0.1) == (47.5, 52.5)
    assert padded([0.0], air=0.1) == (0, 1)


def test_outliers_are_far_below_the_rest():
    assert without_outliers([0.5]) == 0.5
    assert without_outliers([0.5, 0.5, 0.5]) == 0.5
    assert without_outliers([0.01, *(0.6 + i / 1000 for i in range(100))]) == 0.6
    assert without_outliers([0.55, *(0.6 + i / 1000 for i in range(100))]) == 0.55


def test_labels_avoid_marks_and_each_other():
    frame = Box(0, 0, 300, 200)
    labels = [Label("a label", 150.0, 100.0, ""), Label("another", 152.0, 100.0, ""), Label("third", 296.0, 4.0, "")]
    marks = [(label.x, label.y) for label in labels]
    boxes = place_labels(labels, frame=frame, marks=marks, lines=[])
    assert all(a.overlap(b) == 0 for i, a in enumerate(boxes) for b in boxes[:i])
    assert all(not box.holds(*mark) for box in boxes for mark in marks)
    assert all(box.left >= 0 and box.right <= 300 and box.top >= 0 and box.bottom <= 200 for box in boxes)
    wall = [(float(x), 88.0) for x in range(100, 200, 5)]
    assert place_labels(labels[:1], frame=frame, marks=marks[:1], lines=[])[0].bottom < 100
    assert not any(place_labels(labels[:1], frame=frame, marks=marks[:1], lines=wall)[0].holds(*spot) for spot in wall)

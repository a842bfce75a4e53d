from itertools import combinations

import pytest

from deepalign_cli.plots.placing import Box, Placer


def overlap(a: Box, b: Box) -> bool:
    return a.x0 < b.x1 and b.x0 < a.x1 and a.y0 < b.y1 and b.y0 < a.y1


def test_a_label_is_near_what_it_names():
    found = Placer(Box(0, 0, 400, 300)).place(60, 12, [(200, 150)])
    assert overlap(found, Box(199, 149, 201, 151))


def test_it_covers_no_line_and_no_other_label():
    placer = Placer(Box(0, 0, 400, 300))
    placer.add_line([(0, 150), (400, 150)])
    boxes = [placer.place(80, 14, [(200, 150)]) for _ in range(12)]
    assert not any(overlap(a, b) for a, b in combinations(boxes, 2))
    assert not any(box.y0 <= 150 <= box.y1 for box in boxes)


def test_it_stays_in_the_frame():
    frame = Box(100, 50, 300, 150)
    box = Placer(frame).place(60, 12, [(1000, -1000)])
    assert frame.x0 <= box.x0 < box.x1 <= frame.x1
    assert frame.y0 <= box.y0 < box.y1 <= frame.y1


def test_a_line_that_breaks_leaves_room_where_it_does():
    placer = Placer(Box(0, 0, 400, 300))
    placer.add_line([(0, 150), (100, 150), (float("nan"), float("nan")), (300, 150), (400, 150)])
    assert placer.place(60, 12, [(200, 150)]).centre == pytest.approx((200, 150), abs=4)


def test_where_all_is_taken_there_is_still_a_place():
    placer = Placer(Box(0, 0, 50, 20))
    placer.add_box(Box(0, 0, 50, 20))
    box = placer.place(400, 100, [(25, 10)])
    assert box.x1 - box.x0 == 400

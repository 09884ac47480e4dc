"""The picture of a run can be read."""

from __future__ import annotations

from xml.etree import ElementTree

from faults import picture
from faults.history import Event


def test_names_of_faults_that_come_together_do_not_cover_each_other() -> None:
    names = ["Redis wiped", "scripts forgotten", "Redis hung", "connections killed", "reply dropped", "kill -9"]
    events = [Event(0.0, -1, "", "start")]
    for number, name in enumerate(names * 4):
        begun = number // 6 * 7.5 + number % 6 / 10
        events += [
            Event(begun, -1, "", "fault", {"kind": name}),
            Event(begun + 0.05, -1, "", "healed", {"kind": name}),
        ]
    image = ElementTree.fromstring(picture.draw("a run", events, {}, [], "lost update"))
    width = float(image.attrib["width"])
    found = [
        (float(text.attrib["y"]), float(text.attrib["x"]), len(text.text or "") * picture._LETTER)
        for text in image.iter("{http://www.w3.org/2000/svg}text")
        if text.attrib.get("font-size") == "8"
    ]
    assert len(found) == len(names) * 4
    assert all(x + size <= width for _, x, size in found)
    for (y, x, size), (other_y, other_x, _) in zip(sorted(found), sorted(found)[1:], strict=False):
        assert y != other_y or x + size <= other_x

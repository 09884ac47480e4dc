"""A run of the lab, looked at while it is under way."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import expect

from .conftest import DEADLINE, Visit, start_lab


def test_a_run_moves_to_its_end_under_the_readers_eyes(visit: Visit, pictures: Path) -> None:
    page = visit("alice")
    page.goto("/lab/")
    start_lab(page, "global", "pooling")
    # Every value that the bar has, in the order in which it has them.
    page.evaluate(
        """() => { const bar = document.querySelector('progress'); window.seen = [bar.value];
        new MutationObserver(() => window.seen.push(bar.value)).observe(bar, {childList: true, attributes: true}); }"""
    )
    results = page.get_by_role("region", name="Results")
    results.focus()
    expect(page.get_by_role("status")).to_have_text(re.compile("^Done: "), timeout=2 * DEADLINE)
    seen = page.evaluate("window.seen")
    assert seen == sorted(seen)
    assert any(0 < value < 100 for value in seen)
    assert seen[-1] == 100
    expect(results).to_be_focused()  # what is put in leaves the reader where she is
    assert page.locator("tbody tr.best").count() == 1
    assert page.locator(".chart .line").count() == 8  # two schemes in four charts
    page.screenshot(path=pictures / "lab run to its end.png", full_page=True)
    page.get_by_role("link", name="Another run").click()
    expect(page.locator(".lines li").first).to_contain_text("fastest: ")


def test_whoever_comes_second_is_told_to_wait(visit: Visit) -> None:
    alice, bob = visit("alice"), visit("bob")
    alice.goto("/lab/")
    bob.goto("/lab/")
    start_lab(alice, "thread")
    answer = bob.request.post(
        "/lab/",
        form={
            "csrfmiddlewaretoken": bob.locator("form.card input[name=csrfmiddlewaretoken]").input_value(),
            "schemes": "thread",
            **{box.get_attribute("name") or "": box.input_value() for box in bob.locator("input[type=number]").all()},
        },
    )
    assert (answer.status, "Another run is under way" in answer.text()) == (409, True)
    expect(alice.get_by_role("status")).to_have_text(re.compile("^Done: "), timeout=2 * DEADLINE)


def test_a_run_is_stopped_under_the_readers_eyes(visit: Visit) -> None:
    page = visit("alice")
    page.goto("/lab/")
    page.get_by_label(re.compile("^Seconds")).fill("60")
    page.get_by_role("button", name="Run").click()
    page.wait_for_url("**/lab/runs/*/")
    page.get_by_role("button", name="Stop this run").click()
    expect(page.get_by_role("status")).to_have_text("The run ended early: It was stopped.")
    expect(page.get_by_role("button", name="Stop this run")).to_have_count(0)
    expect(page.locator("td", has_text="not measured")).to_have_count(4)

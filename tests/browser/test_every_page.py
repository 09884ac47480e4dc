"""What holds for every page: no error, nothing beyond the edge of a phone, all by keyboard, text that can be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page

from .pages import PLACES, Place

Go = Callable[..., Page]
every_place = pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name.replace(" ", "-"))

CONTROLS = """() => {
  const all = 'a[href], button, input:not([type=hidden]), select, textarea, summary, [tabindex="0"]';
  return [...document.querySelectorAll(all)].filter(one => !one.disabled && one.checkVisibility());
}"""
NAMED = """one =>
  (one.getAttribute('aria-label') || one.innerText || one.id || one.name || one.tagName).trim() + ' ' + one.tagName"""
# Its own outline, or that of the label which is drawn for it.
VISIBLE_FOCUS = """() => [document.activeElement, document.activeElement.closest('label')].some(one => {
  if (!one) return false;
  const style = getComputedStyle(one);
  return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2 && style.opacity !== '0';
})"""
# Every piece of text with the colour that is behind it, as WCAG 2 compares them; and the lines of charts.
CONTRAST = """() => {
  const canvas = Object.assign(document.createElement('canvas'), {width: 1, height: 1}).getContext('2d',
    {willReadFrequently: true});
  const rgba = text => {
    canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, under) => [0, 1, 2].map(i => top[i] * top[3] + under[i] * (1 - top[3])).concat(1);
  const behind = one => {
    const layers = [];
    for (let at = one; at; at = at.parentElement) layers.push(rgba(getComputedStyle(at).backgroundColor));
    const canvasColour = matchMedia('(prefers-color-scheme: dark)').matches ? [18, 18, 18, 1] : [255, 255, 255, 1];
    return layers.reverse().reduce((under, top) => over(top, under), canvasColour);
  };
  const light = colour => [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => {
    const c = colour[i] / 255;
    return sum + weight * (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  }, 0);
  const ratio = (one, ink) => {
    const back = behind(one);
    let opacity = 1;
    for (let at = one; at; at = at.parentElement) opacity *= getComputedStyle(at).opacity;
    const front = rgba(ink); front[3] *= opacity;
    const [a, b] = [light(over(front, back)), light(back)].sort((a, b) => b - a);
    return (a + 0.05) / (b + 0.05);
  };
  const seen = one => { const box = one.getBoundingClientRect();
    return one.checkVisibility() && box.width > 1 && box.height > 1; };
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const text = walk.currentNode.textContent.trim(), one = walk.currentNode.parentElement;
    if (!text || ['SCRIPT', 'STYLE', 'NOSCRIPT', 'PROGRESS', 'OPTION', 'title'].includes(one.tagName)) continue;
    const svg = one instanceof SVGElement, style = getComputedStyle(one);
    const large = parseFloat(style.fontSize) >= (style.fontWeight >= 700 ? 18.66 : 24);
    if (seen(one)) found.push([text, ratio(one, style[svg ? 'fill' : 'color']), large ? 3 : 4.5]);
  }
  for (const one of document.querySelectorAll('input:not([type=hidden]):not([type=checkbox]), select, textarea'))
    if (seen(one)) found.push([one.name, ratio(one, getComputedStyle(one).color), 4.5]);
  for (const one of document.querySelectorAll('svg polyline, svg .line, .legend path'))
    found.push(['line ' + one.getAttribute('class'), ratio(one, getComputedStyle(one).stroke), 3]);
  return found;
}"""


@every_place
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_text_can_be_read(go: Go, place: Place, colours: str) -> None:
    found = go(place, colours=colours).evaluate(CONTRAST)
    assert len(found) > 5
    assert [(text, round(ratio, 2)) for text, ratio, least in found if ratio < least] == []


@every_place
def test_nothing_is_beyond_the_edge_of_a_phone(go: Go, place: Place, pictures: Path) -> None:
    page = go(place, width=380)
    page.screenshot(path=pictures / f"{place.name} 380.png", full_page=True)
    assert page.evaluate("[document.documentElement.scrollWidth, innerWidth]") == [380, 380]
    page.mouse.wheel(500, 0)
    assert page.evaluate("scrollX") == 0


@every_place
def test_the_tabulator_reaches_every_control_in_order(go: Go, place: Place) -> None:
    page = go(place)
    wanted = page.evaluate(f"() => ({CONTROLS})().map({NAMED})")
    begin = page.evaluate(f"document.activeElement === document.body ? '' : ({NAMED})(document.activeElement)")
    if begin:  # the page has put the focus somewhere itself
        wanted = wanted[wanted.index(begin) + 1 :] + wanted[: wanted.index(begin) + 1]
    reached: list[str] = []
    while len(reached) < len(wanted):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement === document.body"):
            page.keyboard.press("Tab")  # past the end, and on from the top
        reached.append(page.evaluate(f"({NAMED})(document.activeElement)"))
        assert page.evaluate(VISIBLE_FOCUS), f"{reached[-1]} does not show that it has the focus"
    assert reached == wanted
    assert len(wanted) > 5


@every_place
def test_every_control_has_a_name_and_the_page_one_heading(go: Go, place: Place) -> None:
    page = go(place)
    assert page.locator("h1").count() == 1
    assert page.locator("main").count() == 1
    assert page.evaluate("document.documentElement.lang") == "en"
    nameless = page.evaluate(
        f"""() => ({CONTROLS})().filter(one => !(one.getAttribute('aria-label') || one.innerText.trim()
            || (one.labels && one.labels.length))).map(one => one.outerHTML)"""
    )
    assert nameless == []

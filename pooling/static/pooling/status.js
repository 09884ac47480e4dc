// Keeps the status page as it is on the server. What has changed is put in, node by node, and nothing else is touched:
// so open details, the focus, what is selected and how far a table is scrolled stay, and a screen reader hears news only.
"use strict";
const state = document.getElementById("pooling-state");
const live = document.getElementById("pooling-live");
const pause = document.getElementById("pooling-pause");
const search = document.getElementById("pooling-q");
const every = 2000; // milliseconds
let timer, asked = 0;

// Make `old` like `fresh`. Children with an id are found again wherever they have moved to. Whether details are open is
// the reader's business.
function mend(old, fresh) {
  if (old.nodeType !== Node.ELEMENT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  for (const { name } of [...old.attributes]) if (name !== "open" && !fresh.hasAttribute(name)) old.removeAttribute(name);
  const known = new Map([...old.children].filter(one => one.id).map(one => [one.id, one]));
  let at = old.firstChild;
  for (const wanted of [...fresh.childNodes]) {
    const same = wanted.id ? known.get(wanted.id) : at && !at.id && at.nodeName === wanted.nodeName ? at : null;
    if (!same || same.nodeName !== wanted.nodeName) {
      old.insertBefore(wanted, at);
      continue;
    }
    if (same === at) at = at.nextSibling;
    else old.insertBefore(same, at);
    mend(same, wanted);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function put(text) {
  const focus = document.activeElement;
  mend(state, Object.assign(state.cloneNode(false), { innerHTML: text }));
  if (focus !== document.activeElement && focus.isConnected) focus.focus({ preventScroll: true }); // it was moved
}

function say(text) {
  if (live.textContent !== text) live.textContent = text;
  live.hidden = !text;
}

async function look() {
  clearTimeout(timer);
  const mine = ++asked; // an answer to an older question is of no use
  const query = new URLSearchParams({ q: search.value });
  try {
    const answer = await fetch(`${state.dataset.url}?${query}`, {
      credentials: "same-origin", signal: AbortSignal.timeout(15000),
    });
    if (answer.redirected || answer.status === 403) return location.reload(); // signed out meanwhile
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
    const text = await answer.text();
    if (mine !== asked) return;
    put(text);
    say("");
  } catch (error) {
    if (mine !== asked) return;
    say(`The site does not answer (${error.message}). What is below is old; trying again …`);
  }
  again();
}

function again() {
  clearTimeout(timer);
  if (!document.hidden && pause.getAttribute("aria-pressed") === "false") timer = setTimeout(look, every);
}

document.addEventListener("visibilitychange", () => document.hidden ? clearTimeout(timer) : look());
pause.addEventListener("click", () => {
  const paused = pause.getAttribute("aria-pressed") === "false";
  pause.setAttribute("aria-pressed", String(paused));
  paused ? clearTimeout(timer) : look();
});
search.addEventListener("input", () => {
  history.replaceState(null, "", search.value ? `?${new URLSearchParams({ q: search.value })}` : location.pathname);
  clearTimeout(timer);
  timer = setTimeout(look, 200);
});
pause.hidden = false;
again();

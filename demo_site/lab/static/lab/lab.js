// Puts what a run has measured so far into the page, until it is over. Only what has changed is put in, so that the
// reader's place and focus stay, and a screen reader hears of a new state once.
"use strict";
const state = document.getElementById("state");
const pause = 500; // milliseconds
function put(fresh) {
  for (const part of fresh.querySelectorAll("[data-part]")) {
    const old = state.querySelector(`[data-part="${part.dataset.part}"]`);
    if (old.innerHTML === part.innerHTML) continue;
    old.innerHTML = part.innerHTML;
    old.className = part.className;
    if (part.localName === "progress") old.value = part.value;
  }
}
async function look() {
  try {
    const answer = await fetch(state.dataset.url, { credentials: "same-origin" });
    if (answer.redirected) return location.reload(); // signed out meanwhile
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
    put(new DOMParser().parseFromString(await answer.text(), "text/html"));
    if (answer.headers.get("X-Run-Over") === "1") return document.getElementById("end")?.remove();
  } catch (error) {
    state.querySelector("[role=status]").textContent = `The site does not answer (${error.message}); trying again …`;
  }
  setTimeout(look, pause);
}
setTimeout(look, pause);

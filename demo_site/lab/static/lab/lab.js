// Puts what a run has measured so far into the page, until it is over.
"use strict";
const state = document.getElementById("state");
const pause = 500; // milliseconds
async function look() {
  try {
    const answer = await fetch(state.dataset.url, { credentials: "same-origin" });
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
    const open = [...state.querySelectorAll("details")].map((one) => one.open);
    state.innerHTML = await answer.text();
    state.querySelectorAll("details").forEach((one, number) => { one.open = open[number] ?? false; });
    if (answer.headers.get("X-Run-Over") === "1") return;
  } catch (error) {
    state.querySelector("[role=status]").textContent = `The site does not answer (${error.message}); trying again …`;
  }
  setTimeout(look, pause);
}
setTimeout(look, pause);

// Without this, all pages work: they are just not live.
"use strict";

const live = document.getElementById("live");
const refresh = document.getElementById("refresh");
const isOn = () => refresh.getAttribute("aria-pressed") === "true";

function isInUse() {
  const selection = document.getSelection().toString();
  const inUse = live.querySelector("details[open], :checked, :focus");
  return document.hidden || selection !== "" || inUse !== null;
}

async function update() {
  if (isOn() && !isInUse()) {
    try {
      const answer = await fetch(location.href, { signal: AbortSignal.timeout(10000) });
      if (answer.redirected) return location.reload(); // to the log-in
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById("live");
      if (fresh && isOn() && !isInUse()) live.replaceChildren(...fresh.childNodes);
      showSelectAll();
    } catch { /* the service is away: try again */ }
  }
  setTimeout(update, live.dataset.seconds * 1000);
}

function showSelectAll() {
  const all = document.getElementById("all");
  if (all) all.hidden = false;
}

if (live) {
  refresh.hidden = false;
  refresh.setAttribute("aria-pressed", sessionStorage.getItem("live") !== "off");
  refresh.addEventListener("click", () => {
    refresh.setAttribute("aria-pressed", !isOn());
    sessionStorage.setItem("live", isOn() ? "on" : "off");
  });
  live.addEventListener("change", (event) => {
    if (event.target.id !== "all") return;
    for (const box of live.querySelectorAll("[name=event]:enabled")) box.checked = event.target.checked;
  });
  showSelectAll();
  setTimeout(update, live.dataset.seconds * 1000);
}

const copy = document.getElementById("copy");
if (copy && navigator.clipboard) {
  copy.hidden = false;
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById("command").textContent);
    copy.textContent = "Copied";
  });
}

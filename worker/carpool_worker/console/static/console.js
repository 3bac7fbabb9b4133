// What pages do beyond links and forms: sections that keep themselves fresh, copying, and the theme.

const STALE_MILLISECONDS = 60_000; // after which sections are fetched again though nothing has moved: ages grow
const UNREAD_MILLISECONDS = 2_000; // the same, while what takes long to read is being read
const LOOK_MILLISECONDS = 1_000;

const begun = Date.now();
const fetchedAt = new Map(); // of each live section, by its id
let changedAt = 0;
let stream = null;
let fetching = false;

function sections() {
  return [...document.querySelectorAll("section[data-live][id]")];
}

function isDue(section) {
  const since = fetchedAt.get(section.id) ?? begun;
  const waited = Date.now() - since;
  const moved = changedAt > since && waited >= Number(section.dataset.live) * 1_000;
  return moved || waited >= ("unread" in section.dataset ? UNREAD_MILLISECONDS : STALE_MILLISECONDS);
}

// Nothing is taken away from under somebody's hands.
function isInUse(section) {
  return section.contains(document.activeElement) || section.querySelector(":popover-open, dialog[open]") !== null;
}

function keepOpened(from, to) {
  const opened = [...from.querySelectorAll("details")].map((one) => one.open);
  [...to.querySelectorAll("details")].forEach((one, n) => { if (opened[n]) one.open = true; });
}

async function refresh() {
  const due = sections().filter((section) => isDue(section) && !isInUse(section));
  if (fetching || due.length === 0) return;
  fetching = true;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, credentials: "same-origin" });
    if (answer.redirected) return void location.reload(); // the session is over
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const section of due) {
      fetchedAt.set(section.id, Date.now());
      const found = answer.ok ? fresh.getElementById(section.id) : null;
      if (found === null || isInUse(section) || found.outerHTML === section.outerHTML) continue;
      keepOpened(section, found);
      section.replaceWith(document.adoptNode(found));
      prepare(found);
    }
  } catch {
    due.forEach((section) => fetchedAt.set(section.id, Date.now())); // the console is away: later again
  } finally {
    fetching = false;
  }
}

// While the page is looked at, and no longer: browsers allow a host few connections.
function listen() {
  const url = document.body.dataset.liveUrl;
  if (document.hidden || !url || sections().length === 0) {
    stream?.close();
    stream = null;
  } else if (stream === null) {
    stream = new EventSource(url);
    stream.addEventListener("changed", () => { changedAt = Date.now(); });
  }
}

function prepare(within) {
  for (const button of within.querySelectorAll("[data-copy]")) button.hidden = !navigator.clipboard;
  for (const form of within.querySelectorAll("form[data-submits]")) {
    for (const select of form.querySelectorAll("select")) select.onchange = () => form.requestSubmit();
  }
  document.dispatchEvent(new CustomEvent("carpool:drawn", { detail: within }));
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  await navigator.clipboard.writeText(button.dataset.copy);
  const label = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = label; }, 1_500);
});

// Empty filters are no filters: they stay out of the URL.
document.addEventListener("submit", (event) => {
  if (event.target.method !== "get") return;
  for (const field of event.target.elements) if (field.name && !field.value) field.disabled = true;
});

for (const button of document.querySelectorAll("[data-theme-switch]")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const dark = getComputedStyle(document.documentElement).getPropertyValue("--is-dark").trim() === "1";
    const theme = dark ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    localStorage.setItem("theme", theme);
    document.dispatchEvent(new CustomEvent("carpool:theme"));
  });
}

if (document.querySelector("figure.chart")) import("./charts.js");
prepare(document);
listen();
document.addEventListener("visibilitychange", listen);
setInterval(() => { if (!document.hidden) refresh(); }, LOOK_MILLISECONDS);

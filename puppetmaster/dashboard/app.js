// The page: which view is shown, and whether it is connected.

import { call, onUnauthorized } from "./api.js";
import { askForToken } from "./dialogs.js";
import { el, text } from "./dom.js";
import { JobView } from "./job.js";
import { JobsView } from "./jobs.js";
import { NewJobView } from "./newjob.js";

const HEALTH_MS = 3000;
const main = document.getElementById("main");
const link = document.getElementById("link");
let view = null;
let begun = false;
const connection = { connected: null, since: null, bus: null };

onUnauthorized(askForToken);

/** Take in what is known of the connection, and show it. */
function state({ connected, health }) {
  if (health) connection.bus = health.bus;
  if (connected !== undefined && connected !== connection.connected) {
    connection.connected = connected;
    connection.since = new Date();
  }
  const clock = connection.since?.toLocaleTimeString("en-GB") ?? "";
  const missing = Object.entries(connection.bus ?? {}).filter(([, up]) => !up).map(([name]) => name);
  let look = "waiting";
  let sentence = "connecting …";
  if (connection.connected === false) [look, sentence] = ["lost", `not connected since ${clock}`];
  else if (connection.connected && missing.length) [look, sentence] = ["troubled", `connected, bus: not ${missing.join(", ")}`];
  else if (connection.connected) [look, sentence] = ["good", "connected"];
  link.className = `link ${look}`;
  link.title = look === "lost" ? "Trying again by itself; what is shown may be old." : "";
  text(link, sentence);
  document.body.classList.toggle("stale", look === "lost");
}

function route() {
  view?.end();
  const [, name = "", id = ""] = location.hash.match(/^#\/([a-z]*)\/?(\d*)/) ?? [];
  main.replaceChildren();
  if (name === "jobs" && id) view = new JobView(main, Number(id), state);
  else if (name === "new") view = new NewJobView(main, state);
  else view = new JobsView(main, state);
  for (const anchor of document.querySelectorAll("[data-nav]")) {
    const mine = anchor.dataset.nav === (name === "new" ? "new" : "jobs");
    if (mine) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
  if (begun) main.focus({ preventScroll: true });
  begun = true;
  scrollTo(0, 0);
}

// The address after # says which view is shown, so this link must not change it.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
addEventListener("hashchange", route);
addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, dialog")) return;
  const filter = main.querySelector("[data-filter]");
  if (!filter) return;
  event.preventDefault();
  filter.focus();
  filter.select();
});
setInterval(() => view?.tick?.(), 1000);
setInterval(async () => {
  if (!connection.connected || document.hidden) return;
  try {
    const { data } = await call("GET", "/system/puppetmaster");
    state({ health: data });
    view?.health?.(data);
  } catch {
    // The WebSocket says when nobody answers.
  }
}, HEALTH_MS);
addEventListener("error", () => document.getElementById("notes").append(
  el("div", { class: "note error", role: "alert" }, "Something went wrong in this page: reload it.")));
state({});
route();

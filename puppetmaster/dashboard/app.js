// The page: which view is shown, and whether it is connected.

import { read } from "./address.js";
import { onUnauthorized } from "./api.js";
import { askForToken } from "./dialogs.js";
import { el, text } from "./dom.js";
import { JobView } from "./job.js";
import { JobsView } from "./jobs.js";
import { NewJobView } from "./newjob.js";
import { bridges, utc } from "./words.js";

const main = document.getElementById("main");
const gateways = document.getElementById("gateways");
const link = document.getElementById("link");
// What is missing, the first cause first: without a broker there is no controller either.
const TROUBLES = [
  [({ bus }) => bus.connected, "the broker cannot be reached"],
  [({ bus }) => bus.controller, "the controller does not answer"],
  [({ bus }) => bus.registered, "the controller does not know puppetmaster"],
  [({ store }) => store.writable, "nothing can be written to the disk"],
];
let view = null;
let begun = false;
const connection = { connected: null, since: 0, trouble: "", reason: "" };

gateways.title = "As their bridges say. Nothing is sent to a gateway that is away: its request ends, and did not run.";
onUnauthorized(askForToken);

/** Take in what is known of the connection, and show it. */
function state({ connected, since, health, trouble }) {
  if (health) {
    connection.trouble = TROUBLES.find(([fine]) => !fine(health))?.[1] ?? "";
    connection.reason = health.bus.reason ? `${health.bus.reason}. ` : "";
    const said = bridges(health.gateways);
    gateways.hidden = !said;
    text(gateways, said);
    view?.health?.(health);
  }
  if (trouble) connection.trouble = trouble;
  if (connected !== undefined && connected !== connection.connected) {
    connection.connected = connected;
    if (!connected) connection.since = since;
  }
  const lost = connection.connected === false;
  const look = lost ? "lost" : !connection.connected ? "waiting" : connection.trouble ? "troubled" : "good";
  const sentences = {
    lost: `not connected since ${new Date(connection.since).toLocaleTimeString("en-GB")}`,
    waiting: "connecting …",
    troubled: `connected; ${connection.trouble}`,
    good: "connected",
  };
  const hints = {
    lost: `${utc(new Date(connection.since).toISOString())}. It is tried again by itself; what is shown may be old.`,
    troubled: `${connection.reason}Requests wait until this is over.`,
  };
  link.className = `link ${look}`;
  link.title = hints[look] ?? "";
  text(link, sentences[look]);
  document.body.classList.toggle("stale", lost);
}

function route() {
  view?.end();
  const { parts: [name = "", id = "", tab = ""], parameters } = read();
  main.replaceChildren();
  if (name === "jobs" && /^\d+$/.test(id)) view = new JobView(main, Number(id), { tab, parameters }, state);
  else if (name === "new") view = new NewJobView(main, state);
  else view = new JobsView(main, parameters, state);
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
addEventListener("error", () => document.getElementById("notes").append(
  el("div", { class: "note error", role: "alert" }, "Something went wrong in this page: reload it.")));
state({});
route();

// The page: which view is shown, and whether it is connected.

import { read } from "./address.js";
import { onUnauthorized } from "./api.js";
import { askForToken } from "./dialogs.js";
import { el, text } from "./dom.js";
import { GatewayView } from "./gateway.js";
import { GatewaysView } from "./gateways.js";
import { JobView, TABS } from "./job.js";
import { JobsView } from "./jobs.js";
import { keys } from "./keys.js";
import { denied, link, setCaller, setLink } from "./link.js";
import { Live } from "./live.js";
import { NewJobView } from "./newjob.js";
import { TemplateView } from "./template.js";
import { TemplatesView } from "./templates.js";
import { bridges, leads, utc } from "./words.js";

const main = document.getElementById("main");
const gateways = document.getElementById("gateways");
const leader = document.getElementById("leader");
const shownLink = document.getElementById("link");
// What is missing, the first cause first: without a broker there is no controller either.
const TROUBLES = [
  [({ bus }) => bus.connected, "the broker cannot be reached"],
  [({ bus }) => bus.controller, "the controller does not answer"],
  [({ bus }) => bus.registered, "the controller does not know puppetmaster"],
  [({ store }) => store.writable, "nothing can be written to the disk"],
  [({ leader }) => leader?.sure ?? true, "the database does not say that this one leads"],
];
let view = null;
let begun = false;
const connection = { connected: null, slow: false, polling: false, since: 0, trouble: "", reason: "" };

gateways.title = "As their bridges say. Nothing is sent to a gateway that is away: its request ends, and did not run.";
onUnauthorized(askForToken);

/** Take in what is known of the connection, and show it. */
function state({ connected, since, health, trouble, ...more }) {
  Object.assign(connection, more);
  if (health) {
    connection.trouble = TROUBLES.find(([fine]) => !fine(health))?.[1] ?? "";
    connection.reason = health.bus.reason ? `${health.bus.reason}. ` : "";
    const said = bridges(health.gateways);
    gateways.hidden = !said;
    text(gateways, said);
    leader.hidden = !health.leader;
    if (health.leader) {
      text(leader, leads(health.leader));
      leader.title = `${health.leader.name}, since ${utc(health.leader.since)}: ${health.leader.takeover.message}.`;
    }
    view?.health?.(health);
    setCaller(health.caller);
    if (view instanceof NewJobView && denied("operator")) route();
  }
  if (trouble) connection.trouble = trouble;
  if (connected !== undefined && connected !== connection.connected) {
    connection.connected = connected;
    if (!connected) connection.since = since;
  }
  showLink();
}

/** How it stands with the connection: the class of its sign, what it says, what it says on hover, what stops controls. */
function look() {
  const { connected, slow, polling, since, trouble, reason } = connection;
  if (connected === false) {
    const at = new Date(since);
    return ["lost", `not connected since ${at.toLocaleTimeString("en-GB")}`,
      `${utc(at.toISOString())}. It is tried again by itself; what is shown may be old.`, "This page is not connected."];
  }
  if (slow) {
    return ["lost", "puppetmaster does not answer", "It is asked again by itself; what is shown may be old.",
      "puppetmaster does not answer."];
  }
  if (!connected) return ["waiting", "connecting …", "", "This page is not connected yet."];
  if (trouble) return ["troubled", `connected; ${trouble}`, `${reason}Requests wait until this is over.`, ""];
  if (polling) {
    return ["troubled", "connected; no WebSocket gets through: asks every 3 s",
      "Some proxies do not pass WebSockets on. So this page asks for what is new, and shows it a little later.", ""];
  }
  return ["good", "connected", "", ""];
}

function showLink() {
  const [name, sentence, hint, why] = look();
  shownLink.className = `link ${name}`;
  shownLink.title = hint;
  text(shownLink, sentence);
  document.body.classList.toggle("stale", name === "lost");
  setLink(why);
  view?.linked?.(why);
}

/** An address that leads nowhere. */
class UnknownView {
  constructor(place) {
    document.title = "No such page · puppetmaster";
    place.append(el("h1", {}, "There is no such page."),
      el("p", { class: "nowhere" }, "Nothing is at ", el("code", {}, location.hash), ". ", el("a", { href: "#/" }, "To the list of jobs"), "."));
    this.live = new Live("/jobs/ws", { state });
  }

  end() {
    this.live.end();
  }
}

/** A name in an address as it is; "" where it is none. */
function plain(said) {
  try {
    return decodeURIComponent(said);
  } catch {
    return "";
  }
}

/** A view that the caller may not use. */
class DeniedView {
  constructor(place, why) {
    document.title = "New job · puppetmaster";
    place.append(el("h1", {}, "New job"),
      el("p", { class: "nowhere" }, `${why} Ask for another token, or look at `, el("a", { href: "#/" }, "the list of jobs"), "."));
    this.live = new Live("/jobs/ws", { state });
  }

  end() {
    this.live.end();
  }
}

function viewOf({ parts, parameters }) {
  const [name = "jobs", id, tab = TABS[0]] = parts;
  if (name === "jobs" && id === undefined) return new JobsView(main, parameters, state);
  if (name === "gateways" && id === undefined) return new GatewaysView(main, parameters, state);
  if (name === "gateways" && parts.length === 2 && plain(id)) return new GatewayView(main, plain(id), parameters, state);
  if (name === "templates" && id === undefined) return new TemplatesView(main, state);
  if (name === "templates" && parts.length === 2 && /^[1-9]\d{0,15}$/.test(id)) return new TemplateView(main, Number(id), state);
  if (name === "new" && id === undefined && denied("operator")) return new DeniedView(main, denied("operator"));
  if (name === "new" && id === undefined) return new NewJobView(main, state);
  const known = name === "jobs" && /^[1-9]\d{0,15}$/.test(id) && TABS.includes(tab) && parts.length < 4;
  return known ? new JobView(main, Number(id), { tab, parameters }, state) : new UnknownView(main);
}

function route() {
  const address = read();
  // Back from a request, or to another tab: the job stays.
  if (view?.moved?.(address)) return;
  view?.end();
  main.replaceChildren();
  view = viewOf(address);
  for (const anchor of document.querySelectorAll("[data-nav]")) {
    const ofGateways = view instanceof GatewaysView || view instanceof GatewayView;
    const ofNew = view instanceof NewJobView || view instanceof DeniedView;
    const ofTemplates = view instanceof TemplatesView || view instanceof TemplateView;
    const mine = anchor.dataset.nav === (ofNew ? "new" : ofGateways ? "gateways" : ofTemplates ? "templates" : "jobs");
    if (mine && !(view instanceof UnknownView)) anchor.setAttribute("aria-current", "page");
    else anchor.removeAttribute("aria-current");
  }
  view.linked?.(link.why);
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
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog")) return;
  const filter = main.querySelector("[data-filter]");
  if (event.key === "/" && filter?.checkVisibility()) {
    event.preventDefault();
    filter.focus();
    filter.select();
  }
  if (event.key === "?") keys();
});
document.getElementById("keys").addEventListener("click", keys);
setInterval(() => view?.tick?.(), 1000);
addEventListener("error", () => document.getElementById("notes").append(
  el("div", { class: "note error", role: "alert" }, "Something went wrong in this page: reload it.")));
state({});
route();

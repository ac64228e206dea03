// What opens above the page, and what is told beside it. <dialog> keeps the focus and closes on Esc.

import { el, facts, text } from "./dom.js";
import { link } from "./link.js";

/** A press within this after a question has opened was meant for what was there before it. */
const UNREAD_MS = 400;

/**
 * Ask before something that cannot be undone: true when it was confirmed. `about` names what it is done to, `pairs`
 * are facts, `[name, value]`. It cannot be confirmed while the gateway cannot be told anything.
 */
export function confirm({ title, about, sentence, pairs = [], action, danger = true }) {
  return new Promise((resolve) => {
    const stopped = el("p", { class: "fault", role: "status" });
    const yes = el("button", { value: "yes", "data-link": "", class: danger ? "danger" : "primary" }, action);
    let read = false;
    yes.refresh = () => {
      yes.disabled = Boolean(link.why) || !read;
      text(stopped, link.why);
    };
    yes.refresh();
    setTimeout(() => {
      read = true;
      yes.refresh();
    }, UNREAD_MS);
    const dialog = el("dialog", { class: "ask", "aria-labelledby": "ask-title", "aria-describedby": "ask-sentence" },
      el("form", { method: "dialog" },
        el("h2", { id: "ask-title" }, title),
        about ? el("p", { class: "asked-of" }, about) : null,
        el("p", { id: "ask-sentence" }, sentence),
        pairs.length ? facts(pairs) : null,
        stopped,
        el("div", { class: "actions" },
          el("button", { value: "no", autofocus: true }, "Go back"), yes)));
    // What it asks about is not what is shown any more.
    const elsewhere = () => dialog.close("no");
    addEventListener("hashchange", elsewhere);
    show(dialog, () => {
      removeEventListener("hashchange", elsewhere);
      resolve(dialog.returnValue === "yes");
    });
  });
}

/** Ask for the token until one is given. */
export function askForToken(refused) {
  return new Promise((resolve) => {
    const input = el("input", {
      type: "password", name: "token", id: "token", required: true, autocomplete: "off", autofocus: true,
    });
    const dialog = el("dialog", { class: "ask", "aria-labelledby": "ask-title" },
      el("form", { method: "dialog" },
        el("h2", { id: "ask-title" }, "Token"),
        refused ? el("p", { class: "fault", role: "alert" }, "This token was not accepted.") : null,
        el("p", {}, "This gateway asks for a token: your own, or the one that is set as PUPPETMASTER_TOKEN. It is kept until this tab is closed."),
        el("label", { for: "token" }, "Token"),
        input,
        el("div", { class: "actions" }, el("button", { class: "primary" }, "Go on"))));
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    show(dialog, () => resolve(input.value));
  });
}

/** Open a dialog that is removed when it closes. */
export function show(dialog, closed = () => {}) {
  dialog.addEventListener("close", () => {
    dialog.remove();
    closed();
  });
  document.body.append(dialog);
  dialog.showModal();
}

/** Show a sentence for a while, once at a time; an error stays until it is closed. */
export function notify(sentence, kind = "info") {
  const shown = [...document.querySelectorAll(".note.info > span")].map((one) => one.textContent);
  if (kind === "info" && shown.includes(sentence)) return;
  const remove = () => note.remove();
  const close = el("button", { type: "button", class: "quiet", "aria-label": "Close this notice", onclick: remove }, "✕");
  const note = el("div", { class: `note ${kind}`, role: kind === "error" ? "alert" : "status" }, el("span", {}, sentence), close);
  document.getElementById("notes").append(note);
  if (kind !== "error") setTimeout(remove, 6000);
}

/** Tell screen readers, politely. */
export function say(sentence) {
  text(document.getElementById("say"), sentence);
}

/** Run something that asks the gateway; what goes wrong is told. True when it went well. */
export async function attempt(work) {
  try {
    await work();
    return true;
  } catch (error) {
    const where = (error.errors ?? []).map((one) => `${one.path}: ${one.message}`);
    notify([error.message, ...where].join(" "), "error");
    return false;
  }
}

/** Copy text; without a secure origin browsers have only the old way. */
export async function copy(value, near) {
  try {
    await navigator.clipboard.writeText(value);
  } catch {
    const area = el("textarea", { class: "unseen", "aria-hidden": "true" });
    area.value = value;
    near.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  say("Copied");
}

/** Text that a click copies; its title says `what` it is. */
export function copyable(value, what) {
  const button = el("button", {
    type: "button", class: "copy", title: `Copy ${what}`,
    onclick: async () => {
      await copy(value, button.parentElement);
      button.focus();
      button.classList.add("copied");
      setTimeout(() => button.classList.remove("copied"), 1500);
    },
  }, value);
  return button;
}

/** Hand a file to the browser. */
export function download(name, type, parts) {
  const url = URL.createObjectURL(new Blob(parts, { type }));
  const link = el("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

// A button that acts on the gateway. It keeps its place in every status: what cannot be done is disabled and says why.

import { notify } from "./dialogs.js";
import { el } from "./dom.js";
import { denied, link } from "./link.js";

/** A second press within this is the same press: of a double click, of a key that is held. */
const HOLD_MS = 700;

/**
 * The button. `ask()` asks whether it is meant, before `work()`; while that runs the button shows it, and takes no
 * press. `name` says more than its label, `needs` is the role that may press it. `allow(why)` says why it cannot be done now, "" when it can. Disabled it
 * keeps the focus, so that a key that is pressed once more does nothing else.
 */
export function control(label, { name = null, needs = "operator", ask = async () => true, work, look = "" }) {
  let impossible = "";
  let pressed = false;
  let busy = false;
  const button = el("button", { type: "button", "data-link": "", "aria-label": name, class: `control ${look}` }, el("span", {}, label));
  button.refresh = () => {
    const why = busy ? "" : link.why || denied(needs) || impossible;
    button.setAttribute("aria-disabled", String(busy || Boolean(why)));
    button.setAttribute("aria-busy", String(busy));
    if (why) button.title = why;
    else button.removeAttribute("title");
  };
  button.allow = (why) => {
    impossible = why;
    button.refresh();
  };
  const show = (working) => {
    busy = working;
    button.refresh();
  };
  const act = async () => {
    if (!(await ask())) return;
    const held = new Promise((done) => { setTimeout(done, HOLD_MS); });
    show(true);
    await work();
    await held;
  };
  button.addEventListener("click", () => {
    if (pressed) return;
    if (link.why || denied(needs) || impossible) {
      notify(button.title);
      return;
    }
    pressed = true;
    act().finally(() => {
      pressed = false;
      show(false);
    });
  });
  button.refresh();
  return button;
}

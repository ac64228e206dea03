// The help of the keys.

import { show } from "./dialogs.js";
import { el } from "./dom.js";

const KEYS = [
  ["Everywhere", [
    [["/"], "to the filter"],
    [["Tab"], "to the next control, with Shift to the one before"],
    [["Enter"], "press a button, follow a link"],
    [["?"], "this help"],
  ]],
  ["In the table and the map of a job", [
    [["↑", "↓", "←", "→"], "one row or one cell on"],
    [["Page Up", "Page Down"], "a screen on"],
    [["Home", "End"], "to the first, to the last"],
    [["Enter"], "open the request"],
  ]],
  ["On the tabs of a job", [[["←", "→"], "to another tab"]]],
  ["In a request", [
    [["←", "→"], "to the request before, to the next"],
    [["Esc"], "close it"],
  ]],
];

/** Show which keys there are. */
export function keys() {
  show(el("dialog", { class: "ask keys", "aria-labelledby": "keys-title" },
    el("form", { method: "dialog" },
      el("h2", { id: "keys-title", tabindex: "-1", autofocus: true }, "Keys"),
      KEYS.map(([where, rows]) => el("section", {}, el("h3", {}, where), el("dl", {}, rows.map(([names, does]) =>
        el("div", {}, el("dt", {}, names.map((name) => el("kbd", {}, name))), el("dd", {}, does)))))),
      el("p", { class: "muted" }, "Back in the browser closes a request and goes back to what was shown before."),
      el("div", { class: "actions" }, el("button", {}, "Close")))));
}

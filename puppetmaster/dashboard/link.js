// Whether the gateway can be told something now, and by whom. What acts on it is a control, and looks here.

import { ROLES } from "./contract.js";

/** `why`: why it cannot be told anything, as a sentence; "": it can. */
export const link = { why: "This page is not connected yet." };

/** Who looks at this page; without a role: not known yet. */
const caller = { name: "", role: null };

/** Why the caller may not do what `needs` this role; "": that is allowed, or not known yet. */
export function denied(needs) {
  if (caller.role === null || ROLES.indexOf(caller.role) >= ROLES.indexOf(needs)) return "";
  return `This needs the role ${needs}, and ${caller.name} has the role ${caller.role}.`;
}

/** Take in who looks at this page. */
export function setCaller(now) {
  if (!now || (caller.name === now.name && caller.role === now.role)) return;
  Object.assign(caller, now);
  refresh();
}

/** Take in whether it can; every element that has `data-link` and `refresh()` shows it. */
export function setLink(why) {
  if (link.why === why) return;
  link.why = why;
  refresh();
}

function refresh() {
  for (const element of document.querySelectorAll("[data-link]")) element.refresh();
}

// Whether the gateway can be told something now. What acts on it is a control, and looks here.

/** `why`: why it cannot be told anything, as a sentence; "": it can. */
export const link = { why: "This page is not connected yet." };

/** Take in whether it can; every element that has `data-link` and `refresh()` shows it. */
export function setLink(why) {
  if (link.why === why) return;
  link.why = why;
  for (const element of document.querySelectorAll("[data-link]")) element.refresh();
}

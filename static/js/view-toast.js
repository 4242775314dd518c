// @ts-check
/** @file Short notes about what went wrong, or was done. */

import { element, icon } from "./dom.js";

/** How long a note stays, in milliseconds: time to read two sentences. */
const STAYS_MS = 8000;

/**
 * @param {HTMLElement} place A live region.
 * @returns {(text: string, kind?: "error" | "note") => void}
 */
export function toasts(place) {
  return (text, kind = "error") => {
    const close = () => toast.remove();
    const toast = element(
      "div",
      { class: "toast", "data-testid": "toast", "data-kind": kind },
      icon(kind === "error" ? "alert" : "check"),
      element("p", {}, text),
      element(
        "button",
        { type: "button", class: "button-icon", "aria-label": "Dismiss", click: close },
        icon("close"),
      ),
    );
    place.append(toast);
    setTimeout(close, STAYS_MS);
  };
}

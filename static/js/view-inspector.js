// @ts-check
/** @file The raw events as they came, newest last. */

import { element } from "./dom.js";

/** @typedef {import("./types.js").Frame} Frame */

/** So many events are kept and shown; older ones go. */
export const KEPT = 500;

/** Closer to the end than this, in pixels, a reader means to follow. */
const NEAR_END_PX = 24;

/**
 * One line on what an event says.
 * @param {Frame} frame
 * @returns {string}
 */
function summaryOf(frame) {
  const { text, arguments: args, name, node, reason, decision, data, model, updates } = frame;
  const told = data?.message ?? updates?.message;
  const words = text ?? frame.message?.content ?? told ?? args ?? name ?? node;
  const said = words ?? reason ?? decision ?? frame.error?.message ?? model ?? "";
  return typeof said === "string" ? said : "";
}

/**
 * @param {{list: HTMLElement, filter: HTMLInputElement, types: HTMLDataListElement,
 *   count: HTMLElement, clear: HTMLButtonElement}} places
 */
export function inspectorView({ list, filter, types, count, clear }) {
  /** @type {Frame[]} */
  let fresh = [];
  let total = 0;
  /** @type {Set<string>} */
  const seen = new Set();

  /** @param {string | undefined} type */
  function matches(type) {
    return (type ?? "").includes(filter.value.trim().toLowerCase());
  }

  function applyFilter() {
    for (const row of list.children) {
      if (row instanceof HTMLElement) row.hidden = !matches(row.dataset.type);
    }
    list.scrollTop = list.scrollHeight;
  }

  function reset() {
    fresh = [];
    total = 0;
    list.replaceChildren();
    count.textContent = "0";
  }

  /** @param {Frame} frame */
  function rowOf(frame) {
    const json = element("pre", {});
    const row = element(
      "details",
      {
        class: "event",
        "data-testid": "inspector-event",
        "data-type": frame.type,
        // Most rows are never opened, so the long form is made when one is.
        toggle: () => {
          if (!row.open) return;
          if (json.textContent === "") json.textContent = JSON.stringify(frame, null, 2);
          json.scrollIntoView({ block: "nearest" });
        },
      },
      element(
        "summary",
        {},
        element("span", { class: "event-seq" }, String(frame.seq ?? "·")),
        element(
          "span",
          { class: "event-type", "data-family": frame.type.split(".", 1)[0] },
          frame.type,
        ),
        element("span", { class: "event-summary" }, summaryOf(frame).slice(0, 80)),
      ),
      json,
    );
    row.hidden = !matches(frame.type);
    return row;
  }

  filter.addEventListener("input", applyFilter);
  clear.addEventListener("click", reset);

  return {
    reset,
    /** @param {Frame} frame Shown at the next `render`. */
    add(frame) {
      fresh.push(frame);
      if (fresh.length > KEPT) fresh.shift();
      total += 1;
      if (seen.has(frame.type)) return;
      seen.add(frame.type);
      types.append(element("option", { value: frame.type }));
    },
    render() {
      if (fresh.length === 0) return;
      const following = list.scrollHeight - list.scrollTop - list.clientHeight < NEAR_END_PX;
      list.append(...fresh.map(rowOf));
      fresh = [];
      while (list.childElementCount > KEPT) list.firstElementChild?.remove();
      count.textContent = total > KEPT ? `last ${KEPT} of ${total}` : String(total);
      if (following) list.scrollTop = list.scrollHeight;
    },
  };
}

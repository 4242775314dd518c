// @ts-check
/** @file What an agent says that was called as a tool: a conversation of its own, to be folded. */

import { element, icon, setAttribute } from "./dom.js";
import { grouped } from "./grouped.js";
import { keyedList } from "./keyed.js";

/** @typedef {import("./types.js").Item} Item */
/** @typedef {import("./types.js").NestedItem} NestedItem */
/** @typedef {import("./grouped.js").Laid} Laid */

/**
 * @param {(item: Laid) => import("./keyed.js").Shown<any>} show Shows what is inside.
 * @returns {import("./keyed.js").Shown<NestedItem>}
 */
export function showNested(show) {
  const name = element("span", { class: "nested-name" });
  const count = element("span", { class: "nested-count" });
  const inside = element("div", { class: "items nested-items" });
  const showItems = keyedList(inside, (/** @type {Laid} */ { key }) => key, show);
  const node = element(
    "details",
    { class: "nested", "data-testid": "nested" },
    element("summary", {}, icon("chevron"), name, count),
    inside,
  );
  let shownOnce = false;
  return {
    node,
    update({ name: agent, depth, items }) {
      const busy = items.some((item) => "status" in item && isBusy(item.status));
      // Open while it goes on; later it is the reader's choice.
      if (!shownOnce && busy) node.open = true;
      shownOnce = true;
      const said = items.filter((item) => item.kind === "message").length;
      setAttribute(node, "data-status", busy ? "running" : "complete");
      name.textContent = agent;
      count.textContent = busy ? "at work" : `${said} ${said === 1 ? "message" : "messages"}`;
      showItems(grouped(items, depth + 1));
    },
  };
}

/**
 * @param {string} status
 * @returns {boolean}
 */
function isBusy(status) {
  return /streaming|writing|running/.test(status);
}

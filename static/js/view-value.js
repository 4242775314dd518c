// @ts-check
/** @file JSON for people: names and values, lists, text. */

import { element } from "./dom.js";

/**
 * @param {any} value Any JSON value.
 * @returns {HTMLElement}
 */
export function showValue(value) {
  if (Array.isArray(value)) {
    return element(
      "ul",
      { class: "value-list" },
      ...value.map((one) => element("li", {}, showValue(one))),
    );
  }
  if (value !== null && typeof value === "object") {
    return element(
      "dl",
      { class: "value-names" },
      ...Object.entries(value).flatMap(([name, one]) => [
        element("dt", {}, name.replaceAll("_", " ")),
        element("dd", {}, showValue(one)),
      ]),
    );
  }
  return element("p", { class: "value-text" }, typeof value === "string" ? value : String(value));
}

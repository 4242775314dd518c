// @ts-check
/** @file Tool calls as cards: what was asked, how far it is, what came of it. */

import { element, icon, setAttribute, setText } from "./dom.js";

/** @typedef {import("./types.js").ToolItem} ToolItem */

/** @type {Record<string, string>} */
const STATUS_WORDS = {
  writing: "Being written",
  ready: "Waiting",
  running: "Running",
  completed: "Done",
  failed: "Failed",
  unknown: "Outcome unknown",
};

const UNKNOWN_OUTCOME =
  "The server stopped while this tool was running. Nobody knows whether it had its effect.";

/** JSON of up to so many characters is read more easily on one line. */
const ONE_LINE = 40;

/**
 * JSON text laid out for people; text that is not JSON (yet) stays as it is.
 * @param {string} text
 * @returns {string}
 */
export function layOut(text) {
  try {
    return pretty(JSON.parse(text));
  } catch {
    return text;
  }
}

/**
 * @param {any} value
 * @returns {string} JSON; what is short stays on one line.
 */
function pretty(value) {
  const lines = JSON.stringify(value, null, 2) ?? "";
  const line = lines.replace(/\n\s*/g, " ");
  return line.length <= ONE_LINE ? line : lines;
}

/**
 * @param {any} value
 * @returns {string}
 */
function words(value) {
  return typeof value === "string" ? layOut(value) : pretty(value);
}

/**
 * What a tool reports may be anything. These forms have a bar: a fraction (0 to 1), `{fraction}`,
 * `{progress}`, `{percent}`, `{done, total}`.
 * @param {any} data
 * @returns {number | null} From 0 to 1, or null when the report has no such form.
 */
export function fractionOf(data) {
  if (typeof data === "number") return data >= 0 && data <= 1 ? data : null;
  if (data === null || typeof data !== "object") return null;
  if (typeof data.fraction === "number") return data.fraction;
  if (typeof data.progress === "number") return data.progress;
  if (typeof data.percent === "number") return data.percent / 100;
  return typeof data.done === "number" && data.total > 0 ? data.done / data.total : null;
}

/**
 * @param {string} title
 * @param {string} testId
 */
function section(title, testId) {
  const text = document.createTextNode("");
  const block = element("pre", { "data-testid": testId, tabindex: "0" }, text);
  const node = element(
    "div",
    { class: "tool-section", hidden: true },
    element("h4", {}, title),
    block,
  );
  return {
    node,
    /** @param {string | null} content */
    show(content) {
      setAttribute(node, "hidden", content === null || content === "");
      setText(text, content ?? "");
    },
  };
}

/** @returns {import("./keyed.js").Shown<ToolItem>} */
export function showTool() {
  const name = document.createTextNode("");
  const status = element("span", { class: "chip" });
  const duration = element("span", { class: "tool-duration" });
  const bar = element("progress", { max: "1" });
  const report = element("span", { class: "tool-report" });
  const progress = element("div", { class: "tool-progress", hidden: true }, bar, report);
  const asked = section("Arguments", "tool-arguments");
  const result = section("Result", "tool-result");
  const failure = element("p", { class: "tool-error", hidden: true });
  const node = element(
    "section",
    { class: "card tool", "data-testid": "tool-card" },
    element(
      "header",
      { class: "tool-header" },
      icon("tool"),
      element("h3", { class: "tool-name" }, name),
      duration,
      status,
    ),
    element("div", { class: "tool-sections" }, asked.node, result.node),
    progress,
    failure,
  );
  return {
    node,
    update(item) {
      setAttribute(node, "data-status", item.status);
      setAttribute(node, "aria-label", `Tool ${item.name}`);
      setText(name, item.name);
      status.textContent = STATUS_WORDS[item.status];
      const { durationMs } = item;
      duration.textContent = durationMs === null ? "" : `${Math.round(durationMs)} ms`;
      asked.show(layOut(item.arguments));
      result.show(item.status === "completed" ? words(item.result) : null);
      const fraction = fractionOf(item.progress);
      setAttribute(progress, "hidden", item.status !== "running");
      if (fraction === null) bar.removeAttribute("value");
      else bar.value = fraction;
      setAttribute(bar, "aria-label", `Progress of ${item.name}`);
      report.textContent = reportOf(item.progress);
      const error = item.status === "unknown" ? UNKNOWN_OUTCOME : item.error?.message;
      setAttribute(failure, "hidden", error === undefined);
      failure.textContent = error ?? "";
    },
  };
}

/**
 * @param {any} data
 * @returns {string} The report in words; a bare fraction in percent.
 */
export function reportOf(data) {
  if (data === null) return "";
  if (typeof data === "string") return data;
  const said = data.message ?? data.stage;
  if (typeof said === "string") return said;
  const fraction = fractionOf(data);
  return fraction === null ? JSON.stringify(data) : `${Math.round(fraction * 100)} %`;
}

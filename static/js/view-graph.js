// @ts-check
/** @file A run of a graph: its nodes as they wait, work and end. */

import { element, icon, setAttribute, setText } from "./dom.js";
import { keyedList } from "./keyed.js";
import { stagesOf } from "./stages.js";
import { fractionOf, reportOf } from "./view-tool.js";

/** @typedef {import("./types.js").GraphItem} GraphItem */
/** @typedef {import("./types.js").GraphShape} GraphShape */
/** @typedef {import("./stages.js").ShownNode} ShownNode */
/** @typedef {import("./stages.js").Stage} Stage */

/** @type {Record<string, {words: string, icon: string | null}>} */
const STATUS = {
  waiting: { words: "Waiting", icon: null },
  running: { words: "Running", icon: null },
  interrupted: { words: "Waiting for you", icon: "hand" },
  completed: { words: "Done", icon: "check" },
  failed: { words: "Failed", icon: "alert" },
  stopped: { words: "Stopped", icon: "stop" },
  skipped: { words: "Not run", icon: null },
};

/** Failures that are no fault of the node: it was cut off. */
const CUT_OFF = new Set(["cancelled", "taken_over", "timeout"]);

/**
 * @param {ShownNode} node
 * @returns {string} How it stands, in the words of `STATUS`.
 */
function statusOf({ status, error }) {
  const code = /** @type {{code?: string} | null} */ (error)?.code;
  return status === "failed" && code !== undefined && CUT_OFF.has(code) ? "stopped" : status;
}

/**
 * @param {readonly string[]} statuses Of all nodes.
 * @param {boolean} over
 * @returns {string} How the graph stands.
 */
function overall(statuses, over) {
  const worst = ["failed", "interrupted", "stopped"].find((status) => statuses.includes(status));
  if (worst !== undefined && (over || worst === "interrupted")) return worst;
  return over ? "completed" : "running";
}

/**
 * @param {number} milliseconds
 * @returns {string}
 */
function spent(milliseconds) {
  if (milliseconds < 1) return "under 1 ms";
  return milliseconds < 1000
    ? `${Math.round(milliseconds)} ms`
    : `${(milliseconds / 1000).toFixed(1)} s`;
}

/**
 * @param {(name: string) => GraphShape | null} shapeOf
 * @param {Set<() => void>} refreshes Called when shapes have come.
 * @returns {import("./keyed.js").Shown<GraphItem>}
 */
export function showGraph(shapeOf, refreshes) {
  /** @type {GraphItem | null} */
  let current = null;
  const name = document.createTextNode("");
  const count = element("span", { class: "graph-count" });
  const chip = element("span", { class: "chip" });
  const list = element("ol", { class: "graph-stages" });
  const showStages = keyedList(list, ({ key }) => key, showStage);
  const node = element(
    "section",
    { class: "card graph", "data-testid": "graph-card" },
    element(
      "header",
      { class: "graph-header" },
      icon("graph"),
      element("h3", {}, name),
      count,
      chip,
    ),
    list,
  );

  /** @param {GraphItem} item */
  function update(item) {
    current = item;
    const stages = stagesOf(item, shapeOf(item.name));
    const statuses = stages.flatMap((stage) => stage.nodes.map(statusOf));
    const done = statuses.filter((status) => status === "completed").length;
    const status = overall(statuses, item.over);
    setText(name, item.name);
    count.textContent = statuses.length > 0 ? `${done} of ${statuses.length} nodes done` : "";
    chip.textContent = STATUS[status].words;
    setAttribute(node, "data-status", status);
    setAttribute(node, "aria-label", `Graph ${item.name}`);
    showStages(stages);
  }

  refreshes.add(() => current !== null && update(current));
  return { node, update };
}

/** @returns {import("./keyed.js").Shown<Stage>} */
function showStage() {
  const nodes = element("ul", { class: "graph-nodes" });
  const showNodes = keyedList(nodes, ({ key }) => key, showNode);
  const node = element("li", { class: "graph-stage" }, nodes);
  return {
    node,
    update(stage) {
      const statuses = stage.nodes.map(statusOf);
      const working = statuses.find((status) => /running|interrupted|failed/.test(status));
      setAttribute(node, "data-status", working ?? statuses[0]);
      showNodes(stage.nodes);
    },
  };
}

/** @returns {import("./keyed.js").Shown<ShownNode>} */
function showNode() {
  const mark = element("span", { class: "node-mark", "aria-hidden": "true" });
  const name = document.createTextNode("");
  const times = element("span", { class: "node-times" });
  const status = element("span", { class: "node-status" });
  const report = element("p", { class: "node-report", hidden: true });
  const bar = element("progress", { max: "1", hidden: true });
  const inside = element("ol", { class: "graph-stages", hidden: true });
  const showInside = keyedList(inside, ({ key }) => key, showStage);
  const node = element(
    "li",
    { class: "graph-node", "data-testid": "graph-node" },
    element(
      "div",
      { class: "node-head" },
      mark,
      element("span", { class: "node-name" }, name, times),
      status,
    ),
    report,
    bar,
    inside,
  );
  return {
    node,
    update(item) {
      const stands = statusOf(item);
      setAttribute(node, "data-status", stands);
      setAttribute(node, "data-node", item.node);
      setText(name, item.node);
      times.textContent = item.times > 1 ? ` ×${item.times}` : "";
      if (mark.dataset.status !== stands) {
        mark.dataset.status = stands;
        const shown = STATUS[stands].icon;
        mark.replaceChildren(...(shown === null ? [] : [icon(shown)]));
      }
      const { durationMs, error, progress } = item;
      const { words } = STATUS[stands];
      // What is done shows how long it took; its mark says the rest to those who see it.
      status.replaceChildren(
        element("span", { class: durationMs === null ? "" : "visually-hidden" }, words),
        durationMs === null ? "" : ` ${spent(durationMs)}`,
      );
      const working = stands === "running";
      const said = working && progress !== null ? reportOf(progress) : "";
      const failed = stands === "failed" ? (error?.message ?? "") : "";
      report.textContent = failed || said;
      report.hidden = report.textContent === "";
      const fraction = fractionOf(progress);
      bar.hidden = !working || fraction === null;
      bar.value = fraction ?? 0;
      setAttribute(bar, "aria-label", `Progress of ${item.node}`);
      inside.hidden = item.stages.length === 0;
      showInside(item.stages);
    },
  };
}

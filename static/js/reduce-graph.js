// @ts-check
/** @file The part of the fold that concerns graphs and their nodes. Pure. */

import { graphOf, startsWith } from "./path.js";
import { append, change, graphKey, has } from "./timeline.js";

/** @typedef {import("./types.js").Frame} Frame */
/** @typedef {import("./types.js").GraphItem} GraphItem */
/** @typedef {import("./types.js").GraphNode} GraphNode */
/** @typedef {import("./types.js").Item} Item */
/** @typedef {import("./types.js").ViewState} ViewState */
/** @typedef {import("./path.js").Path} Path */
/** @typedef {readonly Item[]} Items */

/**
 * @param {string | null} runId
 * @param {Path} path The path of the outermost graph.
 * @param {readonly GraphNode[]} [nodes]
 * @returns {GraphItem}
 */
export function graphItem(runId, path, nodes = []) {
  const name = (path.at(-1) ?? "").replace(/^.*:/, "");
  return { kind: "graph", key: graphKey(runId, path), runId, path, name, over: false, nodes };
}

/**
 * @param {Path} path
 * @param {string} node
 * @returns {string}
 */
export const nodeKey = (path, node) => [...path, node].join("/");

/**
 * @param {Path} path The path of the node's graph.
 * @param {string} node
 * @param {Partial<GraphNode>} [known]
 * @returns {GraphNode}
 */
export function graphNode(path, node, known = {}) {
  return {
    key: nodeKey(path, node),
    node,
    path,
    status: "running",
    superstep: null,
    times: 1,
    progress: null,
    error: null,
    durationMs: null,
    visited: 0,
    ...known,
  };
}

/**
 * @param {ViewState} state
 * @param {Frame} event One of `node.*`.
 * @returns {Partial<ViewState>}
 */
export function reduceNode({ items }, event) {
  switch (event.type) {
    case "node.started":
      return { items: started(items, event), activity: `Step ${event.node}` };
    case "node.update":
      return { items: become(items, event, { progress: event.updates }) };
    case "node.completed": {
      const done = { progress: null, error: null, durationMs: event.duration_ms };
      return { items: become(items, event, { ...done, status: "completed" }) };
    }
    case "node.failed": {
      if (event.error.code === "interrupted") {
        return { items: become(items, event, { progress: null, status: "interrupted" }) };
      }
      const status = event.will_retry ? "running" : "failed";
      const failed = become(items, event, { progress: null, error: event.error, status });
      return { items: event.will_retry ? withoutVisit(failed, event) : failed };
    }
    default:
      return {};
  }
}

/**
 * @param {Items} items
 * @param {Frame} event A `node.started`.
 * @returns {Items}
 */
function started(items, event) {
  const { run_id: runId = null, path = [], node, superstep = null } = event;
  const graph = graphOf(path);
  const key = graphKey(runId, graph);
  const there = has(items, key) ? items : append(items, graphItem(runId, graph));
  return change(there, key, (/** @type {GraphItem} */ { nodes }) => {
    const mine = nodeKey(path, node);
    const before = nodes.find((one) => one.key === mine);
    const visited = there.length;
    if (before === undefined) {
      return { nodes: [...nodes, graphNode(path, node, { superstep, visited })] };
    }
    // One that goes on in its superstep keeps its place; one that comes again goes to the end.
    const goesOn = before.superstep === null || before.superstep === superstep;
    const times = before.times + (goesOn ? 0 : 1);
    const since = goesOn ? before.visited : visited;
    const again = graphNode(path, node, { superstep, times, visited: since });
    const others = nodes.filter((one) => one !== before);
    return { nodes: goesOn ? nodes.with(nodes.indexOf(before), again) : [...others, again] };
  });
}

/**
 * @param {Items} items
 * @param {Frame} event
 * @param {Partial<GraphNode>} changes
 * @returns {Items}
 */
function become(items, event, changes) {
  const { run_id: runId = null, path = [], node } = event;
  const mine = nodeKey(path, node);
  return change(items, graphKey(runId, graphOf(path)), (/** @type {GraphItem} */ { nodes }) => ({
    nodes: nodes.map((one) => (one.key === mine ? { ...one, ...changes } : one)),
  }));
}

/**
 * A node that is tried again says anew all that it has said in this visit.
 * @param {Items} items
 * @param {Frame} event A `node.failed`.
 * @returns {Items}
 */
function withoutVisit(items, event) {
  const { run_id: runId = null, path = [], node } = event;
  const graph = items.find(({ key }) => key === graphKey(runId, graphOf(path)));
  const nodes = graph?.kind === "graph" ? graph.nodes : [];
  const visited = nodes.find(({ key }) => key === nodeKey(path, node))?.visited ?? 0;
  const status = /** @type {const} */ ("superseded");
  return items.map((item, place) => {
    if (item.kind !== "message" || item.runId !== runId || place < visited) return item;
    return startsWith(item.path ?? [], [...path, node]) ? { ...item, status } : item;
  });
}

/**
 * A node that waits for a human; one that asks before it begins was not there yet.
 * @param {Items} items
 * @param {Frame} approval An `approval.requested`.
 * @returns {Items}
 */
export function held(items, approval) {
  const { run_id: runId = null, path = [], node, call_id: callId } = approval;
  if (node === undefined || callId !== undefined) return items;
  return change(items, graphKey(runId, graphOf(path)), (/** @type {GraphItem} */ { nodes }) => {
    const status = /** @type {const} */ ("interrupted");
    const inside = path.join("/");
    const asks = nodes.find(({ key }) => key === nodeKey(path, node) || key === inside);
    if (asks === undefined) return { nodes: [...nodes, graphNode(path, node, { status })] };
    return { nodes: nodes.with(nodes.indexOf(asks), { ...asks, status }) };
  });
}

/**
 * What an event of the run means to its graphs.
 * @param {Items} items
 * @param {Frame} event One of `run.*`.
 * @returns {Items}
 */
export function reduceGraphs(items, event) {
  const { type, run_id: runId = null, path = [] } = event;
  if (type === "run.started") {
    if (event.graph === undefined) return items;
    const own = path.length > 0 ? path : [event.graph];
    return append(items, graphItem(runId, own, doneBy(items, event.parent_run_id ?? null, own)));
  }
  if (type === "run.interrupted") return stopped(items, runId, "interrupted", false);
  if (/^run\.(completed|failed|cancelled)$/.test(type)) {
    return stopped(items, runId, "skipped", true);
  }
  return items;
}

/**
 * What a run need not do, because the run that it continues has done it.
 * @param {Items} items
 * @param {string | null} parent
 * @param {Path} path
 * @returns {readonly GraphNode[]}
 */
function doneBy(items, parent, path) {
  const before = parent && items.find(({ key }) => key === graphKey(parent, path));
  if (!before || before.kind !== "graph") return [];
  return before.nodes.filter(({ status }) => status === "completed");
}

/**
 * @param {Items} items
 * @param {string | null} runId
 * @param {"interrupted" | "skipped"} status What becomes of nodes that are not done.
 * @param {boolean} over
 * @returns {Items}
 */
function stopped(items, runId, status, over) {
  return items.map((item) => {
    if (item.kind !== "graph" || item.runId !== runId) return item;
    const nodes = item.nodes.map((node) =>
      /^(running|interrupted)$/.test(node.status) ? { ...node, status } : node,
    );
    return { ...item, nodes, over };
  });
}

/**
 * Whether what was said at a path was said by a node that is not done.
 * @param {Items} items
 * @param {string | null} runId
 * @param {Path} path
 * @returns {boolean} Also when no node said it.
 */
export function unfinished(items, runId, path) {
  const nodes = items.flatMap((item) =>
    item.kind === "graph" && item.runId === runId ? item.nodes : [],
  );
  const above = nodes.filter((one) => startsWith(path, [...one.path, one.node]));
  return above.length === 0 || above.some(({ status }) => status !== "completed");
}

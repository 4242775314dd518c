// @ts-check
/** @file How a graph is laid out: its supersteps in order, the nodes of each side by side. Pure. */

import { startsWith } from "./path.js";
import { graphNode } from "./reduce-graph.js";

/** @typedef {import("./types.js").GraphItem} GraphItem */
/** @typedef {import("./types.js").GraphNode} GraphNode */
/** @typedef {import("./types.js").GraphShape} GraphShape */
/** @typedef {import("./path.js").Path} Path */

/**
 * A node as it is shown; `waiting` if it has not begun. `stages` are those of the graph inside it.
 * @typedef {Omit<GraphNode, "status"> & {status: GraphNode["status"] | "waiting",
 *   stages: readonly Stage[]}} ShownNode
 */

/** @typedef {{key: string, nodes: readonly ShownNode[]}} Stage */

/**
 * @param {GraphItem} graph
 * @param {GraphShape | null} shape All its nodes, if they are known before they begin.
 * @returns {Stage[]}
 */
export function stagesOf({ path, nodes, over }, shape) {
  const depths = shape === null ? new Map() : depthsOf(shape);
  const known = new Set(nodes.filter((one) => same(one.path, path)).map(({ node }) => node));
  const status = /** @type {any} */ (over ? "skipped" : "waiting");
  const missing = [...depths.keys()]
    .filter((name) => !known.has(name))
    .map((name) => graphNode(path, name, { status }));
  return laidOut([...nodes, ...missing], depths);
}

/**
 * @param {readonly GraphNode[]} nodes Those of one graph, and of the graphs inside it.
 * @param {Map<string, number>} depths In which superstep a node is expected, by name.
 * @returns {Stage[]}
 */
function laidOut(nodes, depths) {
  const outermost = Math.min(...nodes.map(({ path }) => path.length));
  const own = nodes.filter(({ path }) => path.length === outermost);
  const last = Math.max(0, ...own.map(({ superstep }) => superstep ?? 0));
  /** @type {Map<number, ShownNode[]>} */
  const stages = new Map();
  for (const one of own) {
    const at = one.superstep ?? depths.get(one.node) ?? last + 1;
    const inside = nodes.filter(
      ({ path }) => path.length > outermost && startsWith(path, [...one.path, one.node]),
    );
    const shown = { ...one, stages: inside.length > 0 ? laidOut(inside, new Map()) : [] };
    stages.set(at, [...(stages.get(at) ?? []), shown]);
  }
  return [...stages]
    .sort(([one], [other]) => one - other)
    .map(([at, together]) => ({ key: `stage:${at}`, nodes: together }));
}

/**
 * In which superstep each node is expected: the length of the shortest way to it.
 * @param {GraphShape} shape
 * @returns {Map<string, number>}
 */
export function depthsOf({ start, edges }) {
  /** @type {Map<string, number>} */
  const depths = new Map();
  let depth = 1;
  let due = start;
  while (due.length > 0) {
    const fresh = due.filter((name) => !depths.has(name));
    for (const name of fresh) depths.set(name, depth);
    due = fresh.flatMap((name) => edges[name] ?? []);
    depth += 1;
  }
  return depths;
}

/**
 * @param {Path} one
 * @param {Path} other
 * @returns {boolean}
 */
function same(one, other) {
  return one.length === other.length && startsWith(one, other);
}

// @ts-check
/**
 * @file Who says an event: paths lead from the run's agent or graph to the one that speaks. Pure.
 *
 * An agent or a graph that was called as a tool has a part `call_id:name` in its path. What it says
 * is for its caller, so the page shows it apart.
 */

/** @typedef {readonly string[]} Path */

/**
 * The path of what is said below the run's own agent; null for what that agent says itself.
 * @param {any} path As events and snapshots have it.
 * @returns {Path | null}
 */
export function nested(path) {
  return Array.isArray(path) && path.length > 1 ? path : null;
}

/**
 * The agents that were called as tools, on the way to whoever speaks.
 * @param {Path | null} path
 * @returns {{path: Path, callId: string, name: string}[]} From the outermost one.
 */
export function callees(path) {
  return (path ?? []).flatMap((part, index, whole) => {
    const cut = part.lastIndexOf(":");
    if (cut === -1) return [];
    return [
      { path: whole.slice(0, index + 1), callId: part.slice(0, cut), name: part.slice(cut + 1) },
    ];
  });
}

/**
 * The outermost graph that a node belongs to: what is drawn as one.
 * @param {Path} path The path of the node's own graph.
 * @returns {Path}
 */
export function graphOf(path) {
  return callees(path).at(-1)?.path ?? path.slice(0, 1);
}

/**
 * @param {Path} path
 * @param {Path} start
 * @returns {boolean} Whether a path leads through another one.
 */
export function startsWith(path, start) {
  return start.every((part, index) => path[index] === part);
}

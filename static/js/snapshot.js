// @ts-check
/** @file A snapshot of the wire → the page's state. Pure. */

import { graphOf, nested } from "./path.js";
import { graphItem, graphNode } from "./reduce-graph.js";
import { approvalItem } from "./reduce-tool.js";
import { callKey, has, messageItem, messageKey, put, reasoningKey } from "./timeline.js";
import { toolItem } from "./timeline.js";

/** @typedef {import("./types.js").GraphItem} GraphItem */
/** @typedef {import("./types.js").Item} Item */
/** @typedef {import("./types.js").ViewState} ViewState */

/**
 * @param {any} message An entry of `messages`.
 * @returns {Item[]} The message and the tool calls that it made.
 */
function itemsOf(message) {
  const runId = message.run_id ?? null;
  const path = nested(message.path);
  const calls = (message.tool_calls ?? []).map((/** @type {any} */ call) =>
    toolItem({
      callId: call.call_id,
      name: call.name,
      runId,
      path,
      messageId: message.message_id,
      arguments: call.arguments,
      status: call.status,
      progress: call.progress ?? null,
      result: call.result ?? null,
      error: call.error ?? null,
    }),
  );
  const status = message.superseded ? "superseded" : message.incomplete ? "incomplete" : "complete";
  const item = messageItem({
    messageId: message.message_id,
    role: message.role,
    text: message.text,
    status,
    runId,
    agent: message.agent ?? null,
    turn: message.turn ?? null,
    path,
  });
  return item.text === "" && calls.length > 0 ? calls : [item, ...calls];
}

/**
 * @param {readonly Item[]} items
 * @param {any} open What is being streamed right now.
 * @param {string | null} runId The active run.
 * @returns {readonly Item[]}
 */
function withOpen(items, open, runId) {
  for (const { message_id: messageId, text, run_id, path } of open.reasoning ?? []) {
    const key = reasoningKey(messageId);
    items = put(items, {
      kind: "reasoning",
      key,
      messageId,
      text,
      status: "streaming",
      runId: run_id,
      path: nested(path),
    });
  }
  for (const { message_id: messageId, role, text, run_id, path, ...said } of open.messages ?? []) {
    const { agent = null, turn = null } = said;
    const known = { messageId, role, text, runId: run_id, agent, turn, path: nested(path) };
    items = put(items, messageItem({ ...known, status: "streaming", final: false }));
  }
  for (const call of open.tool_calls ?? []) {
    const { call_id: callId, name } = call;
    const known = { callId, name, runId, path: nested(call.path), arguments: call.arguments };
    items = put(items, toolItem({ ...known, status: "writing" }));
  }
  const running = new Set(open.tools ?? []);
  return items.map((item) =>
    item.kind === "tool" && item.runId === runId && running.has(item.callId)
      ? { ...item, status: /** @type {const} */ ("running") }
      : item,
  );
}

/**
 * @param {readonly Item[]} items
 * @param {any} approval One that waits for a human.
 * @returns {readonly Item[]}
 */
function withApproval(items, approval) {
  const asked = approvalItem(approval);
  const { callId, tool, runId, path } = asked;
  if (callId !== null && tool !== null) {
    const call = { callId, runId, path };
    if (!has(items, callKey(items, call))) {
      items = put(items, toolItem({ ...call, name: tool, arguments: asked.arguments ?? "" }));
    }
  }
  return put(items, asked);
}

/**
 * The graphs of the run, each before the first thing that was said in answer to the input.
 * @param {readonly Item[]} items
 * @param {any} run
 * @returns {readonly Item[]}
 */
function withGraphs(items, run) {
  if (!Array.isArray(run?.nodes)) return items;
  const over = !["queued", "running", "interrupted"].includes(run.status);
  /** @type {Map<string, GraphItem>} */
  const graphs = new Map();
  /** @param {GraphItem} graph */
  const keep = (graph) => graphs.set(graph.key, graph).get(graph.key) ?? graph;
  if (run.nodes.length === 0) keep({ ...graphItem(run.run_id, [run.agent]), over });
  for (const { node, path, error, progress, duration_ms: durationMs, ...known } of run.nodes) {
    const empty = { ...graphItem(run.run_id, graphOf(path)), over };
    const graph = graphs.get(empty.key) ?? empty;
    const more = { error: error ?? null, progress: progress ?? null };
    const one = graphNode(path, node, { ...known, ...more, durationMs: durationMs ?? null });
    keep({ ...graph, nodes: [...graph.nodes, one] });
  }
  const isAnswer = (/** @type {Item} */ item) =>
    item.runId === run.run_id && !(item.kind === "message" && item.role === "user");
  const answered = items.findIndex(isAnswer);
  const place = answered === -1 ? items.length : answered;
  return [...items.slice(0, place), ...graphs.values(), ...items.slice(place)];
}

/**
 * @param {any} run
 * @returns {import("./types.js").Run | null}
 */
function runOf(run) {
  if (run === null) return null;
  const { nodes: _, ...known } = run;
  return { agent: null, error: null, stopping: false, ...known };
}

/**
 * The state at a snapshot: nothing of an earlier state is kept.
 * @param {any} snapshot As `GET /v1/sessions/{sid}` gives it.
 * @returns {ViewState}
 */
export function fromSnapshot(snapshot) {
  const { run } = snapshot;
  const said = withOpen(snapshot.messages.flatMap(itemsOf), snapshot.open, run?.run_id ?? null);
  const spoken = withGraphs(said, run);
  const queue = snapshot.queue.map((/** @type {any} */ waiting) => ({
    run_id: waiting.run_id,
    command_id: waiting.command_id,
    text: waiting.message.content,
    message_id: waiting.message.message_id,
    policy: waiting.policy ?? "enqueue",
  }));
  const queued = new Set(queue.map((/** @type {any} */ { message_id: id }) => messageKey(id)));
  const items = snapshot.approvals.reduce(
    withApproval,
    spoken.filter(({ key }) => !queued.has(key)),
  );
  return {
    sessionId: snapshot.session_id,
    agent: snapshot.agent,
    status: snapshot.status,
    cursor: snapshot.cursor,
    seq: null,
    run: runOf(run),
    items,
    queue,
    usage: snapshot.usage,
    activity: null,
    title: snapshot.metadata?.title ?? null,
  };
}

// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";

import { grouped } from "../../static/js/grouped.js";
import { callees, graphOf, nested } from "../../static/js/path.js";
import { reduce } from "../../static/js/reduce.js";
import { fromSnapshot } from "../../static/js/snapshot.js";
import { event, snapshot } from "./support.js";

const root = ["boss"];
const below = ["boss", "call_1:researcher"];
const deeper = [...below, "call_1:reader"];

/** @type {(events: any[]) => import("../../static/js/types.js").ViewState} */
const fold = (events) =>
  events
    .map(([type, fields], index) => event(index + 1, type, { path: root, ...fields }))
    .reduce(reduce, fromSnapshot(snapshot()));

/** @type {(id: string, path: string[]) => any[]} */
const said = (id, path) => [
  ["message.started", { message_id: id, path, agent: path.at(-1), turn: 1 }],
  ["message.completed", { message_id: id, path, text: id }],
];
/** @type {(callId: string, path: string[]) => any[]} */
const called = (callId, path) => ["tool_call.started", { call_id: callId, name: callId, path }];

/** @type {(laid: readonly any[], depth?: number) => any[]} */
const drawn = (laid, depth = 0) =>
  laid.map((item) => {
    if (item.kind === "nested")
      return [item.name, drawn(grouped(item.items, depth + 1), depth + 1)];
    return item.kind === "tool" ? `call ${item.callId}` : item.text;
  });

test("a path says which agents were called on the way", () => {
  assert.equal(nested(root), null);
  assert.equal(nested([]), null);
  assert.deepEqual(
    callees(deeper).map(({ name }) => name),
    ["researcher", "reader"],
  );
  assert.deepEqual(callees(["flow", "node", "writer"]), []);
  const [odd] = callees(["boss", "functions.find:0:researcher"]); // ids are the providers' own
  assert.deepEqual([odd.callId, odd.name], ["functions.find:0", "researcher"]);
  assert.deepEqual(graphOf(["flow", "node", "sub"]), ["flow"]);
  assert.deepEqual(graphOf(["boss", "call_1:flow", "node", "sub"]), ["boss", "call_1:flow"]);
});

test("what called agents say stands below their calls, at any depth", () => {
  const state = fold([
    ...said("I ask", root),
    called("call_1", root),
    called("call_2", root),
    ...said("I look", below),
    called("call_1", below),
    called("call_3", below),
    ...said("I read", deeper),
    ...said("found", below),
    ...said("done", root),
  ]);
  assert.deepEqual(drawn(grouped(state.items)), [
    "I ask",
    "call call_1",
    ["researcher", ["I look", "call call_1", ["reader", ["I read"]], "call call_3", "found"]],
    "call call_2",
    "done",
  ]);
});

test("the same call id at two depths is two calls", () => {
  const state = fold([
    called("call_1", root),
    called("call_1", below),
    ["tool.completed", { call_id: "call_1", name: "x", result: 1, duration_ms: 1, path: below }],
  ]);
  const tools = state.items.filter(({ kind }) => kind === "tool");
  assert.deepEqual(
    tools.map((item) => item.kind === "tool" && item.status),
    ["writing", "completed"],
  );
});

test("a question to the human is never put away", () => {
  const state = fold([
    called("call_1", root),
    ...said("I look", below),
    ["approval.requested", { approval_id: "apr_1", call_id: "call_9", path: below, tool: "x" }],
  ]);
  assert.deepEqual(
    grouped(state.items).map(({ kind }) => kind),
    ["tool", "nested", "approval"],
  );
});

test("what the nodes of a graph say is part of the conversation", () => {
  const state = fold([...said("from a node", ["flow", "write", "writer"])]);
  assert.deepEqual(drawn(grouped(state.items)), ["from a node"]);
});

test("a snapshot lays out what was said below as the log does", () => {
  const call = { call_id: "call_1", name: "researcher", arguments: "{}", status: "running" };
  const messages = [
    { message_id: "m1", role: "assistant", text: "I ask", run_id: "run_1", tool_calls: [call] },
    { message_id: "m2", role: "assistant", text: "I look", run_id: "run_1", path: below },
  ];
  const state = fromSnapshot(snapshot("running", { messages }));
  assert.deepEqual(drawn(grouped(state.items)), [
    "I ask",
    "call call_1",
    ["researcher", ["I look"]],
  ]);
});

// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";

import { reduce } from "../../static/js/reduce.js";
import { fromSnapshot } from "../../static/js/snapshot.js";
import { depthsOf, stagesOf } from "../../static/js/stages.js";
import { event, snapshot } from "./support.js";

/** @typedef {import("../../static/js/types.js").GraphItem} GraphItem */
/** @typedef {import("../../static/js/types.js").ViewState} ViewState */

const path = ["flow"];
const run = { run_id: "run_1", status: "running", attempt: 1, agent: "flow" };
const shape = {
  start: ["plan"],
  edges: { plan: ["a", "b"], a: ["write"], b: ["write"], write: [] },
};

/** @type {(events: any[], start?: ViewState) => ViewState} */
const fold = (events, start = fromSnapshot(snapshot())) =>
  events
    .map(([type, fields], index) => event(index + 1, type, { path, ...fields }))
    .reduce(reduce, start);

const started = ["run.started", { graph: "flow", attempt: 1 }];
/** @type {(node: string, superstep?: number, more?: any) => any[]} */
const begin = (node, superstep = 1, more = {}) => ["node.started", { node, superstep, ...more }];
/** @type {(node: string, more?: any) => any[]} */
const end = (node, more = {}) => ["node.completed", { node, duration_ms: 5, ...more }];

/** @type {(state: ViewState) => GraphItem} */
const graphIn = (state) => {
  const found = state.items.find((item) => item.kind === "graph");
  assert.equal(found?.kind, "graph");
  return /** @type {GraphItem} */ (found);
};
/** @type {(state: ViewState) => any[]} */
const stands = (state) => graphIn(state).nodes.map(({ node, status }) => [node, status]);

test("a run of a graph is drawn from its start, and nodes join it as they begin", () => {
  const state = fold([started, begin("plan"), end("plan"), begin("a", 2), begin("b", 2)]);
  assert.equal(state.run?.agent, "flow");
  assert.equal(graphIn(state).name, "flow");
  assert.deepEqual(stands(state), [
    ["plan", "completed"],
    ["a", "running"],
    ["b", "running"],
  ]);
  assert.equal(graphIn(state).nodes[0].durationMs, 5);
});

test("progress is the latest report, and goes when the node is done", () => {
  const update = (/** @type {number} */ progress) => [
    "node.update",
    { node: "a", updates: { progress } },
  ];
  const state = fold([started, begin("a"), update(0.2), update(0.6)]);
  assert.deepEqual(graphIn(state).nodes[0].progress, { progress: 0.6 });
  assert.equal(graphIn(fold([started, begin("a"), update(0.2), end("a")])).nodes[0].progress, null);
});

test("a node that fails and is tried again goes on; one that fails for good has failed", () => {
  const error = { code: "node_failed", message: "no" };
  const again = fold([
    started,
    begin("a"),
    ["node.failed", { node: "a", error, will_retry: true }],
  ]);
  assert.deepEqual(stands(again), [["a", "running"]]);
  const failed = fold([started, begin("a"), ["node.failed", { node: "a", error }]]);
  assert.deepEqual(stands(failed), [["a", "failed"]]);
});

test("a node that comes again moves to the end; one that goes on keeps its place", () => {
  const state = fold([started, begin("a", 1), end("a"), begin("b", 2), end("b"), begin("a", 3)]);
  assert.deepEqual(stands(state), [
    ["b", "completed"],
    ["a", "running"],
  ]);
  assert.equal(graphIn(state).nodes[1].times, 2);
  const resumed = fold([started, begin("a", 1), begin("b", 1), begin("a", 1)]);
  assert.deepEqual(
    stands(resumed).map(([node]) => node),
    ["a", "b"],
  );
});

test("a node that asks before it begins waits for the human, and what is cut off is not run", () => {
  const ask = ["approval.requested", { approval_id: "apr_1", node: "write", arguments: '{"a":1}' }];
  const asked = fold([started, begin("plan"), end("plan"), ask]);
  assert.deepEqual(stands(asked).at(-1), ["write", "interrupted"]);
  const inside = fold([started, begin("write"), [ask[0], { ...ask[1], path: ["flow", "write"] }]]);
  assert.deepEqual(stands(inside), [["write", "interrupted"]]);
  const over = reduce(asked, event(5, "run.cancelled", { path, reason: "cancel" }));
  assert.deepEqual(stands(over).at(-1), ["write", "skipped"]);
});

test("an interrupted run holds what worked, and a resumed node is the same one", () => {
  const state = fold([started, begin("write"), ["run.interrupted", { reason: "approval" }]]);
  assert.deepEqual(stands(state), [["write", "interrupted"]]);
  const resumed = fold([
    started,
    begin("write"),
    ["run.interrupted", {}],
    ["run.resumed", {}],
    begin("write"),
  ]);
  assert.deepEqual(stands(resumed), [["write", "running"]]);
  assert.equal(graphIn(resumed).nodes[0].times, 1);
});

test("a snapshot in the middle and the rest of the log give what the whole log gives", () => {
  const message = { role: "user", content: "hi", message_id: "msg_u" };
  const input = ["input.accepted", { message, command_id: "c1", policy: "enqueue" }];
  const before = [
    input,
    started,
    begin("plan"),
    end("plan"),
    begin("a", 2),
    ["node.update", { node: "a", updates: { progress: 0.5 } }],
  ];
  const after = [
    [
      "message.started",
      { message_id: "msg_a", path: ["flow", "a", "writer"], agent: "writer", turn: 1 },
    ],
    ["message.delta", { message_id: "msg_a", text: "sea" }],
    end("a"),
  ];
  const live = fold([...before, ...after]);
  const joined = fromSnapshot(
    snapshot("running", {
      agent: "echo",
      messages: [{ message_id: "msg_u", role: "user", text: "hi", run_id: "run_1" }],
      run: {
        ...run,
        nodes: [
          { node: "plan", path, status: "completed", superstep: 1, times: 1, duration_ms: 5 },
          {
            node: "a",
            path,
            status: "running",
            superstep: 2,
            times: 1,
            progress: { progress: 0.5 },
          },
        ],
      },
    }),
  );
  const rest = after.map(([type, fields], index) =>
    event(index + 7, /** @type {string} */ (type), { path, .../** @type {any} */ (fields) }),
  );
  // Only the log tells how much had been said before a node began.
  const told = (/** @type {ViewState} */ { items }) =>
    items.map((item) =>
      item.kind === "graph"
        ? { ...item, nodes: item.nodes.map((node) => ({ ...node, visited: 0 })) }
        : item,
    );
  assert.deepEqual(told(rest.reduce(reduce, joined)), told(live));
});

test("an open message in a snapshot says who speaks", () => {
  const said = {
    message_id: "msg_a",
    run_id: "run_1",
    role: "assistant",
    text: "sea",
    agent: "writer",
  };
  const open = {
    ...snapshot().open,
    messages: [{ ...said, turn: 2, path: ["flow", "a", "writer"] }],
  };
  const [, item] = fromSnapshot(snapshot("running", { run: { ...run, nodes: [] }, open })).items;
  assert.equal(item.kind === "message" && item.agent, "writer");
});

test("after a take-over a node's words are said anew, unless their step or the node is done", () => {
  const said = (/** @type {string} */ id, /** @type {string} */ node) => {
    const known = { message_id: id, path: ["flow", node, "writer"] };
    return [
      ["message.started", { ...known, turn: 1 }],
      ["message.completed", { ...known, text: id }],
    ];
  };
  const state = fold([
    started,
    begin("done"),
    ...said("in a finished node", "done"),
    end("done"),
    begin("write", 2),
    ...said("in a finished step", "write"),
    [
      "model.completed",
      { message_id: "in a finished step", path: ["flow", "write", "writer"], turn: 1 },
    ],
    ...said("in no finished step", "write"),
    ["run.attempt_started", { attempt: 2, from_step: 0 }],
  ]);
  const marked = state.items.flatMap((item) =>
    item.kind === "message" && item.status === "superseded" ? [item.text] : [],
  );
  assert.deepEqual(marked, ["in no finished step"]);
});

test("a node that is tried again says anew what it said in this visit, and no more", () => {
  const said = (/** @type {string} */ id) => [
    ["message.started", { message_id: id, path: ["flow", "a", "writer"], turn: 1 }],
    ["message.completed", { message_id: id, path: ["flow", "a", "writer"], text: id }],
  ];
  const error = { code: "node_failed", message: "no" };
  const state = fold([
    started,
    begin("a", 1),
    ...said("first visit"),
    end("a"),
    begin("a", 2),
    ...said("second visit"),
    ["node.failed", { node: "a", error, will_retry: true }],
  ]);
  assert.deepEqual(
    state.items.flatMap((item) => (item.kind === "message" ? [item.status] : [])),
    ["complete", "superseded"],
  );
});

test("a node that asks in the middle of its work is closed, and waits for the human", () => {
  const error = { code: "interrupted", message: "it waits for a human" };
  const state = fold([started, begin("a"), ["node.failed", { node: "a", error }]]);
  assert.deepEqual(stands(state), [["a", "interrupted"]]);
});

test("a run that continues another begins with what that one has done", () => {
  const state = fold([
    started,
    begin("plan"),
    end("plan"),
    begin("a", 2),
    ["run.cancelled", { reason: "cancel" }],
    ["run.started", { graph: "flow", run_id: "run_2", parent_run_id: "run_1" }],
  ]);
  const graphs = state.items.flatMap((item) => (item.kind === "graph" ? [item] : []));
  assert.deepEqual(
    graphs.map(({ nodes }) => nodes.map(({ node, status }) => `${node} ${status}`)),
    [["plan completed", "a skipped"], ["plan completed"]],
  );
});

test("a node that was held begins once, and takes back nothing of an earlier run", () => {
  const said = (/** @type {string} */ id, /** @type {string} */ runId) => [
    "message.started",
    { message_id: id, path: ["flow", "a", "writer"], turn: 1, run_id: runId },
  ];
  const second = { run_id: "run_2" };
  const error = { code: "node_failed", message: "no" };
  const state = fold([
    started,
    begin("a"),
    said("first run", "run_1"),
    end("a"),
    ["run.completed", {}],
    ["run.started", { graph: "flow", ...second }],
    ["approval.requested", { approval_id: "apr_1", node: "a", ...second }],
    begin("a", 1, second),
    said("second run", "run_2"),
    ["node.failed", { node: "a", error, will_retry: true, ...second }],
  ]);
  const last = state.items.findLast((item) => item.kind === "graph");
  assert.equal(last?.kind === "graph" && last.nodes[0].times, 1);
  assert.deepEqual(
    state.items.flatMap((item) => (item.kind === "message" ? [item.status] : [])),
    ["streaming", "superseded"],
  );
});

test("what a graph says itself is said anew after a take-over, and so is what no node said", () => {
  const state = fold([
    started,
    ["message.started", { message_id: "own" }],
    ["message.started", { message_id: "below", path: ["flow", "call_1:x"], turn: 1 }],
    ["run.attempt_started", { attempt: 2, from_step: 0 }],
  ]);
  assert.deepEqual(
    state.items.flatMap((item) => (item.kind === "message" ? [item.status] : [])),
    ["superseded", "superseded"],
  );
});

test("supersteps stand in their order, whatever came first", () => {
  const state = fold([started, begin("late", 3), end("late"), begin("early", 2)]);
  assert.deepEqual(
    stagesOf(graphIn(state), null).map(({ nodes }) => nodes[0].node),
    ["early", "late"],
  );
});

test("a run that is asked to stop says so until it ends", () => {
  const asked = fold([started, ["run.stop_requested", { command_id: "c" }]]);
  assert.equal(asked.run?.stopping, true);
  assert.equal(asked.run?.status, "running");
  assert.equal(reduce(asked, event(3, "run.cancelled", { reason: "cancel" })).run?.stopping, false);
});

test("nodes that have not begun wait in the superstep where they are expected", () => {
  assert.deepEqual(
    [...depthsOf(shape)],
    [
      ["plan", 1],
      ["a", 2],
      ["b", 2],
      ["write", 3],
    ],
  );
  const state = fold([started, begin("plan"), end("plan"), begin("a", 2)]);
  const rows = stagesOf(graphIn(state), shape).map(({ nodes }) =>
    nodes.map(({ node, status }) => `${node} ${status}`),
  );
  assert.deepEqual(rows, [["plan completed"], ["a running", "b waiting"], ["write waiting"]]);
});

test("a shape with a loop ends", () => {
  assert.deepEqual(
    [...depthsOf({ start: ["a"], edges: { a: ["b"], b: ["a"] } })],
    [
      ["a", 1],
      ["b", 2],
    ],
  );
});

test("a graph inside a node is drawn inside it", () => {
  const inner = { path: ["flow", "a", "sub"] };
  const state = fold([
    started,
    begin("a"),
    begin("x", 1, inner),
    end("x", inner),
    begin("y", 2, inner),
  ]);
  const [[node]] = stagesOf(graphIn(state), null).map(({ nodes }) => nodes);
  assert.equal(node.node, "a");
  assert.deepEqual(
    node.stages.map(({ nodes }) => nodes.map((one) => `${one.node} ${one.status}`)),
    [["x completed"], ["y running"]],
  );
});

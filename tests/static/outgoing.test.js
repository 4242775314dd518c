// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";

import { withoutKnown, withoutSeen } from "../../static/js/outgoing.js";
import { reduce } from "../../static/js/reduce.js";
import { fromSnapshot } from "../../static/js/snapshot.js";
import { shortRun, snapshot } from "./support.js";

const sending = [{ id: "c1", text: "hello", runId: null }];

test("an input is shown as sending until its event is in the log", () => {
  const [accepted, started] = shortRun();
  assert.deepEqual(withoutSeen(sending, started), sending);
  assert.deepEqual(withoutSeen(sending, accepted), []);
});

test("an input whose event came inside a snapshot is known by its run", () => {
  const state = reduce(fromSnapshot(snapshot()), shortRun()[0]);
  assert.deepEqual(withoutKnown(sending, state), sending);
  assert.deepEqual(withoutKnown([{ ...sending[0], runId: "run_1" }], state), []);
});

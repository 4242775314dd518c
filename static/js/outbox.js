// @ts-check
/**
 * @file Commands on their way. One whose connection dies is sent again with the same id, so it
 * has its effect once, however often it travels.
 */

import { delaySeconds } from "./backoff.js";
import { ConnectionLost } from "./failure.js";
import { newId } from "./identifier.js";

/** @typedef {import("./types.js").Ack} Ack */
/** @typedef {import("./types.js").Command} Command */

/**
 * @typedef {object} Road How commands travel right now.
 * @property {(command: Command) => Promise<Ack>} send
 * @property {(seconds: number, floorSeconds: number) => Promise<void>} pause Wait, or less if the
 *   road opens again, but not less than the floor.
 * @property {() => boolean} closed Whether nobody waits for answers any more.
 * @property {() => number} random Uniform in [0, 1).
 */

/**
 * Send a command until the server has answered it.
 * @param {Road} road
 * @param {{type: string, id?: string, [field: string]: any}} fields
 * @returns {Promise<Ack>}
 * @throws {import("./failure.js").Refused} What the server said, when it said no.
 * @throws {ConnectionLost} When the session was closed before an answer came.
 */
export async function submit(road, fields) {
  const command = { ...fields, id: fields.id ?? newId() };
  for (let attempt = 0; ; attempt += 1) {
    let floorSeconds = 0;
    try {
      return await road.send(command);
    } catch (failure) {
      if (!(failure instanceof ConnectionLost) || road.closed()) throw failure;
      floorSeconds = failure.retryAfterSeconds;
    }
    await road.pause(Math.max(floorSeconds, delaySeconds(attempt, road.random)), floorSeconds);
    if (road.closed()) throw new ConnectionLost("The session has ended.");
  }
}

// @ts-check
/** @file The HTTP routes that the page uses beside the event stream. */

import { ConnectionLost, failureOf } from "./failure.js";
import { newId } from "./identifier.js";

/** @typedef {import("./types.js").AgentInfo} AgentInfo */
/** @typedef {import("./types.js").SessionSummary} SessionSummary */
/** @typedef {import("./types.js").Command} Command */
/** @typedef {import("./types.js").Ack} Ack */

/**
 * @param {string} path
 * @param {RequestInit} [init]
 * @returns {Promise<any>} The JSON body, or null when there is none.
 * @throws {ConnectionLost | import("./failure.js").Refused}
 */
async function request(path, init) {
  let response;
  try {
    response = await fetch(path, init);
  } catch {
    throw new ConnectionLost("The server cannot be reached.");
  }
  if (!response.ok) throw await failureOf(response);
  return response.status === 204 ? null : response.json().catch(() => null);
}

/**
 * @param {string} method
 * @param {unknown} body
 * @returns {RequestInit}
 */
function json(method, body) {
  return { method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
}

/**
 * @param {string} sessionId
 * @returns {string} The path of a session.
 */
export function sessionPath(sessionId) {
  return `/v1/sessions/${encodeURIComponent(sessionId)}`;
}

/** @returns {Promise<AgentInfo[]>} The registered agents; the first is the default. */
export async function listAgents() {
  return (await request("/v1/agents")).agents;
}

/**
 * @param {string | null} after Where the page before this one ended.
 * @returns {Promise<{sessions: SessionSummary[], next: string | null}>} Newest first.
 */
export async function listSessions(after) {
  const query = new URLSearchParams({ limit: "30" });
  if (after !== null) query.set("after", after);
  return request(`/v1/sessions?${query}`);
}

/**
 * @param {string} agent
 * @param {string} title
 * @param {string} [sessionId] Give the one of an attempt whose answer was lost, with the same agent
 *   and title: it makes one session then, whether or not the first attempt had made it.
 * @returns {Promise<any>} The snapshot of the new session.
 */
export function createSession(agent, title, sessionId = newId()) {
  const body = { session_id: sessionId, agent, metadata: { title } };
  return request("/v1/sessions", json("POST", body));
}

/**
 * @param {string} sessionId
 * @returns {Promise<null>}
 */
export function deleteSession(sessionId) {
  return request(sessionPath(sessionId), { method: "DELETE" });
}

/**
 * @param {string} sessionId
 * @param {Command} command
 * @returns {Promise<Ack>}
 */
export function postCommand(sessionId, command) {
  return request(`${sessionPath(sessionId)}/commands`, json("POST", command));
}

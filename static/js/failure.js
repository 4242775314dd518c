// @ts-check
/** @file The two ways in which a request can fail, and how HTTP says them. */

/** The connection died: whether the request arrived is unknown. Send it again with its id. */
export class ConnectionLost extends Error {}

/** The server said no, in words for people. */
export class Refused extends Error {
  /**
   * @param {string} message What the server said.
   * @param {string} code Its stable code.
   */
  constructor(message, code) {
    super(message);
    this.code = code;
  }
}

/** Statuses that a later try can turn into success: overload, restart, a proxy without server. */
const PASSING = new Set([408, 429, 502, 503, 504]);

/**
 * @param {number} status An HTTP status.
 * @returns {boolean} Whether the same request may succeed later.
 */
export function passes(status) {
  return PASSING.has(status);
}

/**
 * Read a response that is not a success.
 * @param {Response} response
 * @returns {Promise<ConnectionLost | Refused>}
 */
export async function failureOf(response) {
  const problem = await response.json().catch(() => ({}));
  const detail = problem.detail ?? problem.title ?? `The server answered ${response.status}.`;
  return passes(response.status)
    ? new ConnectionLost(detail)
    : new Refused(detail, problem.code ?? `http_${response.status}`);
}

// @ts-check
/** @file The two ways in which a request can fail, and how HTTP says them. */

/** The connection died: whether the request arrived is unknown. Send it again with its id. */
export class ConnectionLost extends Error {
  /**
   * @param {string} message For people.
   * @param {number} [retryAfterSeconds] When the server wants to be asked again, at the earliest.
   */
  constructor(message, retryAfterSeconds = 0) {
    super(message);
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

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
 * @returns {Promise<{status: number, code: string, message: string,
 *   retryAfterSeconds: number | null}>}
 */
export async function problemOf(response) {
  const problem = await response.json().catch(() => ({}));
  const after = response.headers.get("Retry-After") ?? "";
  return {
    status: response.status,
    code: problem.code ?? "",
    message: problem.detail ?? problem.title ?? `The server answered ${response.status}.`,
    // As a date it is not used by any server of ours.
    retryAfterSeconds: /^\d+$/.test(after) ? Number(after) : null,
  };
}

/**
 * Read a response that is not a success, as a failure of a request.
 * @param {Response} response
 * @returns {Promise<ConnectionLost | Refused>}
 */
export async function failureOf(response) {
  const { status, code, message, retryAfterSeconds } = await problemOf(response);
  return passes(status)
    ? new ConnectionLost(message, retryAfterSeconds ?? 0)
    : new Refused(message, code || `http_${status}`);
}

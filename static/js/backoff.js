// @ts-check
/** @file When to try a lost connection again. Pure: the dice are passed in. */

/** Longest wait between two tries, in seconds. */
export const CEILING_SECONDS = 30;

/** Upper bound of the first wait, in seconds; it doubles with every failed try. */
export const BASE_SECONDS = 0.5;

/** A stream that lived this long, in seconds, was a good one: its end starts the count anew. */
export const STEADY_SECONDS = 10;

/**
 * Full jitter: anywhere between nothing and the exponential bound, the first retry included, so
 * that the clients of a server which restarts do not all come back in the same moment.
 * @param {number} attempt Failed tries before this one, from 0.
 * @param {() => number} random Uniform in [0, 1).
 * @returns {number} Seconds to wait.
 */
export function delaySeconds(attempt, random) {
  return random() * Math.min(CEILING_SECONDS, BASE_SECONDS * 2 ** attempt);
}

/**
 * The number of failed tries to count from, once a stream has ended.
 * @param {number} attempt The count before it.
 * @param {number} livedSeconds How long the stream lived; 0 if it never came up.
 * @returns {number}
 */
export function nextAttempt(attempt, livedSeconds) {
  return livedSeconds >= STEADY_SECONDS ? 0 : attempt;
}

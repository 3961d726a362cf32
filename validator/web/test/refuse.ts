// Asserts that the verifier refuses a proof, and for which reason.

import assert from 'node:assert/strict';
import type { Genesis } from '../src/genesis.js';
import { Refused, verify } from '../src/proof.js';

/** Runs a check that must refuse; an error of another kind is a fault and passes through. */
export function refuses(check: () => unknown, reason?: string, what = 'it'): void {
  let found: string | undefined;
  try {
    check();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    found = error.reason;
  }
  assert.notEqual(found, undefined, `${what} was not refused`);
  if (reason !== undefined) assert.equal(found, reason, what);
}

export function refused(genesis: Genesis, proof: Uint8Array, reason?: string, what?: string): void {
  refuses(() => verify(genesis, proof), reason, what);
}

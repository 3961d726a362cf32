// Validator sets: how a proof carries one, the digest that names it, and how many of it must sign.

import { compare, type Reader } from './bytes.js';
import { hashValidatorSet } from './hash.js';
import { must } from './refused.js';

export const VALIDATORS_MAX = 100;

export interface ValidatorSet {
  /** Strictly ascending: the place of a key is the place of its bit among the signers. */
  keys: Uint8Array[];
  digest: Uint8Array;
}

/** Names the set of these keys, which are known to ascend. */
export function setOf(keys: Uint8Array[]): ValidatorSet {
  return { keys, digest: hashValidatorSet(...keys) };
}

export function readSet(reader: Reader): ValidatorSet {
  const count = reader.u32();
  must(count >= 1 && count <= VALIDATORS_MAX, 'set size');
  const keys = reader.digests(count);
  const ascends = keys.every((key, place) => place === 0 || compare(keys[place - 1]!, key) < 0);
  must(ascends, 'set order');
  return setOf(keys);
}

/** So many that any two quorums share an honest validator. */
export function quorum(validators: number): number {
  return validators - Math.floor((validators - 1) / 3);
}

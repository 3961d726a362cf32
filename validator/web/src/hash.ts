// Digests: BLAKE3-256 in derive_key mode, one context for each use so that no digest passes for another.

import { blake3 } from '@noble/hashes/blake3.js';
import { utf8 } from './bytes.js';

export type Hash = (...parts: Uint8Array[]) => Uint8Array;

/** Returns the hash of one context. The context's key is derived once and then copied. */
export function derived(context: string): Hash {
  const start = blake3.create({ context: utf8(context) });
  return (...parts) => {
    const hasher = start.clone();
    for (const part of parts) hasher.update(part);
    return hasher.digest();
  };
}

export const hashGenesis = derived('althing 2026 genesis v2');
export const hashCut = derived('althing 2026 cut v2');
export const hashValidatorSet = derived('althing 2026 validator set v1');
export const hashTransactionId = derived('althing 2026 transaction id v1');
export const hashOutcomeLeaf = derived('althing 2026 outcome leaf v2');
export const hashMerkleNode = derived('althing 2026 merkle node v1');
export const hashMerkleRoot = derived('althing 2026 merkle root v1');
export const hashHistoryRecord = derived('althing 2026 history record v1');
export const hashHistoryNode = derived('althing 2026 history node v1');
export const hashHistoryRoot = derived('althing 2026 history root v1');
export const hashStatePage = derived('althing 2026 state page v1');
export const hashStateLinks = derived('althing 2026 state links v1');
export const hashState = derived('althing 2026 state v4');

// The links of a proof: the changes of the validator set on the way from the genesis to the final block.

import { equal, type Reader } from './bytes.js';
import { checkSigners, type Finality, readFinality } from './finality.js';
import type { Genesis } from './genesis.js';
import { must } from './refused.js';
import { readSet, type ValidatorSet } from './sets.js';

export const LINKS_MAX = 128;

/** A block that a set made final, and the other set that it names as the next. */
export interface Link {
  finality: Finality;
  next: ValidatorSet;
}

export function readLinks(reader: Reader): Link[] {
  const count = reader.u32();
  must(count <= LINKS_MAX, 'too many links');
  // Fields are evaluated in the order in which they stand here.
  return Array.from({ length: count }, () => ({
    finality: readFinality(reader),
    next: readSet(reader),
  }));
}

/** Follows the links from the genesis, signatures aside; returns the set that each of them starts from. */
export function followLinks(genesis: Genesis, links: Link[]): ValidatorSet[] {
  const sets = [genesis.set];
  for (const { finality, next } of links) {
    const { header } = finality;
    checkSigners(genesis.digest, sets[sets.length - 1]!, finality);
    must(equal(header.nextSet, next.digest), 'other next set');
    must(!equal(header.nextSet, header.set), 'link without a change');
    sets.push(next);
  }
  return sets;
}

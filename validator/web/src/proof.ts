// Verifies a proof: reads it, follows its links and digests to the header, and checks the signatures last.

import {
  type AbsenceClaim,
  type AccountClaim,
  checkStateClaim,
  readAbsenceClaim,
  readAccountClaim,
} from './accounts.js';
import { Reader } from './bytes.js';
import { checkSigners, checkVotes, type Finality, readFinality } from './finality.js';
import type { Genesis } from './genesis.js';
import { followLinks, type Link, LINKS_MAX, readLinks } from './links.js';
import { must, Refused } from './refused.js';
import { quorum, type ValidatorSet } from './sets.js';
import { KeyRing } from './signatures.js';
import {
  checkAuthor,
  checkTransactionClaim,
  readTransactionClaim,
  type TransactionClaim,
} from './transaction.js';

export { Refused };

/** The largest claim and its block take less than the first part, and a change of a set of 100 less than 10 KiB. */
export const PROOF_BYTES_MAX = 131_072 + LINKS_MAX * 10_240;
const VERSION = 2;

interface Common {
  /** The changes of the validator set between the genesis and the final block. */
  links: Link[];
  /** The final block under which the claim holds. */
  finality: Finality;
  /** How many validators decide that block. */
  validators: number;
  quorum: number;
  /** The height whose state the header's state root is of. */
  checkpoint: bigint;
  bytes: number;
}

export type Verified = Common &
  (
    | { kind: 'transaction'; id: Uint8Array; claim: TransactionClaim }
    | { kind: 'account'; claim: AccountClaim }
    | { kind: 'absence'; claim: AbsenceClaim }
  );

/** Verifies a proof by the genesis of its network. Throws Refused if it does not hold. */
export function verify(genesis: Genesis, bytes: Uint8Array): Verified {
  must(bytes.length <= PROOF_BYTES_MAX, 'too long');
  const reader = new Reader(bytes);
  must(reader.u8() === VERSION, 'unknown version');
  const kind = reader.u8();
  must(kind >= 1 && kind <= 3, 'unknown kind');
  reader.zeros(2, 'reserved');
  const links = readLinks(reader);
  const finality = readFinality(reader);
  const { header } = finality;
  const sets = followLinks(genesis, links);
  const set = sets[links.length]!;
  checkSigners(genesis.digest, set, finality);
  const common: Common = {
    links,
    finality,
    validators: set.keys.length,
    quorum: quorum(set.keys.length),
    checkpoint: header.executed - (header.executed % genesis.checkpointInterval),
    bytes: bytes.length,
  };
  let verified: Verified;
  if (kind === 1) {
    const claim = readTransactionClaim(reader, header);
    reader.end();
    const id = checkTransactionClaim(genesis, header, claim);
    // Signatures cost a hundred times what digests do, so they come after all else.
    checkAuthor(claim.transaction, id);
    verified = { ...common, kind: 'transaction', id, claim };
  } else if (kind === 2) {
    const claim = readAccountClaim(reader);
    reader.end();
    checkStateClaim(header, claim);
    verified = { ...common, kind: 'account', claim };
  } else {
    const claim = readAbsenceClaim(reader);
    reader.end();
    checkStateClaim(header, claim);
    verified = { ...common, kind: 'absence', claim };
  }
  checkAllVotes(genesis, sets, [...links.map((link) => link.finality), finality]);
  return verified;
}

/** Checks the votes of each block by the set that decides it, from the genesis on. */
function checkAllVotes(genesis: Genesis, sets: ValidatorSet[], blocks: Finality[]): void {
  const ring = new KeyRing(genesis.validators);
  blocks.forEach((block, place) => checkVotes(genesis.digest, sets[place]!, block, ring));
}

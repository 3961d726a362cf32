// Verifies a proof: reads it, follows its digests to the header, and checks the signatures last.

import {
  type AbsenceClaim,
  type AccountClaim,
  checkStateClaim,
  readAbsenceClaim,
  readAccountClaim,
} from './accounts.js';
import { Reader } from './bytes.js';
import { checkSigners, checkVotes, type Finality, quorum, readFinality } from './finality.js';
import type { Genesis } from './genesis.js';
import { must, Refused } from './refused.js';
import {
  checkAuthor,
  checkTransactionClaim,
  readTransactionClaim,
  type TransactionClaim,
} from './transaction.js';

export { Refused };

export const PROOF_BYTES_MAX = 131_072;
const VERSION = 1;

interface Common {
  finality: Finality;
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
  reader.zeros(6, 'reserved');
  const finality = readFinality(reader);
  const { header } = finality;
  checkSigners(genesis, finality);
  const common: Common = {
    finality,
    validators: genesis.validators.length,
    quorum: quorum(genesis.validators.length),
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
  checkVotes(genesis, finality);
  return verified;
}

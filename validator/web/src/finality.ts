// A final block: its header, who signed it, and whether a quorum of the set that decides it did.

import { concat, equal, Reader, utf8, varint } from './bytes.js';
import { hashCut } from './hash.js';
import { must } from './refused.js';
import { quorum, VALIDATORS_MAX, type ValidatorSet } from './sets.js';
import { type KeyRing, voteHolds } from './signatures.js';

export const HEADER_BYTES = 240;
const VERSION = 2;

export interface Header {
  network: Uint8Array;
  epoch: bigint;
  height: bigint;
  view: bigint;
  timeMs: bigint;
  executed: bigint;
  historyRoot: Uint8Array;
  stateRoot: Uint8Array;
  /** Digest of the set that decides this block. */
  set: Uint8Array;
  /** Digest of the set that decides the next height. */
  nextSet: Uint8Array;
}

export interface Finality {
  header: Header;
  /** Digest of the block that the votes name. */
  block: Uint8Array;
  view: bigint;
  parent: bigint;
  /** Places in the validator set, rising. */
  signers: number[];
  signatures: Uint8Array[];
}

/** Reads from the header to the last signature; checks what needs no digest. */
export function readFinality(reader: Reader): Finality {
  const headerBytes = reader.take(HEADER_BYTES);
  const header = readHeader(headerBytes);
  const lanes = reader.take(32);
  const mask = reader.u128();
  must(mask >> BigInt(VALIDATORS_MAX) === 0n, 'signer outside the set');
  const signers: number[] = [];
  for (let place = 0; place < VALIDATORS_MAX; place += 1) {
    if (((mask >> BigInt(place)) & 1n) === 1n) signers.push(place);
  }
  const view = reader.u64();
  const parent = reader.u64();
  const signatures = signers.map(() => reader.take(64));
  return { header, block: hashCut(headerBytes, lanes), view, parent, signers, signatures };
}

function readHeader(bytes: Uint8Array): Header {
  const reader = new Reader(bytes);
  must(reader.u8() === VERSION, 'header version');
  reader.zeros(3, 'header reserved');
  must(reader.u32() <= VALIDATORS_MAX, 'header lanes'); // a lane for each validator
  const network = reader.take(32);
  const epoch = reader.u64();
  const height = reader.u64();
  const view = reader.u64();
  reader.take(32); // the parent block: bound by the block's digest, and nothing here asks for it
  const timeMs = reader.u64();
  const executed = reader.u64();
  must(executed < height, 'header executed');
  const historyRoot = reader.take(32);
  const stateRoot = reader.take(32);
  const set = reader.take(32);
  const nextSet = reader.take(32);
  return { network, epoch, height, view, timeMs, executed, historyRoot, stateRoot, set, nextSet };
}

/** Checks all but the signatures: the network, that this set decides, and that enough of it signed. */
export function checkSigners(network: Uint8Array, set: ValidatorSet, finality: Finality): void {
  must(equal(finality.header.network, network), 'other network');
  must(equal(finality.header.set, set.digest), 'other validator set');
  const validators = set.keys.length;
  must(
    finality.signers.every((place) => place < validators),
    'signer outside the set',
  );
  must(finality.signers.length >= quorum(validators), 'no quorum');
}

/** Checks every signature that the proof has, those beyond the quorum too. */
export function checkVotes(
  network: Uint8Array,
  set: ValidatorSet,
  finality: Finality,
  ring: KeyRing,
): void {
  const message = voteMessage(network, finality);
  finality.signers.forEach((place, index) => {
    const key = ring.find(set.keys[place]!);
    const holds = key !== undefined && voteHolds(key, message, finality.signatures[index]!);
    must(holds, 'validator signature');
  });
}

/** What each finalize vote signs. */
export function voteMessage(
  network: Uint8Array,
  { header, view, parent, block }: Pick<Finality, 'header' | 'view' | 'parent' | 'block'>,
): Uint8Array {
  const namespace = concat(utf8('althing/engine/v1/'), network, utf8('_FINALIZE'));
  return concat(
    varint(BigInt(namespace.length)),
    namespace,
    varint(header.epoch),
    varint(view),
    varint(parent),
    block,
  );
}

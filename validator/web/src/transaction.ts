// The claim that a transaction was executed: the transaction, its outcome, and the way to the header.

import { concat, equal, Reader, u64Bytes, utf8 } from './bytes.js';
import { type Ballot, readBallot } from './council.js';
import type { Header } from './finality.js';
import type { Genesis } from './genesis.js';
import { hashHistoryRecord, hashOutcomeLeaf, hashTransactionId } from './hash.js';
import { must } from './refused.js';
import { authorSignatureHolds } from './signatures.js';
import {
  type HistoryPlace,
  historyPlace,
  historyRoot,
  merklePathLength,
  merkleRoot,
} from './trees.js';

const FIXED_BYTES = 156;
const TRANSACTION_MAX = 65_536;
const TRANSFER_BODY = 40;
const SIGNATURE_BYTES = 64;

export const OUTCOMES = ['applied', 'failed', 'stale', 'forked', 'expired', 'ahead'] as const;
export type Outcome = (typeof OUTCOMES)[number];

/** By their codes, from 1. */
const KINDS = ['record', 'transfer', 'council'] as const;

export interface Transaction {
  kind: (typeof KINDS)[number];
  network: Uint8Array;
  author: Uint8Array;
  sequence: bigint;
  previous: Uint8Array;
  validUntil: bigint;
  body: Uint8Array;
  /** What a council transaction says. */
  ballot: Ballot | undefined;
  /** All bytes before the signature. */
  signed: Uint8Array;
  signature: Uint8Array;
}

export interface TransactionClaim {
  transaction: Transaction;
  outcome: Outcome;
  outcomeByte: number;
  index: number;
  count: number;
  height: bigint;
  cut: Uint8Array;
  path: Uint8Array[];
  place: HistoryPlace;
  historyPath: Uint8Array[];
  historyPeaks: Uint8Array[];
}

export function readTransactionClaim(reader: Reader, header: Header): TransactionClaim {
  const length = reader.u32();
  must(length >= FIXED_BYTES && length <= TRANSACTION_MAX, 'transaction length');
  const transaction = readTransaction(reader.take(length));
  const outcomeByte = reader.u8();
  const outcome = OUTCOMES[outcomeByte];
  must(outcome !== undefined, 'unknown outcome');
  reader.zeros(3, 'claim reserved');
  const index = reader.u32();
  const count = reader.u32();
  must(index < count, 'outcome index');
  const height = reader.u64();
  must(height >= 1n && height <= header.executed, 'height not executed');
  const cut = reader.take(32);
  const path = reader.digests(merklePathLength(index, count));
  const place = historyPlace(height, header.executed);
  const historyPath = reader.digests(place.levels);
  const historyPeaks = reader.digests(place.peaksOther);
  return {
    transaction,
    outcome,
    outcomeByte,
    index,
    count,
    height,
    cut,
    path,
    place,
    historyPath,
    historyPeaks,
  };
}

export function readTransaction(bytes: Uint8Array): Transaction {
  const reader = new Reader(bytes);
  must(reader.u8() === 1, 'transaction version');
  const kind = KINDS[reader.u8() - 1];
  must(kind !== undefined, 'transaction kind');
  const bodyLength = reader.u16();
  must(bytes.length === FIXED_BYTES + bodyLength, 'transaction length');
  must(kind !== 'transfer' || bodyLength === TRANSFER_BODY, 'transfer body');
  const fields = {
    network: reader.take(8),
    author: reader.take(32),
    sequence: reader.u64(),
    previous: reader.take(32),
    validUntil: reader.u64(),
    body: reader.take(bodyLength),
    signature: reader.take(SIGNATURE_BYTES),
    signed: bytes.subarray(0, bytes.length - SIGNATURE_BYTES),
  };
  return { ...fields, kind, ballot: kind === 'council' ? readBallot(fields.body) : undefined };
}

/** Checks that the header's history has the outcome of this transaction; returns its id. */
export function checkTransactionClaim(
  genesis: Genesis,
  header: Header,
  claim: TransactionClaim,
): Uint8Array {
  const { transaction } = claim;
  must(equal(transaction.network, genesis.digest.subarray(0, 8)), 'transaction of other network');
  const id = hashTransactionId(genesis.digest, transaction.signed);
  const leaf = hashOutcomeLeaf(id, Uint8Array.of(claim.outcomeByte), new Uint8Array(31));
  const outcomes = merkleRoot(leaf, claim.index, claim.count, claim.path);
  const record = hashHistoryRecord(u64Bytes(claim.height), claim.cut, outcomes);
  const { place, historyPath, historyPeaks } = claim;
  const root = historyRoot(record, header.executed, place, historyPath, historyPeaks);
  must(equal(root, header.historyRoot), 'history root');
  return id;
}

export function checkAuthor(transaction: Transaction, id: Uint8Array): void {
  must(
    authorSignatureHolds(transaction.author, authorMessage(id), transaction.signature),
    'author signature',
  );
}

export function authorMessage(id: Uint8Array): Uint8Array {
  return concat(utf8('althing/tx/v1\0\0'), id);
}

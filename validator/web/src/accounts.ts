// The claims about accounts: that the state has one with this key, or that it has none.

import { compare, equal, Reader, u64Bytes } from './bytes.js';
import type { Header } from './finality.js';
import { hashState, hashStatePage } from './hash.js';
import { must } from './refused.js';
import { emptyMerkleRoot, merklePathLength, merkleRoot } from './trees.js';

const PAGE_ENTRIES = 8;
const ENTRY_BYTES = 88;
const ACCOUNTS_LIMIT = 1n << 32n;

export interface Entry {
  key: Uint8Array;
  balance: bigint;
  sequence: bigint;
  head: Uint8Array;
  next: bigint;
}

interface Page {
  index: number;
  bytes: Uint8Array;
  path: Uint8Array[];
}

export interface StateClaim {
  key: Uint8Array;
  accounts: bigint;
  lanes: Uint8Array;
  burned: bigint;
  /** None only in the proof that a state without accounts lacks the key. */
  pages: Page[];
  /** The account itself, or the one before the place that an absent key would have. */
  entry: Entry | undefined;
}

export interface AccountClaim extends StateClaim {
  entry: Entry;
  number: number;
}

export function readAccountClaim(reader: Reader): AccountClaim {
  const state = readState(reader);
  const accounts = Number(state.accounts);
  const number = reader.u32();
  must(number < accounts, 'account number');
  const page = readPage(reader, number, accounts);
  const entry = entryOf(page, number);
  must(equal(entry.key, state.key), 'other account');
  return { ...state, pages: [page], entry, number };
}

export function readAbsenceClaim(reader: Reader): StateClaim {
  const state = readState(reader);
  if (state.accounts === 0n) return { ...state, pages: [], entry: undefined };
  const accounts = Number(state.accounts);
  const number = reader.u32();
  must(number < accounts, 'account number');
  const page = readPage(reader, number, accounts);
  const before = entryOf(page, number);
  must(before.next < state.accounts, 'next account');
  const next = Number(before.next);
  const pages = [page];
  if (pageOf(next) !== page.index) pages.push(readPage(reader, next, accounts));
  const after = entryOf(pages[pages.length - 1]!, next);
  must(isBetween(before.key, state.key, after.key), 'key not between its neighbours');
  return { ...state, pages, entry: before };
}

/** Checks that the header's state root is over these pages. */
export function checkStateClaim(header: Header, claim: StateClaim): void {
  const roots = claim.pages.map((page) => {
    const count = Math.ceil(Number(claim.accounts) / PAGE_ENTRIES);
    return merkleRoot(hashStatePage(page.bytes), page.index, count, page.path);
  });
  if (claim.accounts === 0n) roots.push(emptyMerkleRoot());
  must(roots.length > 0, 'state root');
  for (const root of roots) {
    const state = hashState(u64Bytes(claim.accounts), root, claim.lanes, u64Bytes(claim.burned));
    must(equal(state, header.stateRoot), 'state root');
  }
}

/** The ring goes up by key and from the largest back to the smallest, where the order breaks. */
function isBetween(before: Uint8Array, key: Uint8Array, after: Uint8Array): boolean {
  const above = compare(before, key) < 0;
  const below = compare(key, after) < 0;
  return compare(before, after) < 0 ? above && below : above || below;
}

function readState(reader: Reader): Pick<StateClaim, 'key' | 'accounts' | 'lanes' | 'burned'> {
  const key = reader.take(32);
  const accounts = reader.u64();
  must(accounts < ACCOUNTS_LIMIT, 'too many accounts');
  return { key, accounts, lanes: reader.take(32), burned: reader.u64() };
}

function pageOf(number: number): number {
  return Math.floor(number / PAGE_ENTRIES);
}

function readPage(reader: Reader, number: number, accounts: number): Page {
  const index = pageOf(number);
  const entries = Math.min(PAGE_ENTRIES, accounts - PAGE_ENTRIES * index);
  const bytes = reader.take(ENTRY_BYTES * entries);
  const pages = Math.ceil(accounts / PAGE_ENTRIES);
  return { index, bytes, path: reader.digests(merklePathLength(index, pages)) };
}

function entryOf(page: Page, number: number): Entry {
  const start = ENTRY_BYTES * (number % PAGE_ENTRIES);
  const reader = new Reader(page.bytes.subarray(start, start + ENTRY_BYTES));
  return {
    key: reader.take(32),
    balance: reader.u64(),
    sequence: reader.u64(),
    head: reader.take(32),
    next: reader.u64(),
  };
}

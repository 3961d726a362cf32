// The claims about accounts: that the state has one with this key, or that it has none.

import { compare, equal, Reader, u64Bytes } from './bytes.js';
import type { Header } from './finality.js';
import { type Hash, hashState, hashStateLinks, hashStatePage } from './hash.js';
import { must } from './refused.js';
import { emptyMerkleRoot, merklePathLength, merkleRoot } from './trees.js';

const PAGE_ENTRIES = 8;
const ENTRY_BYTES = 80;
const LEAF_LINKS = 64;
const LINK_BYTES = 4;
const ACCOUNTS_LIMIT = 1n << 32n;

export interface Entry {
  key: Uint8Array;
  balance: bigint;
  sequence: bigint;
  head: Uint8Array;
}

/** A leaf of the pages or of the links, with its way to the root. */
interface Leaf {
  index: number;
  count: number;
  bytes: Uint8Array;
  path: Uint8Array[];
}

export interface StateClaim {
  key: Uint8Array;
  accounts: bigint;
  lanes: Uint8Array;
  burned: bigint;
  /** The digest of who decides and of what is moved to change that. */
  council: Uint8Array;
  /** The root of the links, or the leaf that it follows from. */
  links: { root: Uint8Array } | Leaf;
  /** None only in the proof that a state without accounts lacks the key. */
  pages: Leaf[];
}

export interface AccountClaim extends StateClaim {
  entry: Entry;
  number: number;
}

export interface AbsenceClaim extends StateClaim {
  /** The numbers of the accounts around the place that the key would have; none if there are no accounts. */
  neighbours: { before: number; after: number } | undefined;
}

export function readAccountClaim(reader: Reader): AccountClaim {
  const state = readState(reader);
  const accounts = Number(state.accounts);
  const links = { root: reader.take(32) };
  const number = reader.u32();
  must(number < accounts, 'account number');
  const page = readPage(reader, number, accounts);
  const entry = entryOf(page, number);
  must(equal(entry.key, state.key), 'other account');
  return { ...state, links, pages: [page], entry, number };
}

export function readAbsenceClaim(reader: Reader): AbsenceClaim {
  const state = readState(reader);
  if (state.accounts === 0n) {
    return { ...state, links: { root: emptyMerkleRoot() }, pages: [], neighbours: undefined };
  }
  const accounts = Number(state.accounts);
  const before = reader.u32();
  must(before < accounts, 'account number');
  const links = readLinks(reader, before, accounts);
  const page = readPage(reader, before, accounts);
  const after = linkOf(links, before);
  must(after < accounts, 'next account');
  const pages = [page];
  if (Math.floor(after / PAGE_ENTRIES) !== page.index) pages.push(readPage(reader, after, accounts));
  const below = entryOf(page, before);
  const above = entryOf(pages[pages.length - 1]!, after);
  must(isBetween(below.key, state.key, above.key), 'key not between its neighbours');
  return { ...state, links, pages, neighbours: { before, after } };
}

/** Checks that the header's state root is over these pages and links. */
export function checkStateClaim(header: Header, claim: StateClaim): void {
  const links = 'root' in claim.links ? claim.links.root : rootOf(hashStateLinks, claim.links);
  const roots = claim.pages.map((page) => rootOf(hashStatePage, page));
  if (claim.accounts === 0n) roots.push(emptyMerkleRoot());
  must(roots.length > 0, 'state root');
  const accounts = u64Bytes(claim.accounts);
  const burned = u64Bytes(claim.burned);
  for (const pages of roots) {
    const state = hashState(accounts, pages, links, claim.lanes, burned, claim.council);
    must(equal(state, header.stateRoot), 'state root');
  }
}

function rootOf(hash: Hash, leaf: Leaf): Uint8Array {
  return merkleRoot(hash(leaf.bytes), leaf.index, leaf.count, leaf.path);
}

/** The ring goes up by key and from the largest back to the smallest, where the order breaks. */
function isBetween(before: Uint8Array, key: Uint8Array, after: Uint8Array): boolean {
  const above = compare(before, key) < 0;
  const below = compare(key, after) < 0;
  return compare(before, after) < 0 ? above && below : above || below;
}

function readState(reader: Reader): Omit<StateClaim, 'links' | 'pages'> {
  const key = reader.take(32);
  const accounts = reader.u64();
  must(accounts < ACCOUNTS_LIMIT, 'too many accounts');
  const lanes = reader.take(32);
  const burned = reader.u64();
  return { key, accounts, lanes, burned, council: reader.take(32) };
}

function readPage(reader: Reader, number: number, accounts: number): Leaf {
  return readLeaf(reader, number, accounts, PAGE_ENTRIES, ENTRY_BYTES);
}

function readLinks(reader: Reader, number: number, accounts: number): Leaf {
  return readLeaf(reader, number, accounts, LEAF_LINKS, LINK_BYTES);
}

/** Reads the leaf that account `number` is in: `wide` accounts to a leaf, `each` bytes to an account. */
function readLeaf(
  reader: Reader,
  number: number,
  accounts: number,
  wide: number,
  each: number,
): Leaf {
  const index = Math.floor(number / wide);
  const count = Math.ceil(accounts / wide);
  const bytes = reader.take(each * Math.min(wide, accounts - wide * index));
  return { index, count, bytes, path: reader.digests(merklePathLength(index, count)) };
}

/** The number of the account after this one by key. */
function linkOf(links: Leaf, number: number): number {
  const start = LINK_BYTES * (number % LEAF_LINKS);
  return new Reader(links.bytes.subarray(start, start + LINK_BYTES)).u32();
}

function entryOf(page: Leaf, number: number): Entry {
  const start = ENTRY_BYTES * (number % PAGE_ENTRIES);
  const reader = new Reader(page.bytes.subarray(start, start + ENTRY_BYTES));
  return {
    key: reader.take(32),
    balance: reader.u64(),
    sequence: reader.u64(),
    head: reader.take(32),
  };
}

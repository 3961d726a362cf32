// Builds networks and proofs for the tests, from whole trees and not from paths, apart from the verifier's code.

import { ed25519 } from '@noble/curves/ed25519.js';
import { blake3 } from '@noble/hashes/blake3.js';
import { type Genesis, genesisFromJson } from '../src/genesis.js';

const text = new TextEncoder();

export function bytes(...parts: (Uint8Array | number[])[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

export function little(value: bigint | number, length: number): Uint8Array {
  const result = new Uint8Array(length);
  let rest = BigInt(value);
  for (let index = 0; index < length; index += 1) {
    result[index] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  return result;
}

export function hex(value: Uint8Array): string {
  return Buffer.from(value).toString('hex');
}

export function unhex(value: string): Uint8Array {
  return new Uint8Array(Buffer.from(value.replace(/\s/g, ''), 'hex'));
}

export function hash(context: string, ...parts: Uint8Array[]): Uint8Array {
  return blake3(bytes(...parts), { context: text.encode(`althing 2026 ${context}`) });
}

/** A digest or secret key that is the same in every run. */
export function filler(label: string): Uint8Array {
  return blake3(text.encode(label));
}

export interface Signer {
  secret: Uint8Array;
  key: Uint8Array;
}

export function signer(label: string): Signer {
  const secret = filler(label);
  return { secret, key: ed25519.getPublicKey(secret) };
}

export interface Network {
  json: string;
  genesis: Genesis;
  digest: Uint8Array;
  signers: Signer[];
}

/** Who decides a block: those of the genesis, or of a later set. */
export type Seats = Pick<Network, 'digest' | 'signers'>;

/** Signers of these labels, in the order of a set. */
export function signersOf(labels: string[]): Signer[] {
  return labels.map(signer).sort((left, right) => Buffer.compare(left.key, right.key));
}

export function setDigest(signers: Signer[]): Uint8Array {
  return hash('validator set v1', ...signers.map(({ key }) => key));
}

export function network(validators: number, name = 'test', interval = 8): Network {
  const signers = signersOf(Array.from({ length: validators }, (_, index) => `validator ${index}`));
  const json = JSON.stringify({
    name,
    validators: signers.map(({ key }) => hex(key)),
    accounts: [],
    parameters: { checkpoint_interval: interval },
  });
  const genesis = genesisFromJson(json);
  return { json, genesis, digest: genesis.digest, signers };
}

export interface HeaderFields {
  version: number;
  reserved: number;
  lanes: number;
  network: Uint8Array;
  epoch: bigint;
  height: bigint;
  executed: bigint;
  historyRoot: Uint8Array;
  stateRoot: Uint8Array;
  set: Uint8Array;
  nextSet: Uint8Array;
}

export function header(net: Seats, fields: Partial<HeaderFields>): Uint8Array {
  const executed = fields.executed ?? 0n;
  const set = fields.set ?? setDigest(net.signers);
  return bytes(
    [fields.version ?? 2],
    little(fields.reserved ?? 0, 3),
    little(fields.lanes ?? 1, 4),
    fields.network ?? net.digest,
    little(fields.epoch ?? 0n, 8),
    little(fields.height ?? executed + 2n, 8),
    little(1000n, 8),
    filler('parent block'),
    little(1_790_000_000_000n, 8),
    little(executed, 8),
    fields.historyRoot ?? filler('history'),
    fields.stateRoot ?? filler('state'),
    set,
    fields.nextSet ?? set,
  );
}

function varint(value: bigint): number[] {
  const low = Number(value % 128n);
  return value < 128n ? [low] : [low + 128, ...varint(value / 128n)];
}

export interface FinalityFields {
  /** Places of those whose bits are set. */
  places: number[];
  /** Who signs for each bit, if not the validator of that place. */
  signing: Signer[];
  /** The network in the message, if not this one. */
  signedNetwork: Uint8Array;
  namespaceEnd: string;
}

/** Bytes of a final block before its signatures. */
export const BLOCK = 240 + 32 + 16 + 8 + 8;
/** Where the final block begins in a proof without links. */
export const HEAD = 8;
/** Where the signatures begin in a proof without links. */
export const VOTES = HEAD + BLOCK;
/** Where the claim begins in a proof without links, of one signature. */
export const CLAIM = VOTES + 64;

/** The part of a proof before its claim. */
export function finality(
  net: Seats,
  head: Uint8Array,
  fields: Partial<FinalityFields> & { kind: number; links?: Uint8Array[] | undefined },
): Uint8Array {
  const { kind, links = [] } = fields;
  return bytes([2, kind, 0, 0], little(links.length, 4), ...links, finalBlock(net, head, fields));
}

/** The last block of these seats, and the set that decides after it. */
export function link(
  seats: Seats,
  next: Signer[],
  fields: Partial<HeaderFields> = {},
  finalFields: Partial<FinalityFields> = {},
): Uint8Array {
  const head = header(seats, { nextSet: setDigest(next), ...fields });
  return bytes(finalBlock(seats, head, finalFields), setBytes(next));
}

export function setBytes(signers: Signer[]): Uint8Array {
  return bytes(little(signers.length, 4), ...signers.map(({ key }) => key));
}

/** A header with its certificate. */
export function finalBlock(
  net: Seats,
  head: Uint8Array,
  fields: Partial<FinalityFields> = {},
): Uint8Array {
  const n = net.signers.length;
  const quorum = n - Math.floor((n - 1) / 3);
  const places = fields.places ?? Array.from({ length: quorum }, (_, index) => n - quorum + index);
  const signing = fields.signing ?? places.map((place) => net.signers[place] ?? net.signers[0]!);
  const lanes = filler('lanes of the block');
  const view = 1001n;
  const parent = 997n;
  const message = bytes(
    [59],
    text.encode('althing/engine/v1/'),
    fields.signedNetwork ?? net.digest,
    text.encode(fields.namespaceEnd ?? '_FINALIZE'),
    varint(new DataView(head.buffer, head.byteOffset).getBigUint64(40, true)),
    varint(view),
    varint(parent),
    hash('cut v2', head, lanes),
  );
  const mask = places.reduce((sum, place) => sum | (1n << BigInt(place)), 0n);
  return bytes(
    head,
    lanes,
    little(mask, 16),
    little(view, 8),
    little(parent, 8),
    ...signing.map(({ secret }) => ed25519.sign(message, secret)),
  );
}

/** All levels of the tree, from the leaves up. */
function levels(leaves: Uint8Array[]): Uint8Array[][] {
  const all = [leaves];
  while (all[all.length - 1]!.length > 1) {
    const below = all[all.length - 1]!;
    const above: Uint8Array[] = [];
    for (let index = 0; index < below.length; index += 2) {
      const left = below[index]!;
      const right = below[index + 1];
      above.push(right === undefined ? left : hash('merkle node v1', left, right));
    }
    all.push(above);
  }
  return all;
}

export interface Tree {
  root: Uint8Array;
  path: (index: number) => Uint8Array[];
}

export function merkle(leaves: Uint8Array[]): Tree {
  const all = levels(leaves);
  const top = leaves.length === 0 ? new Uint8Array(32) : all[all.length - 1]![0]!;
  return {
    root: hash('merkle root v1', little(leaves.length, 4), top),
    path: (index) =>
      all.flatMap((level, height) => {
        const place = index >> height;
        const sibling = level[place ^ 1];
        return level.length > 1 && sibling !== undefined ? [sibling] : [];
      }),
  };
}

/** A perfect tree's top, by halves. */
function mountain(leaves: Uint8Array[]): Uint8Array {
  if (leaves.length === 1) return leaves[0]!;
  const half = leaves.length / 2;
  return hash('history node v1', mountain(leaves.slice(0, half)), mountain(leaves.slice(half)));
}

function mountainPath(leaves: Uint8Array[], index: number): Uint8Array[] {
  if (leaves.length === 1) return [];
  const half = leaves.length / 2;
  const left = leaves.slice(0, half);
  const right = leaves.slice(half);
  return index < half
    ? [...mountainPath(left, index), mountain(right)]
    : [...mountainPath(right, index - half), mountain(left)];
}

export interface History {
  root: Uint8Array;
  path: (height: number) => Uint8Array[];
  peaks: (height: number) => Uint8Array[];
}

export function history(leaves: Uint8Array[]): History {
  const ranges: Uint8Array[][] = [];
  let rest = leaves;
  while (rest.length > 0) {
    const size = 2 ** Math.floor(Math.log2(rest.length));
    ranges.push(rest.slice(0, size));
    rest = rest.slice(size);
  }
  const tops = ranges.map(mountain);
  const find = (height: number): { range: number; offset: number } => {
    let offset = height - 1;
    let range = 0;
    while (offset >= ranges[range]!.length) {
      offset -= ranges[range]!.length;
      range += 1;
    }
    return { range, offset };
  };
  return {
    root: hash('history root v1', little(leaves.length, 8), ...tops),
    path: (height) => {
      const { range, offset } = find(height);
      return mountainPath(ranges[range]!, offset);
    },
    peaks: (height) => tops.filter((_, index) => index !== find(height).range),
  };
}

export interface TransactionFields {
  version: number;
  kind: number;
  body: Uint8Array;
  network: Uint8Array;
  author: Uint8Array;
  sign: (message: Uint8Array) => Uint8Array;
}

export function transaction(
  net: Seats,
  fields: Partial<TransactionFields> = {},
): { bytes: Uint8Array; id: Uint8Array } {
  const author = signer('author');
  const body = fields.body ?? text.encode('hello');
  const signed = bytes(
    [fields.version ?? 1, fields.kind ?? 1],
    little(body.length, 2),
    (fields.network ?? net.digest).subarray(0, 8),
    fields.author ?? author.key,
    little(7n, 8),
    filler('previous'),
    little(1n << 63n, 8),
    body,
  );
  const id = hash('transaction id v1', net.digest, signed);
  const message = bytes(text.encode('althing/tx/v1'), [0, 0], id);
  const sign = fields.sign ?? ((m: Uint8Array) => ed25519.sign(m, author.secret));
  return { bytes: bytes(signed, sign(message)), id };
}

export interface TransactionProof {
  transaction: { bytes: Uint8Array; id: Uint8Array };
  outcome: number;
  index: number;
  count: number;
  height: number;
  executed: number;
  /** The height that the proof names, if not the true one. */
  claimedHeight: bigint;
  links: Uint8Array[];
  header: Partial<HeaderFields>;
  finality: Partial<FinalityFields>;
  /** A ready part before the claim, to spare signatures. */
  front: Uint8Array;
}

export interface TransactionParts {
  claim: Uint8Array;
  historyRoot: Uint8Array;
}

export function outcomeLeaf(id: Uint8Array, outcome: number): Uint8Array {
  return hash('outcome leaf v2', id, [outcome] as unknown as Uint8Array, new Uint8Array(31));
}

export function transactionProof(net: Seats, fields: Partial<TransactionProof> = {}): Uint8Array {
  const { outcome = 0, index = 0, count = 1, height = 1, executed = 1 } = fields;
  const made = fields.transaction ?? transaction(net);
  const leaves = Array.from({ length: count }, (_, place) =>
    place === index ? outcomeLeaf(made.id, outcome) : filler(`outcome ${place}`),
  );
  const outcomes = merkle(leaves);
  const cut = filler('cut of the height');
  const records = Array.from({ length: executed }, (_, place) =>
    place === height - 1
      ? hash('history record v1', little(height, 8), cut, outcomes.root)
      : filler(`record ${place}`),
  );
  const past = history(records);
  const head = header(net, {
    executed: BigInt(executed),
    historyRoot: past.root,
    ...fields.header,
  });
  return bytes(
    fields.front ?? finality(net, head, { kind: 1, links: fields.links, ...fields.finality }),
    little(made.bytes.length, 4),
    made.bytes,
    [outcome, 0, 0, 0],
    little(index, 4),
    little(count, 4),
    little(fields.claimedHeight ?? height, 8),
    cut,
    ...outcomes.path(index),
    ...past.path(height),
    ...past.peaks(height),
  );
}

export interface AccountRow {
  key: Uint8Array;
  balance: bigint;
  sequence: bigint;
}

/** A state: its accounts in an order of creation that is not the order of their keys. */
export class State {
  readonly rows: AccountRow[];
  readonly root: Uint8Array;
  readonly ring: number[];
  /** The root of the links. */
  readonly links: Uint8Array;
  private readonly entries: Uint8Array[];
  private readonly tree: Tree;
  private readonly numbers: Uint8Array[];
  private readonly linksTree: Tree;
  private readonly lanes = filler('lanes of the state');
  private readonly burned = 1234n;
  private readonly council = filler('council of the state');

  constructor(count: number) {
    this.rows = Array.from({ length: count }, (_, index) => ({
      key: filler(`account ${index}`),
      balance: BigInt(index) * 1000n + 1n,
      sequence: BigInt(index),
    }));
    this.ring = this.rows.map((_, index) => index);
    this.ring.sort((left, right) => Buffer.compare(this.rows[left]!.key, this.rows[right]!.key));
    this.entries = this.rows.map(({ key, balance, sequence }, index) => {
      const head = filler(`head ${index}`);
      return bytes(key, little(balance, 8), little(sequence, 8), head);
    });
    const pages = Math.ceil(count / 8);
    this.tree = merkle(
      Array.from({ length: pages }, (_, page) => hash('state page v1', ...this.page(page))),
    );
    this.numbers = this.rows.map((_, index) => little(this.next(index), 4));
    const leaves = Math.ceil(count / 64);
    this.linksTree = merkle(
      Array.from({ length: leaves }, (_, leaf) => hash('state links v1', ...this.leaf(leaf))),
    );
    this.links = this.linksTree.root;
    this.root = stateRoot(count, this.tree.root, this.links, this.lanes, this.burned, this.council);
  }

  /** The claim's start, which all claims about states have. */
  start(key: Uint8Array): Uint8Array {
    const { rows, lanes, burned, council } = this;
    return bytes(key, little(rows.length, 8), lanes, little(burned, 8), council);
  }

  pageBytes(number: number): Uint8Array {
    const page = number >> 3;
    return bytes(...this.page(page), ...this.tree.path(page));
  }

  linksBytes(number: number): Uint8Array {
    const leaf = number >> 6;
    return bytes(...this.leaf(leaf), ...this.linksTree.path(leaf));
  }

  account(number: number, key = this.rows[number]!.key): Uint8Array {
    return bytes(this.start(key), this.links, little(number, 4), this.pageBytes(number));
  }

  /** The claim that a key is absent, by the predecessor of this number. */
  absence(key: Uint8Array, before: number): Uint8Array {
    const next = this.next(before);
    const second = next >> 3 === before >> 3 ? new Uint8Array(0) : this.pageBytes(next);
    const links = this.linksBytes(before);
    return bytes(this.start(key), little(before, 4), links, this.pageBytes(before), second);
  }

  /** The number of the account before the place of this key in the ring. */
  before(key: Uint8Array): number {
    const below = this.ring.filter((number) => Buffer.compare(this.rows[number]!.key, key) < 0);
    return below[below.length - 1] ?? this.ring[this.ring.length - 1]!;
  }

  next(number: number): number {
    return this.ring[(this.ring.indexOf(number) + 1) % this.ring.length]!;
  }

  private page(index: number): Uint8Array[] {
    return this.entries.slice(8 * index, 8 * index + 8);
  }

  private leaf(index: number): Uint8Array[] {
    return this.numbers.slice(64 * index, 64 * index + 64);
  }
}

export function stateRoot(
  accounts: number,
  pages: Uint8Array,
  links: Uint8Array,
  lanes: Uint8Array,
  burned: bigint,
  council: Uint8Array,
): Uint8Array {
  return hash('state v4', little(accounts, 8), pages, links, lanes, little(burned, 8), council);
}

/** The part before a claim about a state. */
export function stateFront(
  net: Seats,
  state: State,
  kind: 2 | 3,
  fields: Partial<HeaderFields> = {},
): Uint8Array {
  return finality(net, header(net, { executed: 20n, stateRoot: state.root, ...fields }), { kind });
}

/** A key just above or below: no digest of the tests has a neighbour that near. */
export function beside(key: Uint8Array, step: 1n | -1n): Uint8Array {
  return unhex((BigInt(`0x${hex(key)}`) + step).toString(16).padStart(64, '0'));
}

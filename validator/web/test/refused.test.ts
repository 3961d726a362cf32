// Proofs that must not verify: every flipped bit, every length, and forgeries with signatures that hold.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ed25519 } from '@noble/curves/ed25519.js';
import { sha512 } from '@noble/hashes/sha2.js';
import type { Genesis } from '../src/genesis.js';
import { PROOF_BYTES_MAX, verify } from '../src/proof.js';
import {
  beside,
  bytes,
  CLAIM,
  filler,
  finality,
  hash,
  header,
  hex,
  little,
  merkle,
  network,
  setDigest,
  signer,
  State,
  stateFront,
  stateRoot,
  transaction,
  transactionProof,
  VOTES,
} from './builder.js';
import { refused } from './refuse.js';

const ONE = network(1);
const FOUR = network(4);

const state = new State(19);
const large = new State(130);
const crossing = state.ring.find((number) => number >> 3 !== state.next(number) >> 3)!;
const inside = state.ring.find(
  (number) =>
    number >> 3 === state.next(number) >> 3 && number !== state.ring[state.ring.length - 1],
)!;
const above = (number: number, of = state): Uint8Array => beside(of.rows[number]!.key, 1n);

const SMALL: [string, typeof ONE, Uint8Array][] = [
  ['transaction, 1 validator', ONE, transactionProof(ONE, { index: 1, count: 3, height: 3, executed: 5 })],
  ['transaction, 4 validators', FOUR, transactionProof(FOUR)],
  ['account', ONE, bytes(stateFront(ONE, state, 2), state.account(18))],
  ['absence in one page', ONE, bytes(stateFront(ONE, state, 3), state.absence(above(inside), inside))],
  ['absence over two pages', ONE, bytes(stateFront(ONE, state, 3), state.absence(above(crossing), crossing))],
  ['absence among several leaves of links', ONE, bytes(stateFront(ONE, large, 3), large.absence(above(66, large), 66))],
  ['absence in an empty state', ONE, bytes(stateFront(ONE, new State(0), 3), new State(0).start(filler('x')))],
];

for (const [name, net, proof] of SMALL) {
  test(`every flipped bit: ${name}`, () => {
    verify(net.genesis, proof);
    // The key that is absent may be another one between the same neighbours: that claim holds too.
    const absence = proof[1] === 3;
    const keyStart = CLAIM;
    for (let bit = 0; bit < 8 * proof.length; bit += 1) {
      const flipped = proof.slice();
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      const ofKey = absence && bit >> 3 >= keyStart && bit >> 3 < keyStart + 32;
      if (ofKey && stillAbsent(net.genesis, flipped)) continue;
      refused(net.genesis, flipped);
    }
  });

  test(`every truncation and a byte too many: ${name}`, () => {
    for (let length = 0; length < proof.length; length += 1) {
      refused(net.genesis, proof.slice(0, length));
    }
    refused(net.genesis, bytes(proof, [0]), 'trailing bytes');
  });
}

/** A flipped bit of an absent key gives a true claim if the new key is absent as well. */
function stillAbsent(genesis: Genesis, proof: Uint8Array): boolean {
  const key = proof.slice(CLAIM, CLAIM + 32);
  try {
    verify(genesis, proof);
  } catch {
    return false;
  }
  return [...state.rows, ...large.rows].every((row) => hex(row.key) !== hex(key));
}

test('longer than any proof', () => {
  refused(ONE.genesis, new Uint8Array(PROOF_BYTES_MAX + 1), 'too long');
});

test('a quorum less one', () => {
  for (const [validators, enough] of [[2, 2], [4, 3], [7, 5], [10, 7]] as const) {
    const net = network(validators);
    const places = Array.from({ length: enough - 1 }, (_, place) => place);
    refused(net.genesis, transactionProof(net, { finality: { places } }), 'no quorum');
    verify(net.genesis, transactionProof(net, { finality: { places: [...places, enough - 1] } }));
  }
  refused(ONE.genesis, transactionProof(ONE, { finality: { places: [] } }), 'no quorum');
});

test('one validator signs in the places of others', () => {
  const one = FOUR.signers[0]!;
  const proof = transactionProof(FOUR, { finality: { places: [0, 1, 2], signing: [one, one, one] } });
  refused(FOUR.genesis, proof, 'validator signature');
});

test('one bad signature beyond the quorum', () => {
  const [a, b, c] = FOUR.signers as [never, never, never];
  const signing = [a, b, c, signer('stranger')];
  const proof = transactionProof(FOUR, { finality: { places: [0, 1, 2, 3], signing } });
  refused(FOUR.genesis, proof, 'validator signature');
});

test('a signer outside the set', () => {
  for (const places of [[0, 1, 4], [0, 1, 2, 99], [0, 1, 2, 100], [0, 1, 2, 127]]) {
    const signing = places.map((place) => FOUR.signers[place] ?? signer('stranger'));
    const proof = transactionProof(FOUR, { finality: { places, signing } });
    refused(FOUR.genesis, proof, 'signer outside the set');
  }
});

test('signatures in the wrong order', () => {
  const [a, b, c] = FOUR.signers as [never, never, never];
  const proof = transactionProof(FOUR, { finality: { places: [0, 1, 2], signing: [b, a, c] } });
  refused(FOUR.genesis, proof, 'validator signature');
});

test('votes of another step are not finalize votes', () => {
  for (const namespaceEnd of ['_NOTARIZE', '_NULLIFY_', '_finalize']) {
    const proof = transactionProof(ONE, { finality: { namespaceEnd } });
    refused(ONE.genesis, proof, 'validator signature');
  }
});

test('headers that are signed and yet refused', () => {
  const cases: [Parameters<typeof header>[1], string][] = [
    [{ version: 1 }, 'header version'],
    [{ version: 3 }, 'header version'],
    [{ reserved: 1 }, 'header reserved'],
    [{ lanes: 101 }, 'header lanes'],
    [{ height: 1n }, 'header executed'],
    [{ set: filler('set') }, 'other validator set'],
    [{ set: new Uint8Array(32) }, 'other validator set'],
    [{ set: setDigest(FOUR.signers) }, 'other validator set'],
    [{ network: filler('network') }, 'other network'],
  ];
  for (const [fields, reason] of cases) {
    refused(ONE.genesis, transactionProof(ONE, { header: fields }), reason);
  }
});

test('a proof of another network with the same validators', () => {
  const other = network(4, 'other');
  refused(FOUR.genesis, transactionProof(other), 'other network');
  // The header claims this network, but the votes were cast in the other one.
  const proof = transactionProof(FOUR, { finality: { signedNetwork: other.digest } });
  refused(FOUR.genesis, proof, 'validator signature');
});

test('a transaction of another network', () => {
  const other = network(1, 'other');
  refused(ONE.genesis, transactionProof(ONE, { transaction: transaction(other) }), 'transaction of other network');
  // Its first bytes name this network, but its id and signature are of the other one.
  const posing = transaction(other, { network: ONE.digest });
  refused(ONE.genesis, transactionProof(ONE, { transaction: posing }), 'history root');
});

test('transactions of a wrong shape', () => {
  const cases: [Parameters<typeof transaction>[1], string][] = [
    [{ version: 2 }, 'transaction version'],
    [{ kind: 0 }, 'transaction kind'],
    [{ kind: 4 }, 'transaction kind'],
    [{ kind: 255 }, 'transaction kind'],
    [{ kind: 2 }, 'transfer body'],
    [{ kind: 2, body: new Uint8Array(41) }, 'transfer body'],
    [{ body: new Uint8Array(65_381) }, 'transaction length'],
  ];
  for (const [fields, reason] of cases) {
    refused(ONE.genesis, transactionProof(ONE, { transaction: transaction(ONE, fields) }), reason);
  }
  const made = transaction(ONE);
  const longer = { bytes: bytes(made.bytes, [0]), id: made.id };
  refused(ONE.genesis, transactionProof(ONE, { transaction: longer }), 'transaction length');
});

test('unknown outcomes', () => {
  for (const outcome of [6, 7, 255]) {
    refused(ONE.genesis, transactionProof(ONE, { outcome }), 'unknown outcome');
  }
});

test('an outcome that is not the one in the tree', () => {
  const proof = transactionProof(ONE, { outcome: 1 });
  const at = CLAIM + 4 + 161;
  assert.equal(proof[at], 1);
  proof[at] = 0;
  refused(ONE.genesis, proof, 'history root');
});

test('heights that are not executed, and a height that is not the one', () => {
  for (const claimedHeight of [0n, 6n, (1n << 64n) - 1n]) {
    refused(ONE.genesis, transactionProof(ONE, { height: 3, executed: 5, claimedHeight }), 'height not executed');
  }
  refused(ONE.genesis, transactionProof(ONE, { height: 3, executed: 5, claimedHeight: 4n }), 'history root');
});

test('a history of fewer heights than the header declares', () => {
  const proof = transactionProof(ONE, { height: 4, executed: 4, header: { executed: 5n, height: 9n } });
  refused(ONE.genesis, proof);
});

test('a leaf cannot be told from a node', () => {
  // A node of the outcome tree posing as an outcome would need a transaction id for it: only the
  // path's end can be moved, and the count in the root forbids that.
  const made = transaction(ONE);
  const proof = transactionProof(ONE, { transaction: made, index: 0, count: 4 });
  const at = CLAIM + 4 + made.bytes.length + 4;
  for (const count of [2, 3, 5, 8]) {
    const changed = proof.slice();
    changed.set(little(count, 4), at + 4);
    refused(ONE.genesis, changed);
  }
});

test('an index at or above the count', () => {
  const proof = transactionProof(ONE);
  const at = CLAIM + 4 + 161 + 4;
  for (const [index, count] of [[0, 0], [1, 1], [0xffffffff, 0xffffffff]] as const) {
    const changed = proof.slice();
    changed.set(bytes(little(index, 4), little(count, 4)), at);
    refused(ONE.genesis, changed, 'outcome index');
  }
});

test('authors that sign by ZIP 215 and not by the ledger rule', () => {
  const { Point } = ed25519;
  const order = Point.Fn.ORDER;
  const number = (value: Uint8Array): bigint => value.reduceRight((sum, byte) => sum * 256n + BigInt(byte), 0n);
  const author = signer('author');
  const { scalar } = ed25519.utils.getExtendedPublicKey(author.secret);
  const withR = (R: Uint8Array) => (message: Uint8Array): Uint8Array => {
    const k = number(sha512(bytes(R, author.key, message))) % order;
    return bytes(R, little((k * scalar) % order, 32));
  };
  const smallKey = little(1n, 32);
  const cases: Parameters<typeof transaction>[1][] = [
    { author: smallKey, sign: () => bytes(Point.BASE.multiply(5n).toBytes(), little(5n, 32)) },
    { sign: withR(Point.ZERO.toBytes()) },
    { sign: withR(little(Point.Fp.ORDER + 1n, 32)) },
    { sign: withR(little(1n + (1n << 255n), 32)) },
  ];
  for (const fields of cases) {
    const made = transaction(ONE, fields);
    const signature = made.bytes.slice(-64);
    const message = bytes(new TextEncoder().encode('althing/tx/v1'), [0, 0], made.id);
    const key = fields?.author ?? author.key;
    assert.ok(ed25519.verify(signature, message, key, { zip215: true }));
    refused(ONE.genesis, transactionProof(ONE, { transaction: made }), 'author signature');
  }
  const high = transaction(ONE, {
    sign: (message) => {
      const signature = ed25519.sign(message, author.secret);
      return bytes(signature.subarray(0, 32), little(number(signature.subarray(32)) + order, 32));
    },
  });
  refused(ONE.genesis, transactionProof(ONE, { transaction: high }), 'author signature');
});

test('a validator that signs with S + L', () => {
  const proof = transactionProof(ONE);
  const s = proof.slice(VOTES + 32, VOTES + 64).reduceRight((sum, byte) => sum * 256n + BigInt(byte), 0n);
  proof.set(little(s + ed25519.Point.Fn.ORDER, 32), VOTES + 32);
  refused(ONE.genesis, proof, 'validator signature');
});

test('an account proof with another key', () => {
  const front = stateFront(ONE, state, 2);
  refused(ONE.genesis, bytes(front, state.account(3, state.rows[4]!.key)), 'other account');
  refused(ONE.genesis, bytes(front, state.account(3, filler('nobody'))), 'other account');
});

test('an account number at or above the count', () => {
  const front = stateFront(ONE, state, 2);
  const claim = state.account(18);
  claim.set(little(19, 4), 144);
  refused(ONE.genesis, bytes(front, claim), 'account number');
  const none = new State(0);
  const empty = bytes(stateFront(ONE, none, 2), none.start(filler('x')), none.links, little(0, 4));
  refused(ONE.genesis, empty, 'account number');
});

test('more accounts than numbers', () => {
  const claim = state.account(18);
  claim.set(little(1n << 32n, 8), 32);
  refused(ONE.genesis, bytes(stateFront(ONE, state, 2), claim), 'too many accounts');
});

test('absence of a key that is there, by every predecessor', () => {
  for (const count of [1, 2, 8, 9, 19]) {
    const present = new State(count);
    const front = stateFront(ONE, present, 3);
    for (const { key } of present.rows) {
      for (let before = 0; before < count; before += 1) {
        refused(ONE.genesis, bytes(front, present.absence(key, before)), 'key not between its neighbours');
      }
    }
  }
});

test('absence by a wrong predecessor', () => {
  const front = stateFront(ONE, state, 3);
  for (const key of [filler('nobody'), new Uint8Array(32), new Uint8Array(32).fill(0xff)]) {
    for (let before = 0; before < 19; before += 1) {
      const proof = bytes(front, state.absence(key, before));
      if (before === state.before(key)) verify(ONE.genesis, proof);
      else refused(ONE.genesis, proof, 'key not between its neighbours');
    }
  }
});

test('absence in a state that is said to be empty', () => {
  const claim = state.start(state.rows[0]!.key);
  claim.set(little(0n, 8), 32);
  refused(ONE.genesis, bytes(stateFront(ONE, state, 3), claim), 'state root');
});

test('a next account beyond the count', () => {
  // The root is over this link, so only the check of the number can refuse it.
  const entry = bytes(filler('alone'), little(1n, 8), little(0n, 8), filler('head'));
  const pages = merkle([hash('state page v1', entry)]).root;
  const lanes = filler('lanes');
  const council = filler('council');
  const start = bytes(filler('nobody'), little(1n, 8), lanes, little(0n, 8), council, little(0, 4));
  const proof = (next: number): Uint8Array => {
    const links = merkle([hash('state links v1', little(next, 4))]).root;
    const root = stateRoot(1, pages, links, lanes, 0n, council);
    const front = finality(ONE, header(ONE, { executed: 20n, stateRoot: root }), { kind: 3 });
    return bytes(front, start, little(next, 4), entry);
  };
  verify(ONE.genesis, proof(0));
  for (const next of [1, 8, 2 ** 31, 2 ** 32 - 1]) refused(ONE.genesis, proof(next), 'next account');
});

test('a link that skips the account with the key', () => {
  const front = stateFront(ONE, large, 3);
  for (let before = 0; before < 130; before += 1) {
    const skipped = large.next(before);
    const after = large.next(skipped);
    const claim = large.absence(large.rows[skipped]!.key, before);
    const links = large.linksBytes(before);
    links.set(little(after, 4), 4 * (before % 64));
    const second = after >> 3 === before >> 3 ? new Uint8Array(0) : large.pageBytes(after);
    const forged = bytes(claim.subarray(0, 116), links, large.pageBytes(before), second);
    refused(ONE.genesis, bytes(front, forged), 'state root');
  }
});

test('links of another leaf', () => {
  const front = stateFront(ONE, large, 3);
  // Leaves 0 and 1 have as many links and siblings, so that all lengths fit.
  const before = large.ring.find((number) => number < 64)!;
  const honest = large.absence(above(before, large), before);
  verify(ONE.genesis, bytes(front, honest));
  const length = large.linksBytes(before).length;
  const wrong = large.linksBytes(64 + before);
  assert.equal(wrong.length, length);
  // With the right link in the wrong leaf, only the root can refuse it.
  wrong.set(little(large.next(before), 4), 4 * before);
  const forged = bytes(honest.subarray(0, 116), wrong, honest.subarray(116 + length));
  refused(ONE.genesis, bytes(front, forged), 'state root');
});

test('the links of another state beside an account', () => {
  const front = stateFront(ONE, large, 2);
  const claim = large.account(5);
  verify(ONE.genesis, bytes(front, claim));
  claim.set(new State(131).links, 112);
  refused(ONE.genesis, bytes(front, claim), 'state root');
});

test('the digests of another council and of other lanes', () => {
  // The council stands last in the start of every claim about a state.
  for (const at of [40, 72, 80, 111]) {
    for (const [kind, claim] of [[2, state.account(5)], [3, state.absence(above(inside), inside)]] as const) {
      claim[at]! ^= 1;
      refused(ONE.genesis, bytes(stateFront(ONE, state, kind), claim), 'state root');
    }
  }
});

test('a claim about a state of the version before, without a council', () => {
  const claim = state.account(5);
  const without = bytes(claim.subarray(0, 80), claim.subarray(112));
  refused(ONE.genesis, bytes(stateFront(ONE, state, 2), without));
});

test('a proof of another version', () => {
  for (const version of [0, 1, 3, 255]) {
    const proof = transactionProof(ONE);
    proof[0] = version;
    refused(ONE.genesis, proof, 'unknown version');
  }
});

test('the roots of pages and links in each other’s places', () => {
  const key = filler('alone');
  const entry = bytes(key, little(1n, 8), little(0n, 8), filler('head'));
  const pages = merkle([hash('state page v1', entry)]).root;
  const links = merkle([hash('state links v1', little(0, 4))]).root;
  const lanes = filler('lanes');
  const council = filler('council');
  const front = (first: Uint8Array, second: Uint8Array, kind: number): Uint8Array => {
    const root = stateRoot(1, first, second, lanes, 0n, council);
    return finality(ONE, header(ONE, { executed: 20n, stateRoot: root }), { kind });
  };
  const start = (of: Uint8Array): Uint8Array => bytes(of, little(1n, 8), lanes, little(0n, 8), council);
  const account = bytes(start(key), links, little(0, 4), entry);
  const absence = bytes(start(filler('nobody')), little(0, 4), little(0, 4), entry);
  verify(ONE.genesis, bytes(front(pages, links, 2), account));
  verify(ONE.genesis, bytes(front(pages, links, 3), absence));
  refused(ONE.genesis, bytes(front(links, pages, 2), account), 'state root');
  refused(ONE.genesis, bytes(front(links, pages, 3), absence), 'state root');
});

test('the links of a state with accounts for one without', () => {
  const none = merkle([]).root;
  for (const [pages, links] of [[none, state.links], [state.links, none]] as const) {
    const lanes = filler('lanes');
    const council = filler('council');
    const root = stateRoot(0, pages, links, lanes, 0n, council);
    const front = finality(ONE, header(ONE, { executed: 20n, stateRoot: root }), { kind: 3 });
    const claim = bytes(filler('nobody'), little(0n, 8), lanes, little(0n, 8), council);
    refused(ONE.genesis, bytes(front, claim), 'state root');
  }
});

test('the page of another state in the second place', () => {
  const front = stateFront(ONE, state, 3);
  const other = new State(20);
  const next = state.next(crossing);
  const proof = bytes(
    front,
    state.start(above(crossing)),
    little(crossing, 4),
    state.linksBytes(crossing),
    state.pageBytes(crossing),
    next >> 3 === 2 ? state.pageBytes(0) : other.pageBytes(next).map((byte, at) => (at === 40 ? byte ^ 1 : byte)),
  );
  refused(ONE.genesis, proof);
});

test('a claim of one kind under another kind', () => {
  const front = stateFront(ONE, state, 2);
  const absence = state.absence(above(inside), inside);
  refused(ONE.genesis, bytes(front, absence));
  refused(ONE.genesis, bytes(stateFront(ONE, state, 3), state.account(3)));
});

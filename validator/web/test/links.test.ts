// Proofs over changes of the validator set: those that lead from the genesis hold, and no other way does.

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { report } from '../src/facts.js';
import { genesisFromJson } from '../src/genesis.js';
import { PROOF_BYTES_MAX, type Verified, verify } from '../src/proof.js';
import {
  bytes,
  filler,
  finality,
  header,
  hex,
  link,
  little,
  network,
  type Seats,
  setDigest,
  type Signer,
  signer,
  signersOf,
  State,
  stateFront,
  transaction,
  transactionProof,
  unhex,
} from './builder.js';
import { refused } from './refuse.js';

const FOUR = network(4);
const { genesis } = FOUR;

/** The seats of another set on the same network. */
function seats(...labels: string[]): Seats {
  return { digest: FOUR.digest, signers: signersOf(labels) };
}

/** The genesis, one more, one less of the first, others altogether. */
const SETS: Seats[] = [
  FOUR,
  seats('validator 0', 'validator 1', 'validator 2', 'validator 3', 'fifth'),
  seats('validator 1', 'validator 2', 'validator 3', 'fifth'),
  seats('a', 'b', 'c', 'd', 'e', 'f', 'g'),
];

/** The block by which one set of the list hands over to the one after it. */
function over(place: number): Uint8Array {
  const executed = BigInt(128 * place + 126);
  return link(SETS[place]!, SETS[place + 1]!.signers, { epoch: BigInt(place), height: executed + 1n, executed });
}

const LINKS = [over(0), over(1), over(2)];

const made = transaction(FOUR);

/** A proof by these seats after these links. */
function proof(by: Seats, links: Uint8Array[]): Uint8Array {
  return transactionProof(by, { transaction: made, links });
}

function factOf(verified: Verified, name: string): string | undefined {
  return report(verified).facts.find((fact) => fact.name === name)?.value;
}

test('each set of a chain is reached from the genesis', () => {
  SETS.forEach((by, count) => {
    const verified = verify(genesis, proof(by, LINKS.slice(0, count)));
    assert.equal(verified.kind, 'transaction');
    assert.equal(verified.links.length, count);
    assert.equal(verified.validators, by.signers.length);
    assert.equal(verified.finality.signers.length, verified.quorum);
  });
});

test('claims about keys after links', () => {
  const state = new State(11);
  const by = SETS[3]!;
  for (const [kind, claim] of [
    [2, state.account(9)],
    [3, state.absence(filler('x'), state.before(filler('x')))],
  ] as const) {
    const head = header(by, { executed: 500n, stateRoot: state.root });
    const whole = bytes(finality(by, head, { kind, links: LINKS }), claim);
    assert.equal(verify(genesis, whole).kind, kind === 2 ? 'account' : 'absence');
    refused(genesis, bytes(finality(by, head, { kind, links: LINKS.slice(1) }), claim), 'other validator set');
  }
});

test('what the page says of links', () => {
  const none = verify(genesis, proof(FOUR, []));
  assert.equal(factOf(none, 'Changes of the validator set'), undefined);
  assert.match(report(none).steps.at(-1)!, /^These validators are the ones of the genesis/);
  const one = verify(genesis, proof(SETS[1]!, LINKS.slice(0, 1)));
  assert.equal(factOf(one, 'Changes of the validator set'), '1, by the block of height 127');
  assert.match(report(one).steps.at(-2)!, /that one change of the set led to/);
  const three = verify(genesis, proof(SETS[3]!, LINKS));
  assert.equal(factOf(three, 'Changes of the validator set'), '3, by the blocks of height 127, 255, 383');
  assert.match(report(three).steps.at(-3)!, /^5 of 7 validators signed .* 5 are needed\.$/);
  assert.match(report(three).steps.at(-2)!, /that 3 changes of the set led to/);
});

test('an epoch in which the set stays needs no link, and the last block of one may name another set', () => {
  for (const epoch of [0n, 1n, 9n, (1n << 64n) - 1n]) {
    verify(genesis, transactionProof(FOUR, { header: { epoch } }));
  }
  verify(genesis, transactionProof(FOUR, { header: { nextSet: filler('next') } }));
});

test('a set may hand over to one before it', () => {
  const back = link(SETS[1]!, FOUR.signers);
  verify(genesis, proof(FOUR, [LINKS[0]!, back]));
  verify(genesis, proof(SETS[1]!, [LINKS[0]!, back, LINKS[0]!]));
});

test('links that are skipped, swapped, repeated, too few or too many', () => {
  const last = SETS[3]!;
  const [a, b, c] = LINKS as [Uint8Array, Uint8Array, Uint8Array];
  verify(genesis, proof(last, [a, b, c]));
  const ways = [[b, c], [a, c], [a, b], [b, a, c], [a, c, b], [c, b, a], [a, a, b, c], [a, b, c, c], [c], []];
  for (const links of ways) refused(genesis, proof(last, links), 'other validator set');
  // The set of the genesis after it has handed over, and a later one before it is handed to.
  refused(genesis, proof(FOUR, [a]), 'other validator set');
  refused(genesis, proof(SETS[1]!, [a, b]), 'other validator set');
});

test('a set that was voted out signs for the one after it', () => {
  const head = { set: setDigest(SETS[1]!.signers) };
  const old = transactionProof(FOUR, { transaction: made, links: [LINKS[0]!], header: head });
  refused(genesis, old, 'no quorum');
  const four = seats('p', 'q', 'r', 's');
  const links = [link(FOUR, four.signers)];
  verify(genesis, proof(four, links));
  const posing = transactionProof(FOUR, { links, header: { set: setDigest(four.signers) } });
  refused(genesis, posing, 'validator signature');
});

/** Proofs whose only link is this one, by the set that it leads to. */
function refusedLink(
  reason: string,
  fields: Parameters<typeof link>[2],
  finalFields: Parameters<typeof link>[3] = {},
  by: Seats = FOUR,
  next: Seats = SETS[1]!,
): void {
  refused(genesis, proof(next, [link(by, next.signers, fields, finalFields)]), reason);
}

test('links that another set signed', () => {
  // By the newcomers themselves, under their own set and under the one that decides.
  refusedLink('other validator set', {}, {}, SETS[1]!);
  const strangers = seats('k', 'l', 'm', 'n');
  refusedLink('other validator set', {}, {}, strangers, strangers);
  const posing = { set: setDigest(FOUR.signers) };
  refusedLink('validator signature', posing, {}, strangers, strangers);
  const signing = strangers.signers.slice(0, 3);
  refusedLink('validator signature', {}, { places: [0, 1, 2], signing });
});

test('links without a quorum, and with one bad vote', () => {
  refusedLink('no quorum', {}, { places: [] });
  refusedLink('no quorum', {}, { places: [0, 3] });
  refusedLink('signer outside the set', {}, { places: [0, 1, 4], signing: FOUR.signers.slice(0, 3) });
  refusedLink('signer outside the set', {}, { places: [0, 1, 127], signing: FOUR.signers.slice(0, 3) });
  const [first, ...others] = FOUR.signers as [Signer, Signer, Signer, Signer];
  refusedLink('validator signature', {}, { places: [0, 1, 2, 3], signing: [signer('stranger'), ...others] });
  refusedLink('validator signature', {}, { places: [0, 1, 2], signing: [first, first, first] });
  refusedLink('validator signature', {}, { namespaceEnd: '_NOTARIZE' });
  refusedLink('validator signature', {}, { signedNetwork: network(4, 'other').digest });
});

test('a bad link after good ones', () => {
  const bad = link(SETS[2]!, SETS[3]!.signers, {}, { namespaceEnd: '_NOTARIZE' });
  refused(genesis, proof(SETS[3]!, [LINKS[0]!, LINKS[1]!, bad]), 'validator signature');
});

test('links with headers that no block has', () => {
  refusedLink('other network', { network: filler('network') });
  refusedLink('header version', { version: 1 });
  refusedLink('header reserved', { reserved: 1 });
  refusedLink('header lanes', { lanes: 101 });
  refusedLink('header executed', { height: 5n, executed: 5n });
  refusedLink('other validator set', { set: filler('set') });
});

test('links to a set that their header does not name', () => {
  refusedLink('other next set', { nextSet: filler('next') });
  refusedLink('other next set', { nextSet: new Uint8Array(32) });
  refusedLink('other next set', { nextSet: setDigest(SETS[2]!.signers) });
  // No change in the header, and yet another set behind it.
  refusedLink('other next set', { nextSet: setDigest(FOUR.signers) });
  refusedLink('other next set', { nextSet: setDigest(SETS[1]!.signers) }, {}, FOUR, SETS[2]!);
});

test('a link without a change', () => {
  refusedLink('link without a change', {}, {}, FOUR, FOUR);
  const same = link(SETS[1]!, SETS[1]!.signers);
  refused(genesis, proof(SETS[1]!, [LINKS[0]!, same]), 'link without a change');
});

test('sets that are none', () => {
  const [a, b, c] = FOUR.signers as [Signer, Signer, Signer, Signer];
  const many = Array.from({ length: 101 }, (_, place) => ({ secret: a.secret, key: new Uint8Array(32).fill(place) }));
  const cases: [Signer[], string][] = [
    [[], 'set size'],
    [many, 'set size'],
    [[b, a, c], 'set order'],
    [[a, c, b], 'set order'],
    [[a, a], 'set order'],
    [[a, b, c, c], 'set order'],
  ];
  for (const [signers, reason] of cases) {
    // The set is refused before the final block is read, so it does not matter who signs that.
    refused(genesis, proof(FOUR, [link(FOUR, signers)]), reason);
  }
  const wide = link(FOUR, SETS[1]!.signers);
  const at = wide.length - 5 * 32 - 4;
  for (const count of [4, 6, 100, 2 ** 16, 2 ** 32 - 1]) {
    const changed = wide.slice();
    changed.set(little(count, 4), at);
    refused(genesis, proof(SETS[1]!, [changed]), count > 100 ? 'set size' : undefined);
  }
});

test('a key that is no point may stand in a set, and cannot sign', () => {
  // Which keys a set may have is decided where it is voted; here only who signs is asked for.
  const none = { secret: filler('none'), key: bytes([2], new Uint8Array(31)) };
  const by = { digest: FOUR.digest, signers: [none, ...FOUR.signers].sort((x, y) => Buffer.compare(x.key, y.key)) };
  const at = by.signers.indexOf(none);
  const links = [link(FOUR, by.signers)];
  const without = [0, 1, 2, 3, 4].filter((place) => place !== at);
  verify(genesis, transactionProof(by, { links, finality: { places: without } }));
  refused(genesis, transactionProof(by, { links, finality: { places: [0, 1, 2, 3, 4] } }), 'validator signature');
});

test('as many links as there may be, and one more', () => {
  const one = network(1);
  const other = { digest: one.digest, signers: signersOf(['other']) };
  const ways = [link(one, other.signers), link(other, one.signers)];
  const links = (count: number): Uint8Array[] => Array.from({ length: count }, (_, place) => ways[place % 2]!);
  const verified = verify(one.genesis, transactionProof(one, { links: links(128) }));
  assert.equal(verified.links.length, 128);
  refused(one.genesis, transactionProof(other, { links: links(129) }), 'too many links');
  const many = transactionProof(one);
  for (const count of [129, 2 ** 31, 2 ** 32 - 1]) {
    many.set(little(count, 4), 4);
    refused(one.genesis, many, 'too many links');
  }
});

test('more or fewer links than are counted', () => {
  const whole = proof(SETS[3]!, LINKS);
  for (const count of [0, 1, 2, 4, 128]) {
    const changed = whole.slice();
    changed.set(little(count, 4), 4);
    refused(genesis, changed);
  }
});

test('bytes too many, and bytes between', () => {
  const whole = proof(SETS[1]!, LINKS.slice(0, 1));
  verify(genesis, whole);
  refused(genesis, bytes(whole, [0]), 'trailing bytes');
  const end = 8 + LINKS[0]!.length;
  for (const at of [8, end - 1, end, end + 1]) refused(genesis, bytes(whole.slice(0, at), [0], whole.slice(at)));
  for (let length = 0; length < whole.length; length += 1) refused(genesis, whole.slice(0, length));
});

test('a proof of the largest size fits', () => {
  const hundred = network(100);
  const other = { digest: hundred.digest, signers: signersOf(Array.from({ length: 100 }, (_, at) => `other ${at}`)) };
  const places = Array.from({ length: 100 }, (_, place) => place);
  // Two links by turns: only the size is asked for here.
  const ways = [link(hundred, other.signers, {}, { places }), link(other, hundred.signers, {}, { places })];
  const largest = transactionProof(hundred, {
    transaction: transaction(hundred, { body: new Uint8Array(65_380) }),
    links: Array.from({ length: 128 }, (_, place) => ways[place % 2]!),
    count: 1000,
    index: 501,
    height: 63,
    executed: 63,
    finality: { places },
  });
  assert.ok(largest.length > PROOF_BYTES_MAX - 128 * 1024 && largest.length < PROOF_BYTES_MAX);
  // A vote of the first link is broken, so that not all of them are checked.
  largest[8 + 304 + 40]! ^= 1;
  refused(hundred.genesis, largest, 'validator signature');
});

test('a proof by the genesis alone of what a later set decided', () => {
  const later = stateFront(SETS[1]!, new State(3), 2);
  refused(genesis, bytes(later, new State(3).account(1)), 'other validator set');
});

const GOLDEN = join(process.cwd(), '../../ledger/golden');
const GOLDEN_LINKS = join(GOLDEN, 'proof_links.hex');
const skip = existsSync(GOLDEN_LINKS) ? false : 'there is none';

test('golden proof over three changes, and every bit of it', { skip }, () => {
  const trusted = genesisFromJson(readFileSync(join(GOLDEN, 'proof_links_genesis.json'), 'utf8'));
  const sample = unhex(readFileSync(GOLDEN_LINKS, 'utf8'));
  const verified = verify(trusted, sample);
  assert.equal(verified.kind, 'account');
  assert.equal(verified.checkpoint, 512n);
  assert.equal(factOf(verified, 'Changes of the validator set'), '3, by the blocks of height 127, 255, 383');
  assert.deepEqual(verified.links.map(({ next }) => next.keys.length), [5, 4, 4]);
  for (const { finality: { header: head }, next } of verified.links) {
    assert.equal(hex(head.nextSet), hex(next.digest));
  }
  for (let length = 0; length < sample.length; length += 1) refused(trusted, sample.slice(0, length));
  refused(trusted, bytes(sample, [0]), 'trailing bytes');
  for (let bit = 0; bit < 8 * sample.length; bit += 1) {
    const flipped = sample.slice();
    flipped[bit >> 3]! ^= 1 << (bit & 7);
    refused(trusted, flipped, undefined, `bit ${bit}`);
  }
});

// Proofs that must verify: all kinds over many sizes of validator sets, trees, histories and states.

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { report, printable } from '../src/facts.js';
import { genesisFromJson } from '../src/genesis.js';
import { PROOF_BYTES_MAX, type Verified, verify } from '../src/proof.js';
import {
  beside,
  bytes,
  filler,
  hex,
  little,
  network,
  State,
  stateFront,
  transaction,
  transactionProof,
  unhex,
} from './builder.js';

const ONE = network(1);

function verifiedAs<K extends Verified['kind']>(
  verified: Verified,
  kind: K,
): Extract<Verified, { kind: K }> {
  assert.equal(verified.kind, kind);
  return verified as Extract<Verified, { kind: K }>;
}

for (const validators of [1, 2, 3, 4, 7, 100]) {
  test(`transaction, ${validators} validators`, () => {
    const net = network(validators);
    const made = transaction(net);
    const proof = transactionProof(net, { transaction: made, index: 2, count: 5, height: 6, executed: 11 });
    const verified = verifiedAs(verify(net.genesis, proof), 'transaction');
    assert.equal(hex(verified.id), hex(made.id));
    assert.equal(verified.claim.height, 6n);
    assert.equal(verified.claim.outcome, 'applied');
    assert.equal(verified.checkpoint, 8n);
    assert.equal(verified.finality.signers.length, verified.quorum);
  });
}

test('more signatures than a quorum verify', () => {
  const net = network(4);
  const proof = transactionProof(net, { finality: { places: [0, 1, 2, 3] } });
  assert.equal(verify(net.genesis, proof).finality.signers.length, 4);
});

test('every index of 1 to 20 outcomes', () => {
  const made = transaction(ONE);
  for (let count = 1; count <= 20; count += 1) {
    for (let index = 0; index < count; index += 1) {
      const proof = transactionProof(ONE, { transaction: made, index, count });
      assert.equal(verify(ONE.genesis, proof).kind, 'transaction');
    }
  }
});

test('every height of histories of 1 to 70 heights', () => {
  const made = transaction(ONE);
  for (let executed = 1; executed <= 70; executed += 1) {
    for (let height = 1; height <= executed; height += executed > 40 ? 3 : 1) {
      const proof = transactionProof(ONE, { transaction: made, height, executed });
      const verified = verifiedAs(verify(ONE.genesis, proof), 'transaction');
      assert.equal(verified.claim.height, BigInt(height));
    }
  }
});

test('every outcome', () => {
  const names = ['applied', 'failed', 'stale', 'forked', 'expired', 'ahead'];
  names.forEach((name, outcome) => {
    const verified = verifiedAs(verify(ONE.genesis, transactionProof(ONE, { outcome })), 'transaction');
    assert.equal(verified.claim.outcome, name);
    assert.match(report(verified).sentence, new RegExp(name));
  });
});

test('transfer, empty record and the longest record', () => {
  const to = filler('receiver');
  const bodies: [number, Uint8Array][] = [
    [2, bytes(to, little(99n, 8))],
    [1, new Uint8Array(0)],
    [1, new Uint8Array(65_380).fill(0x61)],
  ];
  for (const [kind, body] of bodies) {
    const proof = transactionProof(ONE, { transaction: transaction(ONE, { kind, body }) });
    const verified = verifiedAs(verify(ONE.genesis, proof), 'transaction');
    const { facts } = report(verified);
    if (kind === 2) {
      assert.equal(facts.find(({ name }) => name === 'Amount')?.value, '99');
      assert.equal(facts.find(({ name }) => name === 'To')?.value, hex(to));
    } else {
      const shown = facts.find(({ name }) => name.startsWith('Body as text'));
      assert.equal(shown?.value.length, Math.min(body.length, 1024));
    }
  }
});

test('every account, and absence at every place, of states of 0 to 30 accounts', () => {
  for (let count = 0; count <= 30; count += 1) {
    const state = new State(count);
    const accountFront = stateFront(ONE, state, 2);
    const absenceFront = stateFront(ONE, state, 3);
    for (let number = 0; number < count; number += 1) {
      const proof = bytes(accountFront, state.account(number));
      const { claim, checkpoint } = verifiedAs(verify(ONE.genesis, proof), 'account');
      assert.equal(claim.entry.balance, state.rows[number]!.balance);
      assert.equal(claim.entry.sequence, state.rows[number]!.sequence);
      assert.equal(checkpoint, 16n);
    }
    const absent: Uint8Array[] = [new Uint8Array(32), new Uint8Array(32).fill(0xff)];
    for (const { key } of state.rows) absent.push(beside(key, 1n), beside(key, -1n));
    for (const key of absent) {
      const claim = count === 0 ? state.start(key) : state.absence(key, state.before(key));
      const proof = bytes(absenceFront, claim);
      const verified = verifiedAs(verify(ONE.genesis, proof), 'absence');
      assert.equal(hex(verified.claim.key), hex(key));
      assert.match(report(verified).sentence, /No account/);
    }
  }
});

test('accounts and absence around the borders of the links’ leaves', () => {
  for (const count of [63, 64, 65, 127, 128, 129, 193, 321]) {
    const state = new State(count);
    const accountFront = stateFront(ONE, state, 2);
    const absenceFront = stateFront(ONE, state, 3);
    const borders = [0, 1, 62, 63, 64, 65, 127, 128, 191, 192, 255, 256, 319, count - 1];
    const largest = state.ring[count - 1]!;
    for (const number of new Set([...borders.filter((border) => border < count), largest])) {
      assert.equal(verify(ONE.genesis, bytes(accountFront, state.account(number))).kind, 'account');
      const claim = state.absence(beside(state.rows[number]!.key, 1n), number);
      const verified = verifiedAs(verify(ONE.genesis, bytes(absenceFront, claim)), 'absence');
      assert.deepEqual(verified.claim.neighbours, { before: number, after: state.next(number) });
    }
  }
});

test('the steps of an absence', () => {
  const state = new State(70);
  const proof = bytes(stateFront(ONE, state, 3), state.absence(beside(state.rows[66]!.key, 1n), 66));
  const { steps } = report(verify(ONE.genesis, proof));
  assert.match(steps[0]!, new RegExp(`account 66 is followed by account ${state.next(66)} `));
  assert.match(steps[1]!, /links of 70 accounts/);
  assert.match(steps[3]!, /pages of 70 accounts/);
  assert.match(steps[4]!, /both trees are in the state root/);
  const none = new State(0);
  const empty = bytes(stateFront(ONE, none, 3), none.start(filler('x')));
  assert.match(report(verify(ONE.genesis, empty)).steps[1]!, /are empty/);
});

for (const validators of [4, 7]) {
  test(`account and absence, ${validators} validators`, () => {
    const net = network(validators);
    const state = new State(30);
    assert.equal(verify(net.genesis, bytes(stateFront(net, state, 2), state.account(29))).kind, 'account');
    const key = filler('nobody');
    const claim = state.absence(key, state.before(key));
    assert.equal(verify(net.genesis, bytes(stateFront(net, state, 3), claim)).kind, 'absence');
  });
}

test('the genesis state is the checkpoint below the first interval', () => {
  const state = new State(3);
  const front = stateFront(ONE, state, 2, { executed: 7n });
  const verified = verify(ONE.genesis, bytes(front, state.account(1)));
  assert.equal(verified.checkpoint, 0n);
  assert.match(report(verified).sentence, /genesis state/);
});

test('a proof inside a larger buffer is read from its own start', () => {
  const proof = transactionProof(ONE);
  const larger = bytes(new Uint8Array(13), proof, new Uint8Array(7));
  assert.equal(verify(ONE.genesis, larger.subarray(13, 13 + proof.length)).kind, 'transaction');
});

test('a proof of the largest size fits', () => {
  const net = network(100);
  const body = new Uint8Array(65_380);
  const proof = transactionProof(net, {
    transaction: transaction(net, { body }),
    count: 1000,
    index: 501,
    height: 63,
    executed: 63,
    finality: { places: Array.from({ length: 100 }, (_, place) => place) },
  });
  assert.ok(proof.length < PROOF_BYTES_MAX);
  assert.equal(verify(net.genesis, proof).finality.signers.length, 100);
});

test('only printable text is shown as text', () => {
  const encode = (text: string): Uint8Array => new TextEncoder().encode(text);
  assert.equal(printable(encode('Þing, 議会 🙂\n')), 'Þing, 議会 🙂\n');
  for (const text of ['\u0000', '\u001b[1m', '\u202e', '\u2066', '\ufeffx', '\u2028', '\u0085']) {
    assert.equal(printable(encode(text)), undefined);
  }
  assert.equal(printable(Uint8Array.of(0xc3)), undefined);
  assert.equal(printable(encode('é'.repeat(1000)))?.length, 512);
  assert.equal(printable(encode(`a${'é'.repeat(1000)}`))?.length, 512);
});

const GOLDEN = join(process.cwd(), '../../ledger/golden');
const GOLDEN_GENESIS = join(GOLDEN, 'proof_genesis.json');

test('golden proofs', { skip: existsSync(GOLDEN_GENESIS) ? false : 'there are none' }, () => {
  const genesis = genesisFromJson(readFileSync(GOLDEN_GENESIS, 'utf8'));
  for (const kind of ['transaction', 'account', 'absence']) {
    const proof = unhex(readFileSync(join(GOLDEN, `proof_${kind}.hex`), 'utf8'));
    assert.equal(verify(genesis, proof).kind, kind);
  }
});

// Council transactions: every ballot is read and put into words, and all but its one encoding is refused.

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { readBallot } from '../src/council.js';
import { report } from '../src/facts.js';
import { genesisFromJson } from '../src/genesis.js';
import { hashTransactionId } from '../src/hash.js';
import { verify } from '../src/proof.js';
import { checkAuthor, readTransaction } from '../src/transaction.js';
import { addressText } from '../src/wording.js';
import {
  ADD,
  address,
  BALLOTS,
  ballot,
  change,
  mapped,
  MOVE,
  NEW,
  newcomer,
  OLD,
  PLACES,
  rates,
  RATES,
  READY,
  REMOVE,
  REPLACE,
  V6,
} from './ballots.js';
import { bytes, hex, network, transaction, transactionProof, unhex } from './builder.js';
import { refused, refuses } from './refuse.js';

const ONE = network(1);

function proofOf(body: Uint8Array): Uint8Array {
  return transactionProof(ONE, { transaction: transaction(ONE, { kind: 3, body }) });
}

/** The facts of a proof whose names are asked for, or all between the valid height and the place. */
function said(body: Uint8Array): [string, string][] {
  const { facts } = report(verify(ONE.genesis, proofOf(body)));
  const names = facts.map(({ name }) => name);
  const own = facts.slice(names.indexOf('Valid until height') + 1, names.indexOf('Place among the outcomes'));
  return own.map(({ name, value }) => [name, value]);
}

const PLACE_FACTS: [string, string][] = [
  ['Its address for consensus', '[2001:db8::1]:70'],
  ['Its address for lanes', '192.0.2.7:7001'],
  ['Its address for history', '[2001:db8::1]:65535'],
];

test('what ballots say, in words', () => {
  const expected: [Uint8Array, [string, string][]][] = [
    [READY, [['Says', 'is ready: the author follows the ledger and would be a validator']]],
    [
      ballot(1, ADD),
      [['Says', 'approves of a new validator'], ['Validator to be added', hex(NEW)], ...PLACE_FACTS],
    ],
    [
      ballot(2, REMOVE),
      [
        ['Says', 'withdraws its approval of the removal of a validator'],
        ['Validator to be removed', hex(OLD)],
      ],
    ],
    [
      ballot(1, REPLACE),
      [
        ['Says', 'approves of another validator in the place of one'],
        ['Validator to be replaced', hex(OLD)],
        ['Validator in its place', hex(NEW)],
        ...PLACE_FACTS,
      ],
    ],
    [
      ballot(2, MOVE),
      [
        ['Says', 'withdraws its approval of other addresses of a validator'],
        ['Validator', hex(NEW)],
        ...PLACE_FACTS,
      ],
    ],
    [
      ballot(1, RATES),
      [
        ['Says', 'approves of other rates'],
        ['Fee for a transaction', '10'],
        ['Fee for each of its bytes', '1'],
        ['Deposit for a new account', '1000'],
        ['Heights that are kept below a checkpoint', '100000'],
        ['Bytes of a lane that a block executes at most', '16777216'],
      ],
    ],
  ];
  for (const [body, facts] of expected) assert.deepEqual(said(body), facts);
});

test('a vote that was applied is one voice, and the page says so', () => {
  const made = transaction(ONE, { kind: 3, body: READY });
  const limits = (outcome: number): string =>
    report(verify(ONE.genesis, transactionProof(ONE, { transaction: made, outcome }))).limits;
  assert.match(limits(0), /one author/);
  assert.match(limits(1), /other than “applied”/);
  assert.equal(report(verify(ONE.genesis, transactionProof(ONE))).limits, '');
});

for (const [name, body] of BALLOTS) {
  test(`a ballot has one encoding: ${name}`, () => {
    const meant = readBallot(body);
    for (let length = 0; length < body.length; length += 1) {
      refuses(() => readBallot(body.slice(0, length)), 'ballot length');
    }
    refuses(() => readBallot(bytes(body, [0])), 'ballot length');
    for (let bit = 0; bit < 8 * body.length; bit += 1) {
      const flipped = body.slice();
      flipped[bit >> 3]! ^= 1 << (bit & 7);
      const isReserved = [0, 8].some((head) => bit >> 3 > head && bit >> 3 < head + 8);
      if (isReserved && bit >> 3 < body.length) {
        refuses(() => readBallot(flipped), bit >> 3 < 8 ? 'ballot reserved' : 'change reserved');
        continue;
      }
      let read: unknown;
      try {
        read = readBallot(flipped);
      } catch {
        continue;
      }
      assert.notDeepEqual(read, meant, `bit ${bit} does not matter`);
    }
  });
}

test('ballots that are none', () => {
  const cases: [string, Uint8Array, string][] = [
    ['nothing', new Uint8Array(0), 'ballot length'],
    ['no code', ballot(0), 'ballot kind'],
    ['code 4', ballot(4), 'ballot kind'],
    ['code 255', ballot(255), 'ballot kind'],
    ['approval of nothing', ballot(1), 'ballot length'],
    ['a ready with a change', ballot(3, REMOVE), 'ballot length'],
    ['change 0', ballot(1, change(0, OLD)), 'change kind'],
    ['change 5', ballot(1, change(5, OLD)), 'change kind'],
    ['a member in the place of a key', ballot(1, change(2, newcomer())), 'ballot length'],
    ['a key in the place of a member', ballot(1, change(1, OLD)), 'ballot length'],
    ['two changes', ballot(1, REMOVE, REMOVE), 'ballot length'],
    ['an added member without addresses', ballot(1, change(1, NEW, Uint8Array.of(0))), 'ballot length'],
    ['a replacement without addresses', ballot(1, change(3, OLD, NEW, Uint8Array.of(0))), 'ballot length'],
    ['two addresses', ballot(1, change(1, newcomer(NEW, PLACES.slice(1)))), 'ballot length'],
    ['four addresses', ballot(1, change(1, newcomer(NEW, [...PLACES, PLACES[0]!]))), 'ballot length'],
  ];
  for (const flag of [0, 2, 3, 255]) {
    const member = newcomer();
    member[32] = flag;
    cases.push([`flag ${flag}`, ballot(1, change(1, member)), 'newcomer without addresses']);
    cases.push([`flag ${flag}`, ballot(2, change(3, OLD, member)), 'newcomer without addresses']);
  }
  for (const [name, body, reason] of cases) {
    refuses(() => readBallot(body), reason, name);
    refused(ONE.genesis, proofOf(body), reason, name);
  }
});

test('a ballot that is longer than any', () => {
  assert.equal(ballot(1, REPLACE).length, 135);
  refused(ONE.genesis, proofOf(bytes(ballot(1, REPLACE), new Uint8Array(16))), 'ballot length');
  refused(ONE.genesis, proofOf(new Uint8Array(65_380)), 'ballot kind');
});

/** The reason for which this address is refused at each of the three places; none where it is taken. */
function judged(one: Uint8Array): string | undefined {
  const reasons = [0, 1, 2].map((place) => {
    const places = PLACES.map((other, index) => (index === place ? one : other));
    try {
      readBallot(ballot(1, change(1, newcomer(NEW, places))));
      return undefined;
    } catch (error) {
      return (error as Error).message;
    }
  });
  assert.equal(new Set(reasons).size, 1);
  return reasons[0];
}

test('addresses that nobody can have', () => {
  const cases: [string, number, string | undefined][] = [
    [V6, 0, 'address port'],
    [V6, 1, undefined],
    [V6, 65_535, undefined],
    ['0'.repeat(32), 1, 'address unspecified'],
    [`${'0'.repeat(31)}1`, 1, undefined],
    [mapped(0, 0, 0, 0), 1, 'address unspecified'],
    [mapped(0, 0, 0, 1), 1, undefined],
    [mapped(223, 255, 255, 255), 1, undefined],
    [mapped(224, 0, 0, 0), 1, 'address multicast'],
    [mapped(239, 255, 255, 255), 1, 'address multicast'],
    [mapped(240, 0, 0, 0), 1, undefined],
    [mapped(255, 255, 255, 255), 1, undefined],
    [`fe${'f'.repeat(30)}`, 1, undefined],
    [`ff${'0'.repeat(30)}`, 1, 'address multicast'],
    ['f'.repeat(32), 1, 'address multicast'],
    // Not mapped: these are IPv6 addresses that happen to end like IPv4 ones.
    [`${'0'.repeat(24)}e0000001`, 1, undefined],
    [`${'0'.repeat(16)}ffff000000000000`, 1, undefined],
    [`${'0'.repeat(19)}1ffffe0000001`, 1, undefined],
  ];
  for (const [ip, port, reason] of cases) assert.equal(judged(address(ip, port)), reason, ip);
});

test('addresses as text', () => {
  const cases: [string, string][] = [
    [mapped(10, 0, 0, 255), '10.0.0.255:9'],
    [V6, '[2001:db8::1]:9'],
    [`${'0'.repeat(31)}1`, '[::1]:9'],
    ['fe800000000000000000000000000000', '[fe80::]:9'],
    ['20010db8000000010000000000000001', '[2001:db8:0:1::1]:9'],
    ['20010db8000000000001000000000001', '[2001:db8::1:0:0:1]:9'],
    ['20010db8000000010001000100010001', '[2001:db8:0:1:1:1:1:1]:9'],
    ['20010db80001000200030004abcd00ef', '[2001:db8:1:2:3:4:abcd:ef]:9'],
    [`${'0'.repeat(24)}01020304`, '[::102:304]:9'],
  ];
  for (const [ip, text] of cases) assert.equal(addressText({ ip: unhex(ip), port: 9 }), text);
});

test('rates are within what a genesis may have', () => {
  const quota = [512n << 10n, 64n << 20n] as const;
  const ranges = [[0n, 1n << 40n], [0n, 1n << 40n], [0n, 1n << 40n], [1n, 1n << 40n], quota] as const;
  const standard = [10n, 1n, 1000n, 100_000n, 16n << 20n];
  ranges.forEach(([least, most], place) => {
    const body = (value: bigint): Uint8Array =>
      ballot(1, rates(standard.map((other, index) => (index === place ? value : other))));
    for (const value of [least, most]) assert.equal(readBallot(body(value)).kind, 'approve');
    for (const value of [least - 1n, most + 1n, (1n << 64n) - 1n]) {
      if (value >= 0n) refuses(() => readBallot(body(value)), 'rates out of range');
    }
  });
});

const GOLDEN = join(process.cwd(), '../../ledger/golden');
const GOLDEN_TRANSACTION = join(GOLDEN, 'transaction_council.hex');

test('golden transaction', { skip: existsSync(GOLDEN_TRANSACTION) ? false : 'there is none' }, () => {
  const genesis = genesisFromJson(readFileSync(join(GOLDEN, 'proof_links_genesis.json'), 'utf8'));
  const sample = unhex(readFileSync(GOLDEN_TRANSACTION, 'utf8'));
  const check = (one: Uint8Array): ReturnType<typeof readTransaction> => {
    const found = readTransaction(one);
    checkAuthor(found, hashTransactionId(genesis.digest, found.signed));
    return found;
  };
  const found = check(sample);
  assert.equal(hex(found.network), hex(genesis.digest.subarray(0, 8)));
  const place = (port: number): object => ({ ip: unhex(V6), port });
  const [consensus, lanes, history] = [70, 71, 72].map(place);
  const key = new Uint8Array(32).fill(6);
  assert.deepEqual(found.ballot, {
    kind: 'withdraw',
    change: { kind: 'replace', key: new Uint8Array(32).fill(5), newcomer: { key, consensus, lanes, history } },
  });
  for (let bit = 0; bit < 8 * sample.length; bit += 1) {
    const flipped = sample.slice();
    flipped[bit >> 3]! ^= 1 << (bit & 7);
    refuses(() => check(flipped), undefined, `bit ${bit}`);
  }
  for (let length = 0; length < sample.length; length += 1) refuses(() => check(sample.slice(0, length)));
  refuses(() => check(bytes(sample, [0])), 'transaction length');
});

// The genesis file: exact numbers, defaults, the digest, and every reason to refuse one.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GenesisError, genesisFromBytes, genesisFromJson } from '../src/genesis.js';
import { parseJson } from '../src/json.js';
import { bytes, hash, hex, little, signer, unhex } from './builder.js';

const KEYS = ['a', 'b', 'c']
  .map((label) => hex(signer(label).key))
  .sort() as [string, string, string];
const DEFAULTS = [10n, 1n, 1000n, 256n, 100_000n, 16_777_216n, 4_096n];

function digest(
  name: string,
  validators: string[],
  accounts: [string, bigint][],
  parameters: bigint[],
): string {
  return hex(
    hash(
      'genesis v2',
      bytes(
        [2],
        little(name.length, 4),
        new TextEncoder().encode(name),
        little(validators.length, 4),
        ...validators.map(unhex),
        little(accounts.length, 4),
        ...accounts.flatMap(([key, balance]) => [unhex(key), little(balance, 8)]),
        ...parameters.map((value) => little(value, 8)),
      ),
    ),
  );
}

test('the digest is over the binary form, with defaults for missing parameters', () => {
  const json = `{"accounts": [], "validators": ["${KEYS[0]}"], "name": "A b~"}`;
  assert.equal(hex(genesisFromJson(json).digest), digest('A b~', [KEYS[0]], [], DEFAULTS));
  const given = '{"epoch_length":128,"retention":5}';
  const some = `{"name":"x","validators":["${KEYS[0]}"],"accounts":[],"parameters":${given}}`;
  const parameters = [10n, 1n, 1000n, 256n, 5n, 16_777_216n, 128n];
  assert.equal(hex(genesisFromJson(some).digest), digest('x', [KEYS[0]], [], parameters));
});

test('an epoch is as long as it may be, and as short', () => {
  for (const length of [128n, 1n << 20n]) {
    const json = file({ parameters: `{"epoch_length": ${length}}` });
    const parameters = [...DEFAULTS.slice(0, 6), length];
    assert.equal(hex(genesisFromJson(json).digest), digest('x', KEYS.slice(0, 2), [[KEYS[0], 1n]], parameters));
  }
});

test('the first set has the keys in their order', () => {
  const { set, validators } = genesisFromJson(file({}));
  assert.deepEqual(set.keys.map(hex), KEYS.slice(0, 2));
  assert.deepEqual(validators.map((key) => hex(key.bytes)), KEYS.slice(0, 2));
  assert.equal(hex(set.digest), hex(hash('validator set v1', ...set.keys)));
});

test('balances are exact above 2^53', () => {
  const balance = (1n << 64n) - 2n;
  const json = `{"name":"x","validators":["${KEYS[0]}","${KEYS[1]}"],"accounts":[
    {"key":"${KEYS[0]}","balance":${balance}},{"balance":1,"key":"${KEYS[1].toUpperCase()}"}]}`;
  const accounts: [string, bigint][] = [
    [KEYS[0], balance],
    [KEYS[1], 1n],
  ];
  assert.equal(
    hex(genesisFromJson(json).digest),
    digest('x', [KEYS[0], KEYS[1]], accounts, DEFAULTS),
  );
});

function file(changes: Record<string, string>): string {
  const fields: Record<string, string> = {
    name: '"x"',
    validators: `["${KEYS[0]}", "${KEYS[1]}"]`,
    accounts: `[{"key": "${KEYS[0]}", "balance": 1}]`,
    ...changes,
  };
  return `{${Object.entries(fields)
    .filter(([, value]) => value !== '')
    .map(([name, value]) => `"${name}": ${value}`)
    .join(', ')}}`;
}

const account = (balance: string): string => `[{"key": "${KEYS[0]}", "balance": ${balance}}]`;

const REFUSED: [string, string, RegExp][] = [
  ['unknown field', file({ extra: '1' }), /unknown field "extra"/],
  ['unknown parameter', file({ parameters: '{"fee": 1}' }), /parameters: unknown field/],
  ['unknown field of an account', file({ accounts: `[{"key": "${KEYS[0]}", "balance": 1, "x": 1}]` }), /accounts\[0\]: unknown/],
  ['field that comes twice', `{"name": "x", ${file({}).slice(1)}`, /comes twice/],
  ['escaped field that comes twice', `{"n\\u0061me": "x", ${file({}).slice(1)}`, /comes twice/],
  ['missing name', file({ name: '' }), /name: expected text/],
  ['missing accounts', file({ accounts: '' }), /accounts: expected a list/],
  ['missing balance', file({ accounts: `[{"key": "${KEYS[0]}"}]` }), /balance/],
  ['null parameters', file({ parameters: 'null' }), /parameters: expected an object/],
  ['empty name', file({ name: '""' }), /name: expected 1 to 64/],
  ['long name', file({ name: `"${'x'.repeat(65)}"` }), /name: expected 1 to 64/],
  ['name with a line break', file({ name: '"a\\n"' }), /printable/],
  ['name that is not ASCII', file({ name: '"é"' }), /printable/],
  ['no validators', file({ validators: '[]' }), /validators: expected 1 to 100/],
  ['descending validators', file({ validators: `["${KEYS[1]}", "${KEYS[0]}"]` }), /ascend/],
  ['validator twice', file({ validators: `["${KEYS[1]}", "${KEYS[1]}"]` }), /ascend/],
  ['short key', file({ validators: '["00"]' }), /64 hexadecimal/],
  ['key with a wrong digit', file({ validators: `["${'g'.repeat(64)}"]` }), /64 hexadecimal/],
  ['key as a number', file({ validators: '[1]' }), /64 hexadecimal/],
  ['small-order key', file({ validators: `["01${'0'.repeat(62)}"]` }), /torsion-free/],
  ['account twice', file({ accounts: `[{"key": "${KEYS[0]}", "balance": 1}, {"key": "${KEYS[0]}", "balance": 1}]` }), /ascend/],
  ['supply above 64 bits', file({ accounts: `[{"key": "${KEYS[0]}", "balance": 18446744073709551615}, {"key": "${KEYS[1]}", "balance": 1}]` }), /sum of all balances/],
  ['balance above 64 bits', file({ accounts: account('18446744073709551616') }), /64 bits/],
  ['fraction', file({ accounts: account('1.0') }), /whole number/],
  ['exponent', file({ accounts: account('1e3') }), /whole number/],
  ['negative balance', file({ accounts: account('-1') }), /whole number/],
  ['minus zero', file({ accounts: account('-0') }), /whole number/],
  ['leading zero', file({ accounts: account('01') }), /expected/],
  ['balance as text', file({ accounts: account('"1"') }), /number of 64 bits/],
  ['interval of zero', file({ parameters: '{"checkpoint_interval": 0}' }), /checkpoint_interval/],
  ['epoch that is too short', file({ parameters: '{"epoch_length": 127}' }), /epoch_length: expected 128 to 1048576/],
  ['epoch that is too long', file({ parameters: '{"epoch_length": 1048577}' }), /epoch_length: expected 128/],
  ['text after the value', `${file({})} 1`, /text after/],
  ['byte order mark', `\ufeff${file({})}`, /no value/],
  ['comma at the end', file({}).replace('}]', '},]'), /no value/],
  ['deep nesting', '['.repeat(100_000), /too deep/],
  ['list', '[]', /expected an object/],
  ['nothing', '', /no value/],
];

for (const [name, json, reason] of REFUSED) {
  test(`refused: ${name}`, () => {
    assert.throws(
      () => genesisFromJson(json),
      (error: Error) => error instanceof GenesisError && reason.test(error.message),
    );
  });
}

test('bytes that are not UTF-8 are refused', () => {
  assert.throws(() => genesisFromBytes(Uint8Array.of(0x7b, 0xff, 0x7d)), GenesisError);
});

test('JSON of every kind is read', () => {
  assert.deepEqual(
    parseJson(' { "a" : [ true , false , null , 0 ] , "b" : "\\u0041\\n\\"\\\\\\/" , "c" : { } , "d" : [ ] } '),
    new Map<string, unknown>([
      ['a', [true, false, null, 0n]],
      ['b', 'A\n"\\/'],
      ['c', new Map()],
      ['d', []],
    ]),
  );
});

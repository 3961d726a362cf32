// The genesis file: reads its JSON form and computes the digest that names the network.

import { compare, fromHex, U64_MAX, u32Bytes, u64Bytes, utf8, concat } from './bytes.js';
import { hashGenesis } from './hash.js';
import { type Json, JsonError, parseJson } from './json.js';
import { setOf, VALIDATORS_MAX, type ValidatorSet } from './sets.js';
import { type ValidatorKey, validatorKey } from './signatures.js';

/** The file is not a genesis. */
export class GenesisError extends Error {}

export interface Genesis {
  name: string;
  /** The first validators. */
  set: ValidatorSet;
  /** Their keys, in the same order. */
  validators: ValidatorKey[];
  checkpointInterval: bigint;
  digest: Uint8Array;
}

interface Account {
  key: Uint8Array;
  balance: bigint;
}

const VERSION = 2;
const NAME_MAX = 64;
const ACCOUNTS_MAX = 4 * 1024 * 1024;

/** Name, default, least and most, in the order of the digest. */
const PARAMETERS: readonly (readonly [string, bigint, bigint, bigint])[] = [
  ['base_fee', 10n, 0n, 1n << 40n],
  ['fee_per_byte', 1n, 0n, 1n << 40n],
  ['account_deposit', 1_000n, 0n, 1n << 40n],
  ['checkpoint_interval', 256n, 1n, 1n << 40n],
  ['retention', 100_000n, 1n, 1n << 40n],
  ['lane_quota_bytes', 16n << 20n, 512n << 10n, 64n << 20n],
  ['epoch_length', 4_096n, 128n, 1n << 20n],
];

/** The least and the most that a parameter may be. */
export function rangeOf(parameter: string): readonly [bigint, bigint] {
  const found = PARAMETERS.find(([name]) => name === parameter);
  if (found === undefined) throw new RangeError(`there is no parameter ${parameter}`);
  return [found[2], found[3]];
}

/** Reads the bytes of a genesis file. Throws a GenesisError that names the field. */
export function genesisFromBytes(bytes: Uint8Array): Genesis {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new GenesisError('genesis: not UTF-8 text');
  }
  return genesisFromJson(text);
}

/** Reads the text of a genesis file. Throws a GenesisError that names the field. */
export function genesisFromJson(text: string): Genesis {
  let json: Json;
  try {
    json = parseJson(text);
  } catch (error) {
    if (error instanceof JsonError) throw new GenesisError(`genesis: ${error.message}`);
    throw error;
  }
  const file = fieldsOf(json, '', ['name', 'validators', 'accounts', 'parameters']);
  const name = readName(file.get('name'));
  const keys = listOf(file.get('validators'), 'validators').map((item, index) =>
    keyOf(item, `validators[${index}]`),
  );
  check(keys.length >= 1 && keys.length <= VALIDATORS_MAX, 'validators', 'expected 1 to 100');
  checkAscending(keys, (index) => `validators[${index}]`);
  const validators = keys.map(
    (key, index) =>
      validatorKey(key) ??
      fail(`validators[${index}]`, 'not a canonical, torsion-free Ed25519 key'),
  );
  const accounts = readAccounts(file.get('accounts'));
  const parameters = readParameters(file);
  const digest = hashGenesis(
    Uint8Array.of(VERSION),
    u32Bytes(name.length),
    utf8(name),
    u32Bytes(keys.length),
    ...keys,
    u32Bytes(accounts.length),
    accountBytes(accounts),
    concat(...parameters.map(u64Bytes)),
  );
  return { name, set: setOf(keys), validators, checkpointInterval: parameters[3]!, digest };
}

function readName(json: Json | undefined): string {
  if (typeof json !== 'string') fail('name', 'expected text');
  check(/^[\x20-\x7e]*$/.test(json), 'name', 'expected printable ASCII');
  check(json.length >= 1 && json.length <= NAME_MAX, 'name', 'expected 1 to 64 characters');
  return json;
}

function readAccounts(json: Json | undefined): Account[] {
  const items = listOf(json, 'accounts');
  check(items.length <= ACCOUNTS_MAX, 'accounts', 'too many');
  let supply = 0n;
  const accounts = items.map((item, index) => {
    const place = `accounts[${index}]`;
    const fields = fieldsOf(item, place, ['key', 'balance']);
    const key = keyOf(fields.get('key'), `${place}.key`);
    const balance = u64Of(fields.get('balance'), `${place}.balance`);
    supply += balance;
    check(supply <= U64_MAX, `${place}.balance`, 'the sum of all balances exceeds 64 bits');
    return { key, balance };
  });
  checkAscending(
    accounts.map((account) => account.key),
    (index) => `accounts[${index}].key`,
  );
  return accounts;
}

function readParameters(file: Map<string, Json>): bigint[] {
  const names = PARAMETERS.map(([name]) => name);
  const given = file.has('parameters')
    ? fieldsOf(file.get('parameters'), 'parameters', names)
    : new Map<string, Json>();
  return PARAMETERS.map(([name, standard, least, most]) => {
    if (!given.has(name)) return standard;
    const value = u64Of(given.get(name), `parameters.${name}`);
    check(value >= least && value <= most, `parameters.${name}`, `expected ${least} to ${most}`);
    return value;
  });
}

/** One array for all accounts: a call with a million arguments would exhaust the stack. */
function accountBytes(accounts: Account[]): Uint8Array {
  const bytes = new Uint8Array(40 * accounts.length);
  accounts.forEach(({ key, balance }, index) => {
    bytes.set(key, 40 * index);
    bytes.set(u64Bytes(balance), 40 * index + 32);
  });
  return bytes;
}

function fieldsOf(json: Json | undefined, place: string, names: string[]): Map<string, Json> {
  if (!(json instanceof Map)) fail(place, 'expected an object');
  for (const name of json.keys()) {
    check(names.includes(name), place, `unknown field ${JSON.stringify(name)}`);
  }
  return json;
}

function listOf(json: Json | undefined, place: string): Json[] {
  if (!Array.isArray(json)) fail(place, 'expected a list');
  return json;
}

function keyOf(json: Json | undefined, place: string): Uint8Array {
  const key = typeof json === 'string' ? fromHex(json, 32) : undefined;
  return key ?? fail(place, 'expected 64 hexadecimal digits');
}

function u64Of(json: Json | undefined, place: string): bigint {
  if (typeof json !== 'bigint' || json > U64_MAX) fail(place, 'expected a number of 64 bits');
  return json;
}

function checkAscending(keys: Uint8Array[], place: (index: number) => string): void {
  for (let index = 1; index < keys.length; index += 1) {
    const ascends = compare(keys[index - 1]!, keys[index]!) < 0;
    if (!ascends) fail(place(index), 'keys must strictly ascend');
  }
}

function check(condition: boolean, place: string, reason: string): asserts condition {
  if (!condition) fail(place, reason);
}

function fail(place: string, reason: string): never {
  throw new GenesisError(place === '' ? `genesis: ${reason}` : `genesis: ${place}: ${reason}`);
}

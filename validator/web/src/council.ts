// The body of a council transaction: what its author says of who decides and at what rates.

import { isZero, Reader } from './bytes.js';
import { rangeOf } from './genesis.js';
import { must } from './refused.js';

const BALLOT_HEAD = 8;
const CHANGE_HEAD = 8;

/** Where a validator listens. */
export interface Address {
  /** IPv6, or IPv4 mapped into it. */
  ip: Uint8Array;
  port: number;
}

/** Who would be a member, and where the others find it. */
export interface Newcomer {
  key: Uint8Array;
  consensus: Address;
  lanes: Address;
  history: Address;
}

/** The parameters that a vote may change, in the order of their bytes. */
export const RATES = [
  'base_fee',
  'fee_per_byte',
  'account_deposit',
  'retention',
  'lane_quota_bytes',
] as const;
export type Rates = Record<(typeof RATES)[number], bigint>;

export type Change =
  | { kind: 'add'; newcomer: Newcomer }
  | { kind: 'remove'; key: Uint8Array }
  | { kind: 'replace'; key: Uint8Array; newcomer: Newcomer }
  | { kind: 'rates'; rates: Rates };

export type Ballot = { kind: 'approve' | 'withdraw'; change: Change } | { kind: 'ready' };

/** Kinds of a change by their codes, from 1, with the bytes that follow the head: each kind has one length. */
const CHANGES: readonly { kind: Change['kind']; length: number }[] = [
  { kind: 'add', length: 32 + 1 + 3 * 18 },
  { kind: 'remove', length: 32 },
  { kind: 'replace', length: 32 + 32 + 1 + 3 * 18 },
  { kind: 'rates', length: 8 * RATES.length },
];

/** Reads a whole body; refuses all but the one encoding of a ballot. */
export function readBallot(body: Uint8Array): Ballot {
  must(body.length >= BALLOT_HEAD, 'ballot length');
  const reader = new Reader(body);
  const code = reader.u8();
  must(code >= 1 && code <= 3, 'ballot kind');
  reader.zeros(BALLOT_HEAD - 1, 'ballot reserved');
  if (code === 3) {
    must(body.length === BALLOT_HEAD, 'ballot length');
    return { kind: 'ready' };
  }
  const change = readChange(reader, body.length - BALLOT_HEAD);
  return { kind: code === 1 ? 'approve' : 'withdraw', change };
}

function readChange(reader: Reader, length: number): Change {
  must(length >= CHANGE_HEAD, 'ballot length');
  const shape = CHANGES[reader.u8() - 1];
  must(shape !== undefined, 'change kind');
  reader.zeros(CHANGE_HEAD - 1, 'change reserved');
  must(length === CHANGE_HEAD + shape.length, 'ballot length');
  switch (shape.kind) {
    case 'add':
      return { kind: 'add', newcomer: readNewcomer(reader) };
    case 'remove':
      return { kind: 'remove', key: reader.take(32) };
    case 'replace':
      return { kind: 'replace', key: reader.take(32), newcomer: readNewcomer(reader) };
    case 'rates':
      return { kind: 'rates', rates: readRates(reader) };
  }
}

function readNewcomer(reader: Reader): Newcomer {
  const key = reader.take(32);
  // Only the genesis names members without addresses.
  must(reader.u8() === 1, 'newcomer without addresses');
  const consensus = readAddress(reader);
  const lanes = readAddress(reader);
  return { key, consensus, lanes, history: readAddress(reader) };
}

function readAddress(reader: Reader): Address {
  const ip = reader.take(16);
  const port = reader.u16();
  must(port !== 0, 'address port');
  const v4 = mappedV4(ip);
  must(!isZero(v4 ?? ip), 'address unspecified');
  must(v4 === undefined ? ip[0] !== 0xff : v4[0]! >> 4 !== 0xe, 'address multicast');
  return { ip, port };
}

/** The four bytes of an IPv4 address that is mapped into IPv6: those after ::ffff. */
export function mappedV4(ip: Uint8Array): Uint8Array | undefined {
  const isMapped = isZero(ip.subarray(0, 10)) && ip[10] === 0xff && ip[11] === 0xff;
  return isMapped ? ip.subarray(12) : undefined;
}

function readRates(reader: Reader): Rates {
  const rates: Partial<Rates> = {};
  for (const name of RATES) {
    const value = reader.u64();
    const [least, most] = rangeOf(name);
    must(value >= least && value <= most, 'rates out of range');
    rates[name] = value;
  }
  return rates as Rates;
}

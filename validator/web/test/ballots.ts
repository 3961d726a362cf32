// Writes ballots for the tests, apart from the verifier's code.

import { bytes, filler, little, unhex } from './builder.js';

/** An address by the 32 hexadecimal digits of its IP. */
export function address(ip: string, port: number): Uint8Array {
  return bytes(unhex(ip), little(port, 2));
}

/** The digits of an IPv4 address that is mapped into IPv6. */
export function mapped(...parts: number[]): string {
  return `${'0'.repeat(20)}ffff${Buffer.from(parts).toString('hex')}`;
}

export const V6 = '20010db8000000000000000000000001';
export const PLACES = [address(V6, 70), address(mapped(192, 0, 2, 7), 7001), address(V6, 65_535)];

export const OLD = filler('the member that leaves');
export const NEW = filler('the member that comes');

export function newcomer(key = NEW, places = PLACES): Uint8Array {
  return bytes(key, [1], ...places);
}

export function change(kind: number, ...parts: Uint8Array[]): Uint8Array {
  return bytes([kind, 0, 0, 0, 0, 0, 0, 0], ...parts);
}

export function ballot(code: number, ...parts: Uint8Array[]): Uint8Array {
  return bytes([code, 0, 0, 0, 0, 0, 0, 0], ...parts);
}

export function rates(values: bigint[]): Uint8Array {
  return change(4, ...values.map((value) => little(value, 8)));
}

export const ADD = change(1, newcomer());
export const REMOVE = change(2, OLD);
export const REPLACE = change(3, OLD, newcomer());
export const MOVE = change(3, NEW, newcomer());
export const RATES = rates([10n, 1n, 1000n, 100_000n, 16n << 20n]);
export const READY = ballot(3);

/** Every kind of ballot. */
export const BALLOTS: [string, Uint8Array][] = [
  ['ready', READY],
  ...[1, 2].flatMap((code): [string, Uint8Array][] => {
    const name = code === 1 ? 'approve' : 'withdraw';
    return [
      [`${name} add`, ballot(code, ADD)],
      [`${name} remove`, ballot(code, REMOVE)],
      [`${name} replace`, ballot(code, REPLACE)],
      [`${name} move`, ballot(code, MOVE)],
      [`${name} rates`, ballot(code, RATES)],
    ];
  }),
];

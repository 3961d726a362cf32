// Bytes: a reader that checks every length before it reads, hexadecimal text and little-endian numbers.

import { must } from './refused.js';

export const U64_MAX = (1n << 64n) - 1n;

/** Reads a proof from front to back; what it hands out are views into the same memory. */
export class Reader {
  private at = 0;
  private readonly bytes: Uint8Array;
  private readonly view: DataView;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  take(length: number): Uint8Array {
    const start = this.advance(length);
    return this.bytes.subarray(start, start + length);
  }

  digests(count: number): Uint8Array[] {
    // The length is checked as a whole first, so a large count costs nothing.
    const all = this.take(32 * count);
    return Array.from({ length: count }, (_, index) => all.subarray(32 * index, 32 * index + 32));
  }

  u8(): number {
    return this.view.getUint8(this.advance(1));
  }

  u16(): number {
    return this.view.getUint16(this.advance(2), true);
  }

  u32(): number {
    return this.view.getUint32(this.advance(4), true);
  }

  u64(): bigint {
    return this.view.getBigUint64(this.advance(8), true);
  }

  u128(): bigint {
    const low = this.u64();
    return low | (this.u64() << 64n);
  }

  zeros(length: number, reason: string): void {
    must(isZero(this.take(length)), reason);
  }

  end(): void {
    must(this.at === this.bytes.length, 'trailing bytes');
  }

  private advance(length: number): number {
    must(length <= this.bytes.length - this.at, 'truncated');
    const start = this.at;
    this.at += length;
    return start;
  }
}

export function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0);
}

/** Compares as big-endian numbers of one length: below, equal or above zero. */
export function compare(left: Uint8Array, right: Uint8Array): number {
  for (let index = 0; index < left.length; index += 1) {
    const difference = left[index]! - right[index]!;
    if (difference !== 0) return difference;
  }
  return left.length - right.length;
}

export function equal(left: Uint8Array, right: Uint8Array): boolean {
  return left.length === right.length && compare(left, right) === 0;
}

export function concat(...parts: Uint8Array[]): Uint8Array {
  const joined = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

export function u32Bytes(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

export function u64Bytes(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value, true);
  return bytes;
}

/** Seven bits a byte, lowest first; the top bit says that more follow. */
export function varint(value: bigint): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  while (rest >= 0x80n) {
    bytes.push(Number(rest & 0x7fn) | 0x80);
    rest >>= 7n;
  }
  bytes.push(Number(rest));
  return Uint8Array.from(bytes);
}

export function utf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

export function toHex(bytes: Uint8Array): string {
  let text = '';
  for (const byte of bytes) text += byte.toString(16).padStart(2, '0');
  return text;
}

/** Reads exactly `length` bytes of hexadecimal text, or returns undefined. */
export function fromHex(text: string, length: number): Uint8Array | undefined {
  if (text.length !== 2 * length || !/^[0-9a-fA-F]*$/.test(text)) return undefined;
  return Uint8Array.from({ length }, (_, index) =>
    Number.parseInt(text.slice(2 * index, 2 * index + 2), 16),
  );
}

// The two Ed25519 rules: validators' votes by ZIP 215, authors' signatures by the stricter ledger rule.

import { ed25519 } from '@noble/curves/ed25519.js';
import { sha512 } from '@noble/hashes/sha2.js';
import { concat, toHex } from './bytes.js';

const Point = ed25519.Point;
type Point = InstanceType<typeof Point>;

const ORDER = Point.Fn.ORDER;

/** A key that signs often gets a table of its multiples, which pays only after some uses. */
const USES_BEFORE_TABLE = 8;
const TABLE_WINDOW = 6;

/** A key that casts votes, decoded once. */
export interface ValidatorKey {
  readonly bytes: Uint8Array;
  readonly point: Point;
  uses: number;
}

/** Decodes a key of the genesis: one that is canonical, torsion-free and not of small order, or returns undefined. */
export function validatorKey(bytes: Uint8Array): ValidatorKey | undefined {
  const point = decode(bytes, false);
  // The neutral point is free of torsion, so small order is asked for too.
  if (point === undefined || point.isSmallOrder() || !point.isTorsionFree()) return undefined;
  return { bytes, point, uses: 0 };
}

/** Finds keys by their bytes, each decoded once: whoever signs in many sets gets one table. */
export class KeyRing {
  private readonly known: Map<string, ValidatorKey | undefined>;

  constructor(keys: readonly ValidatorKey[]) {
    this.known = new Map(keys.map((key) => [toHex(key.bytes), key]));
  }

  /** The key as ZIP 215 takes it: any encoding of any point. The set that names it was signed for. */
  find(bytes: Uint8Array): ValidatorKey | undefined {
    const name = toHex(bytes);
    if (!this.known.has(name)) {
      const point = decode(bytes, true);
      this.known.set(name, point && { bytes, point, uses: 0 });
    }
    return this.known.get(name);
  }
}

/** Checks a vote by ZIP 215: R may be any encoding of any point of the curve. */
export function voteHolds(key: ValidatorKey, message: Uint8Array, signature: Uint8Array): boolean {
  const R = decode(signature.subarray(0, 32), true);
  if (R === undefined) return false;
  key.uses += 1;
  if (key.uses === USES_BEFORE_TABLE) key.point.precompute(TABLE_WINDOW);
  return equationHolds(key.bytes, key.point, R, message, signature);
}

/** Checks an author's signature: A and R must be canonical and not of small order. */
export function authorSignatureHolds(
  author: Uint8Array,
  message: Uint8Array,
  signature: Uint8Array,
): boolean {
  const A = decode(author, false);
  if (A === undefined || A.isSmallOrder()) return false;
  const R = decode(signature.subarray(0, 32), false);
  if (R === undefined || R.isSmallOrder()) return false;
  return equationHolds(author, A, R, message, signature);
}

/** The cofactored equation 8(SB - R - kA) = 0 with S below the order; k is over the bytes as sent. */
function equationHolds(
  key: Uint8Array,
  A: Point,
  R: Point,
  message: Uint8Array,
  signature: Uint8Array,
): boolean {
  const S = littleEndian(signature.subarray(32, 64));
  if (S >= ORDER) return false;
  const k = littleEndian(sha512(concat(signature.subarray(0, 32), key, message))) % ORDER;
  const left = Point.BASE.multiplyUnsafe(S);
  const right = R.add(A.multiplyUnsafe(k));
  return left.subtract(right).clearCofactor().is0();
}

function decode(bytes: Uint8Array, zip215: boolean): Point | undefined {
  try {
    return Point.fromBytes(bytes, zip215);
  } catch {
    return undefined;
  }
}

function littleEndian(bytes: Uint8Array): bigint {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let value = 0n;
  for (let at = bytes.length - 8; at >= 0; at -= 8) {
    value = (value << 64n) | view.getBigUint64(at, true);
  }
  return value;
}

// The signature rules: what ZIP 215 takes, what the ledger rule refuses, and which validator keys are allowed.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ed25519 } from '@noble/curves/ed25519.js';
import { sha512 } from '@noble/hashes/sha2.js';
import { authorSignatureHolds, KeyRing, validatorKey, voteHolds } from '../src/signatures.js';
import { bytes, filler, little, signer } from './builder.js';

const { Point } = ed25519;
const L = Point.Fn.ORDER;
const P = Point.Fp.ORDER;
const MESSAGE = new TextEncoder().encode('message');
const ORDER_EIGHT = Point.fromHex(
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
);
const SMALL = Array.from({ length: 8 }, (_, index) => {
  let point = Point.ZERO;
  for (let step = 0; step < index; step += 1) point = point.add(ORDER_EIGHT);
  return point;
});

function number(value: Uint8Array): bigint {
  return value.reduceRight((sum, byte) => sum * 256n + BigInt(byte), 0n);
}

/** Signs with R as given in bytes and S = r + ka. */
function sign(secret: bigint, key: Uint8Array, r: bigint, R: Uint8Array): Uint8Array {
  const k = number(sha512(bytes(R, key, MESSAGE))) % L;
  return bytes(R, little((r + k * secret) % L, 32));
}

const { scalar, pointBytes } = ed25519.utils.getExtendedPublicKey(filler('secret'));

test('both rules hold for an ordinary signature and not for another message', () => {
  const { secret, key } = signer('someone');
  const signature = ed25519.sign(MESSAGE, secret);
  const validator = validatorKey(key);
  assert.ok(validator);
  // More uses than it takes to get a table of multiples.
  for (let use = 0; use < 20; use += 1) {
    assert.ok(voteHolds(validator, MESSAGE, signature));
    assert.ok(!voteHolds(validator, filler(`other ${use}`), signature));
  }
  assert.ok(authorSignatureHolds(key, MESSAGE, signature));
  assert.ok(!authorSignatureHolds(key, filler('other'), signature));
});

test('S + L is refused by both rules', () => {
  const { secret, key } = signer('someone');
  const signature = ed25519.sign(MESSAGE, secret);
  const high = bytes(signature.subarray(0, 32), little(number(signature.subarray(32)) + L, 32));
  assert.ok(!voteHolds(validatorKey(key)!, MESSAGE, high));
  assert.ok(!authorSignatureHolds(key, MESSAGE, high));
});

test('S = L is refused where S = 0 would hold', () => {
  const R = Point.ZERO.toBytes();
  const key = validatorKey(pointBytes)!;
  // k is not zero, so with secret 0 only a small-order key makes S = 0 hold: take the bare equation.
  const k = number(sha512(bytes(R, pointBytes, MESSAGE))) % L;
  assert.ok(voteHolds(key, MESSAGE, bytes(R, little((k * scalar) % L, 32))));
  assert.ok(!voteHolds(key, MESSAGE, bytes(R, little(L, 32))));
});

test('a small-order key verifies any message by ZIP 215 and nothing by the ledger rule', () => {
  for (const point of SMALL) {
    const key = point.toBytes();
    const R = Point.BASE.multiply(5n).toBytes();
    const signature = bytes(R, little(5n, 32));
    assert.ok(ed25519.verify(signature, MESSAGE, key, { zip215: true }));
    assert.ok(!authorSignatureHolds(key, MESSAGE, signature));
    assert.equal(validatorKey(key), undefined);
  }
});

test('a small-order R holds for a vote and not for an author', () => {
  const key = validatorKey(pointBytes)!;
  for (const point of SMALL) {
    const signature = sign(scalar, pointBytes, 0n, point.toBytes());
    assert.ok(voteHolds(key, MESSAGE, signature));
    assert.ok(!authorSignatureHolds(pointBytes, MESSAGE, signature));
  }
});

test('R that is not canonical holds for a vote and not for an author', () => {
  const key = validatorKey(pointBytes)!;
  const signBit = 1n << 255n;
  // y = p + 1 and y = 1 with the sign bit are both the neutral point.
  for (const encoding of [P + 1n, P + 1n + signBit, 1n + signBit]) {
    const signature = sign(scalar, pointBytes, 0n, little(encoding, 32));
    assert.ok(voteHolds(key, MESSAGE, signature));
    assert.ok(!authorSignatureHolds(pointBytes, MESSAGE, signature));
  }
});

test('keys that are not canonical are refused', () => {
  for (let y = 0n; y < 19n; y += 1n) {
    for (const sign of [0n, 1n << 255n]) {
      const key = little(P + y + sign, 32);
      assert.equal(validatorKey(key), undefined);
      const signature = bytes(Point.BASE.multiply(5n).toBytes(), little(5n, 32));
      assert.ok(!authorSignatureHolds(key, MESSAGE, signature));
    }
  }
});

test('a validator key with torsion is refused; an author may have one, by the cofactored equation', () => {
  const mixed = Point.fromBytes(pointBytes).add(ORDER_EIGHT).toBytes();
  assert.equal(validatorKey(mixed), undefined);
  const R = Point.BASE.multiply(9n).add(ORDER_EIGHT).toBytes();
  assert.ok(authorSignatureHolds(mixed, MESSAGE, sign(scalar, mixed, 9n, R)));
});

test('votes hold exactly where the library says so', () => {
  const { secret, key } = signer('fuzz');
  const validator = validatorKey(key)!;
  const good = ed25519.sign(MESSAGE, secret);
  for (let bit = 0; bit < 512; bit += 1) {
    const signature = good.slice();
    signature[bit >> 3]! ^= 1 << (bit & 7);
    const expected = ed25519.verify(signature, MESSAGE, key, { zip215: true });
    assert.equal(voteHolds(validator, MESSAGE, signature), expected);
    assert.equal(expected, false);
  }
});

test('a ring has the keys that it was made of, and decodes others once, by ZIP 215', () => {
  const validator = validatorKey(pointBytes)!;
  const ring = new KeyRing([validator]);
  assert.equal(ring.find(pointBytes.slice()), validator);
  const { secret, key } = signer('someone');
  const found = ring.find(key);
  assert.ok(found);
  assert.equal(ring.find(key.slice()), found);
  assert.ok(voteHolds(found, MESSAGE, ed25519.sign(MESSAGE, secret)));
  assert.ok(!voteHolds(found, filler('other'), ed25519.sign(MESSAGE, secret)));
  // y = 2 is on no point of the curve; y = p + 1 is another encoding of y = 1.
  assert.equal(ring.find(little(2n, 32)), undefined);
  assert.notEqual(ring.find(little(P + 1n, 32)), ring.find(little(1n, 32)));
  for (const point of SMALL) assert.ok(ring.find(point.toBytes()));
});

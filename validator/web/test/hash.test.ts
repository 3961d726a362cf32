// The hash: derive_key mode against the published vector, and against the library's one-shot form.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { blake3 } from '@noble/hashes/blake3.js';
import { derived } from '../src/hash.js';
import { hex } from './builder.js';

const CONTEXT = 'BLAKE3 2019-12-27 16:29:52 test vectors context';

test('derive_key mode gives the published digest of the empty input', () => {
  assert.equal(
    hex(derived(CONTEXT)()),
    '2cc39783c223154fea8dfb7c1b1660f2ac2dcbd1c1de8277b0b0dd39b7e50d7d',
  );
});

test('a copied hasher gives what a fresh one gives, at every length around a block and a chunk', () => {
  const hash = derived(CONTEXT);
  const context = new TextEncoder().encode(CONTEXT);
  for (const length of [0, 1, 63, 64, 65, 704, 1023, 1024, 1025, 3000]) {
    const input = Uint8Array.from({ length }, (_, index) => index % 251);
    const split = Math.floor(length / 3);
    assert.equal(
      hex(hash(input.subarray(0, split), input.subarray(split))),
      hex(blake3(input, { context })),
    );
  }
});

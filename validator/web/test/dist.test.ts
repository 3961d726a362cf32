// What is delivered: dist/ matches the sources, the page obeys its policy, and the command line works.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { Splitter } from '../src/check.js';
import { bytes, hex, little, network, State, stateFront, transaction, transactionProof, filler } from './builder.js';

const folder = mkdtempSync(join(tmpdir(), 'althing-verify-'));
after(() => rmSync(folder, { recursive: true }));

const net = network(4);
const genesisPath = join(folder, 'genesis.json');
writeFileSync(genesisPath, net.json);

const made = transaction(net);
const proof = transactionProof(net, { transaction: made, height: 2, executed: 3, outcome: 2 });
const state = new State(11);
const account = bytes(stateFront(net, state, 2), state.account(9));
const nobody = filler('nobody');
const absence = bytes(stateFront(net, state, 3), state.absence(nobody, state.before(nobody)));

function framed(...proofs: Uint8Array[]): Uint8Array {
  return bytes(...proofs.flatMap((one) => [little(one.length, 4), one]));
}

function check(input: Uint8Array, ...args: string[]) {
  return spawnSync(process.execPath, ['dist/check.mjs', ...args], { input, encoding: 'utf8' });
}

test('dist is what the sources give', () => {
  const result = spawnSync(process.execPath, ['build.mjs', '--check'], { encoding: 'utf8' });
  assert.equal(result.status, 0, result.stderr);
});

test('the command line prints a line for each proof', () => {
  const broken = proof.slice();
  broken[0] = 9;
  const stream = framed(proof, account, broken, absence, new Uint8Array(0));
  const result = check(stream, genesisPath);
  assert.equal(result.stderr, '');
  assert.deepEqual(result.stdout.split('\n'), [
    `ok transaction ${hex(made.id)} height 2 outcome stale`,
    `ok account ${hex(state.rows[9]!.key)} balance 9001 sequence 9`,
    'refused unknown version',
    `ok absence ${hex(nobody)}`,
    'refused truncated',
    '',
  ]);
  assert.equal(result.status, 0);
});

test('a proof that is too long is skipped', () => {
  const long = 128 * 1024 + 128 * 10 * 1024 + 1;
  const stream = bytes(little(long, 4), new Uint8Array(long), framed(proof));
  const result = check(stream, genesisPath);
  assert.match(result.stdout, /^refused too long\nok transaction [0-9a-f]{64} height 2 outcome stale\n$/);
  assert.equal(result.status, 0);
});

test('an empty stream is no error; a cut stream and a bad genesis are', () => {
  assert.equal(check(new Uint8Array(0), genesisPath).status, 0);
  const whole = framed(proof);
  for (const length of [1, 3, 4, whole.length - 1]) {
    const result = check(whole.slice(0, length), genesisPath);
    assert.equal(result.status, 2);
    assert.match(result.stderr, /ends within a proof/);
  }
  const bad = join(folder, 'bad.json');
  writeFileSync(bad, '{}');
  assert.equal(check(whole, bad).status, 2);
  assert.equal(check(whole, join(folder, 'missing.json')).status, 2);
  assert.equal(check(whole).status, 2);
});

test('an answer comes before the next proof is sent', async () => {
  const child = spawn(process.execPath, ['dist/check.mjs', genesisPath]);
  child.stdout.setEncoding('utf8');
  for (let turn = 0; turn < 3; turn += 1) {
    const answer = new Promise<string>((resolve) => child.stdout.once('data', resolve));
    child.stdin.write(framed(proof));
    assert.match(await answer, /^ok transaction/);
  }
  child.stdin.end();
  const code = await new Promise((resolve) => child.once('close', resolve));
  assert.equal(code, 0);
});

test('a stream is cut alike whatever the size of its chunks', () => {
  const proofs = [proof, new Uint8Array(0), account, Uint8Array.of(7)];
  const stream = framed(...proofs);
  for (const size of [1, 2, 3, 5, 64, 1000, stream.length]) {
    const found: string[] = [];
    const splitter = new Splitter();
    for (let at = 0; at < stream.length; at += size) {
      splitter.push(stream.subarray(at, at + size), (one) => found.push(hex(one ?? new Uint8Array(0))));
    }
    splitter.end();
    assert.deepEqual(found, proofs.map(hex));
  }
});

test('the page is one file that its policy allows', () => {
  const page = readFileSync('dist/verify.html', 'utf8');
  const policy = readFileSync('dist/verify.csp', 'utf8');
  const parts = (tag: string): string[] => {
    const found = [...page.matchAll(new RegExp(`<${tag}>([\\s\\S]*?)</${tag}>`, 'g'))];
    return found.map((match) => match[1]!);
  };
  const hash = (text: string): string => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
  const [scripts, styles] = [parts('script'), parts('style')];
  assert.equal(scripts.length, 1);
  assert.equal(styles.length, 1);
  assert.ok(policy.includes(`script-src ${hash(scripts[0]!)};`));
  assert.ok(policy.includes(`style-src ${hash(styles[0]!)};`));
  const markup = page.replace(scripts[0]!, '').replace(styles[0]!, '');
  assert.doesNotMatch(markup, /\sstyle=|\son[a-z]+=|<script |<style |https?:|src=/i);
  assert.doesNotMatch(markup, /href="(?!data:,)/);
  assert.doesNotMatch(styles[0]!, /url\(|@import/);
  assert.doesNotMatch(scripts[0]!, /innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function/);
});

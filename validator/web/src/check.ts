// The command line: verifies a stream of proofs, each after its length, and prints a line for each.

import { readFileSync } from 'node:fs';
import { toHex } from './bytes.js';
import { type Genesis, GenesisError, genesisFromBytes } from './genesis.js';
import { PROOF_BYTES_MAX, Refused, type Verified, verify } from './proof.js';

/** Lines are written together once they have this many characters. */
const OUTPUT_CHUNK = 1 << 16;

class StreamError extends Error {}

/** Cuts chunks of any size into proofs. A proof that is too long is skipped, not held in memory. */
export class Splitter {
  private parts: Uint8Array[] = [];
  private held = 0;
  /** Bytes of the present proof, once its length is read. */
  private length: number | undefined;
  private skip = 0;

  /** Calls `proof` for each proof that the chunk completes; without bytes if it is too long. */
  push(chunk: Uint8Array, proof: (bytes: Uint8Array | undefined) => void): void {
    let rest = chunk;
    while (rest.length > 0) {
      if (this.skip > 0) {
        const skipped = Math.min(this.skip, rest.length);
        this.skip -= skipped;
        rest = rest.subarray(skipped);
        if (this.skip === 0) proof(undefined);
        continue;
      }
      const wanted = (this.length ?? 4) - this.held;
      const part = rest.subarray(0, wanted);
      rest = rest.subarray(part.length);
      this.parts.push(part);
      this.held += part.length;
      if (part.length === wanted) this.complete(proof);
    }
  }

  /** Throws if the stream ended within a proof. */
  end(): void {
    if (this.held > 0 || this.length !== undefined || this.skip > 0) {
      throw new StreamError('the stream ends within a proof');
    }
  }

  private complete(proof: (bytes: Uint8Array | undefined) => void): void {
    const bytes = this.parts.length === 1 ? this.parts[0]! : Buffer.concat(this.parts);
    this.parts = [];
    this.held = 0;
    if (this.length !== undefined) {
      this.length = undefined;
      proof(bytes);
      return;
    }
    const length = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
    if (length > PROOF_BYTES_MAX) this.skip = length;
    else if (length === 0) proof(new Uint8Array(0));
    else this.length = length;
  }
}

/** The line for one proof. */
export function line(genesis: Genesis, bytes: Uint8Array | undefined): string {
  if (bytes === undefined) return 'refused too long';
  try {
    return `ok ${describe(verify(genesis, bytes))}`;
  } catch (error) {
    if (error instanceof Refused) return `refused ${error.reason}`;
    throw error;
  }
}

function describe(verified: Verified): string {
  switch (verified.kind) {
    case 'transaction': {
      const { height, outcome } = verified.claim;
      return `transaction ${toHex(verified.id)} height ${height} outcome ${outcome}`;
    }
    case 'account': {
      const { balance, sequence, key } = verified.claim.entry;
      return `account ${toHex(key)} balance ${balance} sequence ${sequence}`;
    }
    case 'absence':
      return `absence ${toHex(verified.claim.key)}`;
  }
}

async function write(text: string): Promise<void> {
  if (text === '') return;
  await new Promise<void>((resolve, reject) => {
    process.stdout.write(text, (error) => (error ? reject(error) : resolve()));
  });
}

async function run(): Promise<void> {
  const path = process.argv[2];
  if (path === undefined || process.argv.length !== 3) {
    throw new StreamError('usage: node check.mjs GENESIS.json < proofs');
  }
  const genesis = genesisFromBytes(readFileSync(path));
  const splitter = new Splitter();
  let output = '';
  for await (const chunk of process.stdin) {
    splitter.push(chunk as Uint8Array, (bytes) => {
      output += `${line(genesis, bytes)}\n`;
    });
    // Whoever feeds proofs one by one waits for the answers, so nothing is held back.
    if (output.length >= OUTPUT_CHUNK || process.stdin.readableLength === 0) {
      await write(output);
      output = '';
    }
  }
  await write(output);
  splitter.end();
}

export async function main(): Promise<void> {
  try {
    await run();
  } catch (error) {
    const known =
      error instanceof StreamError ||
      error instanceof GenesisError ||
      (error instanceof Error && 'code' in error);
    if (!known) throw error;
    // A reader that went away needs no message.
    if (!('code' in error && error.code === 'EPIPE')) process.stderr.write(`${error.message}\n`);
    process.exitCode = 2;
  }
}

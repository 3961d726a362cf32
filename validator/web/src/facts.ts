// What the page says about a verified proof: one sentence, the facts, and the steps that were checked.

import { toHex } from './bytes.js';
import type { Link } from './links.js';
import type { Verified } from './proof.js';
import type { Outcome, Transaction } from './transaction.js';
import { ballotFacts, digest, type Fact, plain } from './wording.js';

export interface Report {
  sentence: string;
  /** What the proof does not say, where a reader could think it does. */
  limits: string;
  facts: Fact[];
  steps: string[];
}

/** The start of a record's body that is shown. */
const BODY_SHOWN = 1024;

export function report(verified: Verified): Report {
  switch (verified.kind) {
    case 'transaction':
      return transactionReport(verified);
    case 'account':
      return accountReport(verified);
    case 'absence':
      return absenceReport(verified);
  }
}

function transactionReport(verified: Verified & { kind: 'transaction' }): Report {
  const { claim, id, finality } = verified;
  const { transaction, height, outcome } = claim;
  const facts: Fact[] = [
    digest('Transaction', id),
    plain('Outcome', outcome),
    plain('Executed at height', height),
    plain('Kind', transaction.kind),
    digest('Author', transaction.author),
    plain('Sequence', transaction.sequence),
    digest('Previous transaction', transaction.previous),
    plain('Valid until height', transaction.validUntil),
    ...bodyFacts(transaction),
    plain('Place among the outcomes', `${claim.index + 1} of ${claim.count}`),
    digest('Block of that height', claim.cut),
    ...finalityFacts(verified),
  ];
  return {
    sentence: `The network executed this transaction at height ${height} with the outcome “${outcome}”.`,
    limits: transactionLimits(transaction, outcome),
    facts,
    steps: [
      'The transaction has this id, and its author signed it.',
      `The outcome “${outcome}” of this id is number ${claim.index + 1} of the ${claim.count} outcomes of height ${height}.`,
      `These outcomes are in the record of height ${height}, with the digest of its block.`,
      `The record is in the history of heights 1 to ${finality.header.executed}.`,
      'The history’s root is in the header of the final block.',
      ...lastSteps(verified),
    ],
  };
}

function transactionLimits({ kind }: Transaction, outcome: Outcome): string {
  if (outcome !== 'applied') {
    return (
      'An outcome other than “applied” speaks of this height only: the same transaction may have ' +
      'another outcome at another height.'
    );
  }
  if (kind !== 'council') return '';
  return 'This is what one author says: the proof does not say whether enough others agreed, or what came of it.';
}

function accountReport(verified: Verified & { kind: 'account' }): Report {
  const { claim, checkpoint } = verified;
  const { entry } = claim;
  return {
    sentence: `The account held a balance of ${entry.balance} at sequence ${entry.sequence}, ${asOf(checkpoint)}.`,
    limits: `It may have changed since: the proof says nothing of what was executed after height ${checkpoint}.`,
    facts: [
      digest('Account', entry.key),
      plain('Balance', entry.balance),
      plain('Sequence', entry.sequence),
      plain('As of checkpoint height', checkpoint),
      digest('Last transaction', entry.head),
      plain('Number of the account', `${claim.number}, of ${claim.accounts} accounts`),
      ...finalityFacts(verified),
    ],
    steps: [
      `The account is entry ${claim.number % 8} of page ${claim.pages[0]?.index ?? 0}.`,
      `The page is in the tree over the pages of ${claim.accounts} accounts.`,
      'That tree’s root is in the state root.',
      ...stateSteps(verified),
    ],
  };
}

function absenceReport(verified: Verified & { kind: 'absence' }): Report {
  const { claim, checkpoint } = verified;
  const { neighbours } = claim;
  return {
    sentence: `No account had this key, ${asOf(checkpoint)}.`,
    limits: `One may have been made since: the proof says nothing of what was executed after height ${checkpoint}.`,
    facts: [
      digest('Key', claim.key),
      plain('As of checkpoint height', checkpoint),
      plain('Accounts', claim.accounts),
      ...finalityFacts(verified),
    ],
    steps: [
      ...(neighbours === undefined
        ? [
            'The state has no account at all.',
            'The tree over the links and the tree over the pages are empty.',
          ]
        : [
            `By its link, account ${neighbours.before} is followed by account ${neighbours.after} in the order of keys.`,
            `The link is in the tree over the links of ${claim.accounts} accounts.`,
            'The key lies between the keys of these two accounts.',
            `The accounts’ pages are in the tree over the pages of ${claim.accounts} accounts.`,
          ]),
      'The roots of both trees are in the state root.',
      ...stateSteps(verified),
    ],
  };
}

function asOf(checkpoint: bigint): string {
  return checkpoint === 0n ? 'as of the genesis state' : `as of checkpoint height ${checkpoint}`;
}

function stateSteps(verified: Verified): string[] {
  return [
    'The state root is in the header of the final block.',
    ...lastSteps(verified),
  ];
}

function lastSteps(verified: Verified): string[] {
  const { finality, validators, quorum, links } = verified;
  const changes = links.length === 1 ? 'one change' : `${links.length} changes`;
  return [
    `${finality.signers.length} of ${validators} validators signed the block of height ${finality.header.height} as final; ${quorum} are needed.`,
    ...(links.length === 0
      ? ['These validators are the ones of the genesis whose digest is shown above.']
      : [
          `These validators are the ones that ${changes} of the set led to, ` +
            'from those of the genesis whose digest is shown above.',
          'Each change is named in a block that enough of the validators before it signed as final.',
        ]),
  ];
}

function finalityFacts(verified: Verified): Fact[] {
  const { finality, links } = verified;
  const { header } = finality;
  return [
    digest('Final block', finality.block),
    plain('Height of the final block', header.height),
    plain('Executed up to height', header.executed),
    plain('Time of the final block', time(header.timeMs)),
    plain('Signers', finality.signers.join(', ')),
    ...(links.length === 0 ? [] : [plain('Changes of the validator set', changesOf(links))]),
    plain('Size of the proof', `${verified.bytes} bytes`),
  ];
}

function changesOf(links: Link[]): string {
  const heights = links.map((link) => link.finality.header.height);
  return `${links.length}, by the ${links.length === 1 ? 'block' : 'blocks'} of height ${heights.join(', ')}`;
}

function bodyFacts({ kind, body, ballot }: Transaction): Fact[] {
  if (ballot !== undefined) return ballotFacts(ballot);
  if (kind === 'transfer') {
    const amount = new DataView(body.buffer, body.byteOffset, body.length).getBigUint64(32, true);
    return [digest('To', body.subarray(0, 32)), plain('Amount', amount)];
  }
  const more = body.length > BODY_SHOWN ? `, the first ${BODY_SHOWN} shown` : '';
  const text = printable(body);
  return [
    {
      name: `Body as ${text === undefined ? 'hexadecimal' : 'text'} (${body.length} bytes${more})`,
      value: text ?? toHex(body.subarray(0, BODY_SHOWN)),
      mono: true,
    },
  ];
}

/** The start of the body as text, if all of the body is UTF-8 without control characters. */
export function printable(body: Uint8Array): string | undefined {
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(body);
  } catch {
    return undefined;
  }
  // Format characters could turn the direction of what is read, so they are not text here either.
  if (/[^\P{C}\n\r\t]|[\p{Zl}\p{Zp}]/u.test(text)) return undefined;
  if (body.length <= BODY_SHOWN) return text;
  // A character that the limit cuts in two is left out.
  return new TextDecoder().decode(body.subarray(0, BODY_SHOWN), { stream: true });
}

function time(milliseconds: bigint): string {
  const date = new Date(milliseconds <= 8_640_000_000_000_000n ? Number(milliseconds) : Number.NaN);
  return Number.isNaN(date.getTime()) ? `${milliseconds} ms` : date.toISOString();
}


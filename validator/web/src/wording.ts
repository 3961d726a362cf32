// How facts are put: digests, plain values, addresses, and what a ballot says.

import { toHex } from './bytes.js';
import { type Address, type Ballot, type Change, mappedV4, type Newcomer, RATES } from './council.js';

export interface Fact {
  name: string;
  value: string;
  /** Set in a fixed-width face: digests, keys and bodies. */
  mono?: boolean;
}

export function plain(name: string, value: string | bigint): Fact {
  return { name, value: value.toString() };
}

export function digest(name: string, value: Uint8Array): Fact {
  return { name, value: toHex(value), mono: true };
}

const RATE_NAMES: Record<(typeof RATES)[number], string> = {
  base_fee: 'Fee for a transaction',
  fee_per_byte: 'Fee for each of its bytes',
  account_deposit: 'Deposit for a new account',
  retention: 'Heights that are kept below a checkpoint',
  lane_quota_bytes: 'Bytes of a lane that a block executes at most',
};

export function ballotFacts(ballot: Ballot): Fact[] {
  if (ballot.kind === 'ready') {
    return [plain('Says', 'is ready: the author follows the ledger and would be a validator')];
  }
  const { kind, change } = ballot;
  const says = kind === 'approve' ? 'approves of' : 'withdraws its approval of';
  return [plain('Says', `${says} ${wish(change)}`), ...changeFacts(change)];
}

function wish(change: Change): string {
  switch (change.kind) {
    case 'add':
      return 'a new validator';
    case 'remove':
      return 'the removal of a validator';
    case 'replace':
      return isMove(change) ? 'other addresses of a validator' : 'another validator in the place of one';
    case 'rates':
      return 'other rates';
  }
}

/** A replacement of a key by itself changes addresses only. */
function isMove(change: Change & { kind: 'replace' }): boolean {
  return toHex(change.key) === toHex(change.newcomer.key);
}

function changeFacts(change: Change): Fact[] {
  switch (change.kind) {
    case 'add':
      return newcomerFacts('Validator to be added', change.newcomer);
    case 'remove':
      return [digest('Validator to be removed', change.key)];
    case 'replace':
      if (isMove(change)) return newcomerFacts('Validator', change.newcomer);
      return [
        digest('Validator to be replaced', change.key),
        ...newcomerFacts('Validator in its place', change.newcomer),
      ];
    case 'rates':
      return RATES.map((name) => plain(RATE_NAMES[name], change.rates[name]));
  }
}

function newcomerFacts(name: string, { key, consensus, lanes, history }: Newcomer): Fact[] {
  return [
    digest(name, key),
    plain('Its address for consensus', addressText(consensus)),
    plain('Its address for lanes', addressText(lanes)),
    plain('Its address for history', addressText(history)),
  ];
}

/** As addresses are commonly written: 192.0.2.1:70, or [2001:db8::1]:70. */
export function addressText({ ip, port }: Address): string {
  const v4 = mappedV4(ip);
  return v4 === undefined ? `[${v6Text(ip)}]:${port}` : `${v4.join('.')}:${port}`;
}

/** The shortest form by RFC 5952: the longest run of two or more zero groups is left out, the first of equals. */
function v6Text(ip: Uint8Array): string {
  const groups = Array.from({ length: 8 }, (_, index) => ip[2 * index]! * 256 + ip[2 * index + 1]!);
  let [start, length] = [0, 1];
  for (let from = 0; from < 8; from += 1) {
    let zeros = 0;
    while (groups[from + zeros] === 0) zeros += 1;
    if (zeros > length) [start, length] = [from, zeros];
  }
  const text = (part: number[]): string => part.map((group) => group.toString(16)).join(':');
  if (length === 1) return text(groups);
  return `${text(groups.slice(0, start))}::${text(groups.slice(start + length))}`;
}

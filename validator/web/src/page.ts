// The page: takes files, verifies them where they are, and shows the result as text only.

import { fromHex, equal, toHex } from './bytes.js';
import { report } from './facts.js';
import { type Genesis, GenesisError, genesisFromBytes } from './genesis.js';
import { PROOF_BYTES_MAX, Refused, type Verified, verify } from './proof.js';
import type { Fact } from './wording.js';

type State = 'waiting' | 'verified' | 'refused' | 'error';

/** More than any genesis that a browser could hold as text. */
const GENESIS_BYTES_MAX = 256 << 20;

/** A problem that the page tells as it is. */
class PageError extends Error {}

const digestText = element('digest');
const genesisNote = element('genesis-note');
const knownInput = element('known') as HTMLInputElement;
const matchText = element('match');
const genesisInput = element('genesis') as HTMLInputElement;
const proofInput = element('proof') as HTMLInputElement;
const proofNote = element('proof-note');
const verdictText = element('verdict');
const sentenceText = element('sentence');
const limitsText = element('limits');
const warningText = element('warning');
const details = element('details');
const stepList = element('steps');
const factList = element('facts');

let genesis: Genesis | undefined;
let proof: Uint8Array | undefined;
/** Why there is no proof though one was asked for. */
let proofError: string | undefined;
/** The id or key that the address of the page asks for. */
let wanted: Uint8Array | undefined;
/** What was chosen last wins, whichever is read first. */
let genesisTurn = 0;
let proofTurn = 0;

function element(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page lacks ${id}`);
  return found;
}

type Match = 'none' | 'match' | 'mismatch' | 'malformed';

function match(): Match {
  const text = knownInput.value.replace(/\s/g, '');
  if (text === '') return 'none';
  const known = fromHex(text, 32);
  if (known === undefined) return 'malformed';
  if (genesis === undefined) return 'none';
  return equal(known, genesis.digest) ? 'match' : 'mismatch';
}

const MATCH_TEXT: Record<Match, string> = {
  none: '',
  match: 'Match: this is the network that you know.',
  mismatch: 'MISMATCH: this genesis is not of the network that you know.',
  malformed: 'Not a digest: 64 hexadecimal digits are expected.',
};

function render(): void {
  digestText.textContent = genesis === undefined ? 'none yet' : toHex(genesis.digest);
  const found = match();
  matchText.textContent = MATCH_TEXT[found];
  matchText.className = `match ${found === 'match' ? 'good' : 'bad'}`;
  knownInput.setAttribute('aria-invalid', String(found === 'mismatch' || found === 'malformed'));
  renderResult(found);
}

function renderResult(found: Match): void {
  if (proofError !== undefined) return show('error', `Error: ${proofError}`);
  if (proof === undefined) return show('waiting', 'Waiting for a proof');
  if (genesis === undefined) {
    return show('waiting', 'Waiting for a genesis file', 'The proof is read; choose a genesis file.');
  }
  if (found === 'mismatch') return show('refused', 'Refused: the network digest does not match');
  if (found === 'malformed') return show('refused', 'Refused: the digest that you gave is not one');
  let verified: Verified;
  try {
    verified = verify(genesis, proof);
  } catch (error) {
    if (error instanceof Refused) return show('refused', `Refused: ${error.reason}`);
    // A fault of the verifier must not leave an older result on the page.
    return show('error', 'Error: the verifier failed');
  }
  // It may be true, and yet not what the link speaks of.
  if (wanted !== undefined && !equal(wanted, subjectOf(verified))) {
    return show('refused', 'Refused: the server sent the proof of something else');
  }
  const { sentence, limits, facts, steps } = report(verified);
  const unpinned =
    found === 'none' ? 'You have not yet compared the network digest above with one you know.' : '';
  show('verified', 'Verified', sentence, unpinned);
  limitsText.textContent = limits;
  stepList.replaceChildren(...steps.map((step) => withText('li', step)));
  factList.replaceChildren(...facts.map(factElement));
  details.hidden = false;
}

function show(state: State, verdict: string, sentence = '', warning = ''): void {
  document.body.dataset['state'] = state;
  verdictText.textContent = verdict;
  sentenceText.textContent = sentence;
  limitsText.textContent = '';
  warningText.textContent = warning;
  warningText.hidden = warning === '';
  details.hidden = true;
  stepList.replaceChildren();
  factList.replaceChildren();
}

function factElement({ name, value, mono }: Fact): HTMLElement {
  const row = document.createElement('div');
  const definition = withText('dd', value);
  if (mono === true) definition.className = 'mono';
  row.append(withText('dt', name), definition);
  return row;
}

function withText(tag: string, text: string): HTMLElement {
  const made = document.createElement(tag);
  made.textContent = text;
  return made;
}

/** Takes a genesis from a promise of its bytes, unless another was chosen meanwhile. */
async function takeGenesis(source: string, bytes: Promise<Uint8Array>): Promise<void> {
  genesisTurn += 1;
  const turn = genesisTurn;
  let note: string;
  let taken: Genesis | undefined;
  try {
    taken = genesisFromBytes(await bytes);
    note = `Network “${taken.name}” with ${taken.validators.length} first validators, from ${source}.`;
  } catch (error) {
    note = `No genesis from ${source}: ${messageOf(error)}. Choose a genesis file.`;
  }
  if (turn !== genesisTurn) return;
  genesis = taken;
  genesisNote.textContent = note;
  render();
}

/** Takes a proof from a promise of its bytes, unless another was chosen meanwhile. */
async function takeProof(
  source: string,
  bytes: Promise<Uint8Array>,
  subject?: Uint8Array,
): Promise<void> {
  proofTurn += 1;
  const turn = proofTurn;
  let taken: Uint8Array | undefined;
  let problem: string | undefined;
  try {
    taken = await bytes;
  } catch (error) {
    problem = messageOf(error);
  }
  if (turn !== proofTurn) return;
  proofNote.textContent = `The proof below: ${source}`;
  proof = taken;
  proofError = problem;
  wanted = subject;
  render();
}

/** What a proof speaks of: a transaction's id, or a key. */
function subjectOf(verified: Verified): Uint8Array {
  return verified.kind === 'transaction' ? verified.id : verified.claim.key;
}

function messageOf(error: unknown): string {
  if (error instanceof PageError || error instanceof GenesisError) return error.message;
  return 'it could not be read';
}

/** Reads a file; of one that is too long, only so much that it is refused for its length. */
async function readFile(file: File, bytesMax: number): Promise<Uint8Array> {
  return new Uint8Array(await file.slice(0, bytesMax + 1).arrayBuffer());
}

async function readGenesisFile(file: File): Promise<Uint8Array> {
  if (file.size > GENESIS_BYTES_MAX) throw new PageError('the file is too long');
  return readFile(file, GENESIS_BYTES_MAX);
}

/** Gets a path of this server and stops reading past the limit. */
async function get(path: string, bytesMax: number): Promise<Uint8Array> {
  const response = await fetch(path, {
    credentials: 'omit',
    mode: 'same-origin',
    redirect: 'error',
    cache: 'no-store',
  });
  if (!response.ok) throw new PageError(`the server answered ${response.status}`);
  if (response.body === null) return new Uint8Array(0);
  const body = response.body.getReader();
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let length = 0;
  for (;;) {
    const { done, value } = await body.read();
    if (done) break;
    parts.push(value);
    length += value.length;
    if (length > bytesMax) {
      await body.cancel();
      throw new PageError('the server’s answer is too long');
    }
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

/** The path that the address names as its proof: of this server and below /proof/ only. */
function takeAsked(path: string): Promise<void> {
  const isPath = path.startsWith('/proof/');
  const url = new URL(isPath ? path : '/', location.origin);
  if (url.origin !== location.origin || !url.pathname.startsWith('/proof/')) {
    const error = new PageError('the address names a proof outside /proof/');
    return takeProof('none', Promise.reject(error));
  }
  // As the server is asked, not as a link may spell it.
  const asked = url.pathname + url.search;
  const subject = fromHex(url.pathname.split('/').pop() ?? '', 32);
  return takeProof(asked, get(asked, PROOF_BYTES_MAX), subject);
}

/** A dropped file may be of either kind: a genesis is JSON, and a proof begins with byte 2. */
async function takeDropped(file: File): Promise<void> {
  const start = await file.slice(0, 64).text();
  if (start.trimStart().startsWith('{')) await takeGenesis('your file', readGenesisFile(file));
  else await takeProof(file.name, readFile(file, PROOF_BYTES_MAX));
}

genesisInput.addEventListener('change', () => {
  const file = genesisInput.files?.[0];
  if (file !== undefined) void takeGenesis('your file', readGenesisFile(file));
});

proofInput.addEventListener('change', () => {
  const file = proofInput.files?.[0];
  if (file !== undefined) void takeProof(file.name, readFile(file, PROOF_BYTES_MAX));
});

knownInput.addEventListener('input', render);

document.addEventListener('dragover', (event) => {
  event.preventDefault();
  document.body.classList.add('over');
});

document.addEventListener('dragleave', (event) => {
  // Only leaving the window has no element that is entered.
  if (event.relatedTarget === null) document.body.classList.remove('over');
});

document.addEventListener('drop', (event) => {
  event.preventDefault();
  document.body.classList.remove('over');
  for (const file of event.dataTransfer?.files ?? []) void takeDropped(file);
});

if (location.protocol === 'http:' || location.protocol === 'https:') {
  void takeGenesis('this server', get('/genesis', GENESIS_BYTES_MAX));
  const asked = new URLSearchParams(location.search).get('proof');
  if (asked !== null) void takeAsked(asked);
} else {
  genesisNote.textContent = 'This page was opened from a file: choose a genesis file.';
}

render();

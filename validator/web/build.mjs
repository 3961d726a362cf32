// Builds dist/: the page, the policy for its server, and the command line. The same sources give the same bytes.
//
//   node build.mjs           writes dist/
//   node build.mjs --check   compares dist/ with the sources; exits with 1 if they differ
//   node build.mjs --tests   bundles the tests for node

import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const ROOT = dirname(fileURLToPath(import.meta.url));
const DIST = join(ROOT, 'dist');
const TESTS = join(ROOT, 'node_modules', '.althing-tests');

/** The noble libraries ask that their notices stay with every copy. */
const NOTICES = [
  '/*! noble-curves - MIT License (c) 2022 Paul Miller (paulmillr.com) */',
  '/*! noble-hashes - MIT License (c) 2022 Paul Miller (paulmillr.com) */',
];

const OPTIONS = {
  absWorkingDir: ROOT,
  bundle: true,
  charset: 'utf8',
  legalComments: 'inline',
  logLevel: 'warning',
  target: 'es2022',
  write: false,
};

async function bundle(options) {
  const { outputFiles } = await build({ ...OPTIONS, ...options });
  return outputFiles[0].text;
}

/** Puts both notices and the license's text before a bundle. */
async function withNotices(code, first = '') {
  const license = await readFile(join(ROOT, 'node_modules/@noble/curves/LICENSE'), 'utf8');
  const notices = NOTICES.filter((notice) => !code.includes(notice));
  return `${first}${notices.map((notice) => `${notice}\n`).join('')}/*!\n${license.trim()}\n*/\n${code}`;
}

function policy(script, style) {
  const hash = (text) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
  return (
    `default-src 'none'; script-src ${hash(script)}; style-src ${hash(style)}; ` +
    `connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\n`
  );
}

async function outputs() {
  const script = await withNotices(
    await bundle({ entryPoints: ['src/page.ts'], format: 'iife', minify: true, platform: 'browser' }),
  );
  const style = await bundle({ entryPoints: ['src/page.css'], minify: true });
  if (/<\/script|<!--/i.test(script) || /<\/style/i.test(style)) {
    throw new Error('the bundle would end its own element');
  }
  const template = await readFile(join(ROOT, 'src/page.html'), 'utf8');
  // Functions, because a replacement text would read `$&` and the like as commands.
  const page = template
    .replace('/*style*/', () => style)
    .replace('/*script*/', () => script);
  const check = await bundle({
    entryPoints: ['src/main.ts'],
    format: 'esm',
    platform: 'node',
    target: 'node20',
  });
  return new Map([
    ['verify.html', page],
    ['verify.csp', policy(script, style)],
    ['check.mjs', await withNotices(check)],
  ]);
}

async function writeAll() {
  await mkdir(DIST, { recursive: true });
  for (const [name, text] of await outputs()) await writeFile(join(DIST, name), text);
}

async function compareAll() {
  for (const [name, text] of await outputs()) {
    const present = await readFile(join(DIST, name), 'utf8').catch(() => undefined);
    if (present === text) continue;
    console.error(`dist/${name} is not what the sources give; run npm run build`);
    process.exitCode = 1;
  }
}

async function writeTests() {
  await rm(TESTS, { recursive: true, force: true });
  const files = (await readdir(join(ROOT, 'test'))).filter((name) => name.endsWith('.test.ts'));
  await build({
    ...OPTIONS,
    entryPoints: files.map((name) => `test/${name}`),
    format: 'esm',
    outdir: TESTS,
    outExtension: { '.js': '.mjs' },
    platform: 'node',
    sourcemap: 'inline',
    target: 'node20',
    write: true,
  });
}

const MODES = new Map([
  [undefined, writeAll],
  ['--check', compareAll],
  ['--tests', writeTests],
]);
const mode = MODES.get(process.argv[2]);
if (mode === undefined) {
  console.error('usage: node build.mjs [--check | --tests]');
  process.exitCode = 2;
} else {
  await mode();
}

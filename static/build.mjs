/**
 * Builds the scripts into dist/: minified, ready-made brotli and gzip, and a description of all.
 *
 *     node build.mjs           writes, prints the sizes, fails above a limit
 *     node build.mjs --check   writes nothing; fails, and names the file, if dist/ is not what the
 *                              sources give
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { brotliCompressSync, brotliDecompressSync, constants, gunzipSync, gzipSync } from 'node:zlib';
import { buildSync } from 'esbuild';
import { minify_sync as squeeze } from 'terser';

/** Each file of dist/, its source, and how large it may be, in bytes of brotli. */
const SCRIPTS = [
  { name: 'collector.js', source: 'collector/collector.js', limit: 2500 },
  { name: 'collector.mjs', source: 'collector/module.js', limit: 2600, module: true },
  { name: 'adapters/datalayer.js', source: 'adapters/datalayer.js', limit: 830 },
  { name: 'adapters/voyado.js', source: 'adapters/voyado.js', limit: 325 },
  { name: 'adapters/dub.js', source: 'adapters/dub.js', limit: 345 },
];
/** All scripts together, for a shop that uses each: bytes of brotli. */
const TOGETHER_LIMIT = 4000;
/** Chrome 85, Firefox 79, Safari 14. */
const ECMA = 2021;
/** The order of short names that compresses the collector best: found by trial, any other works. */
const LETTERS = 'dbfxlzgysnvtSmTjVqirYCWcLkBRPpuIUJEHhoAFDeNXQK_$OMwaGZ';
const root = new URL('.', import.meta.url);
const dist = new URL('dist/', root);

/** @returns {string} the nth short name; terser knows which are reserved */
function shortName(n) {
  const rest = Math.floor(n / LETTERS.length);
  return (rest ? shortName(rest - 1) : '') + LETTERS[n % LETTERS.length];
}

/** @returns {Buffer} the minified script */
function minify({ source, module = false }) {
  const built = buildSync({
    absWorkingDir: root.pathname,
    entryPoints: [source],
    bundle: true,
    minifySyntax: true,
    minifyWhitespace: true,
    format: module ? 'esm' : 'iife',
    target: `es${ECMA}`,
    charset: 'utf8',
    tsconfigRaw: '{}',
    write: false,
  });
  const nth_identifier = { get: shortName, consider() {}, reset() {}, sort() {} };
  const ordered = source.startsWith('collector/');
  const { code } = squeeze(built.outputFiles[0].text, {
    module,
    ecma: ECMA,
    // A script's names stay in its function: at top level they would be the page's.
    toplevel: module,
    compress: { passes: 3, join_vars: false, unsafe: true, unsafe_arrows: true },
    mangle: ordered ? { nth_identifier } : true,
  });
  // All of them are arrays', and `map` is there anyway.
  return Buffer.from(code.replaceAll('.forEach(', '.map('));
}

/** The description that the gateway serves the script by. */
function describe({ script, br, gz }) {
  const digest = (algorithm, form) => createHash(algorithm).update(script).digest(form);
  return {
    hash: digest('sha256', 'hex').slice(0, 12),
    integrity: `sha384-${digest('sha384', 'base64')}`,
    sizes: { js: script.length, gz: gz.length, br: br.length },
  };
}

function build(which) {
  const script = minify(which);
  const br = brotliCompressSync(script, {
    params: {
      [constants.BROTLI_PARAM_QUALITY]: 11,
      [constants.BROTLI_PARAM_SIZE_HINT]: script.length,
    },
  });
  // Node writes no time stamp and no name.
  const gz = gzipSync(script, { level: 9 });
  return { ...which, script, br, gz };
}

function fail(message) {
  console.error(message);
  process.exitCode = 1;
}

const read = (name) => readFileSync(new URL(name, dist));
const asText = (description) => `${JSON.stringify(description, null, 2)}\n`;

/**
 * Compressed files are judged by what they hold, for another release of Node may compress to other
 * bytes; so the sizes that the description states are those of the files that are there.
 */
function check(all) {
  const judge = (name, same) => {
    let good = false;
    try {
      good = same();
    } catch (error) {
      console.error(`dist/${name}: ${error.message}`);
    }
    if (!good) fail(`dist/${name} is not what its source gives: run node build.mjs`);
  };
  for (const { name, script } of all) {
    judge(name, () => read(name).equals(script));
    judge(`${name}.br`, () => brotliDecompressSync(read(`${name}.br`)).equals(script));
    judge(`${name}.gz`, () => gunzipSync(read(`${name}.gz`)).equals(script));
  }
  judge('collector.json', () => {
    const there = all.map(({ name, script }) => [
      name,
      describe({ script, br: read(`${name}.br`), gz: read(`${name}.gz`) }),
    ]);
    return read('collector.json').toString() === asText(Object.fromEntries(there));
  });
}

function write(all) {
  mkdirSync(new URL('adapters', dist), { recursive: true });
  const put = (name, content) => writeFileSync(new URL(name, dist), content);
  for (const { name, script, br, gz } of all) {
    put(name, script);
    put(`${name}.br`, br);
    put(`${name}.gz`, gz);
  }
  const described = all.map((each) => [each.name, describe(each)]);
  put('collector.json', asText(Object.fromEntries(described)));
}

const all = SCRIPTS.map(build);
if (process.argv.includes('--check')) check(all);
else write(all);
for (const { name, script, br, gz, limit } of all) {
  console.log(`${name}: ${script.length} B, gzip ${gz.length} B, brotli ${br.length} of ${limit} B`);
  if (br.length > limit) fail(`${name}: brotli is over the limit of ${limit} B`);
}
// The module is the script once more.
const together = all.filter(({ module }) => !module).reduce((sum, { br }) => sum + br.length, 0);
console.log(`collector and adapters together: brotli ${together} of ${TOGETHER_LIMIT} B`);
if (together > TOGETHER_LIMIT) fail(`together: brotli is over the limit of ${TOGETHER_LIMIT} B`);

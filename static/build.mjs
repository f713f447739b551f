/**
 * Builds the collector into dist/: minified, ready-made brotli and gzip, and a description.
 *
 *     node build.mjs           writes, prints the sizes, fails above the limit
 *     node build.mjs --check   writes nothing; fails, and names the file, if dist/ is not what the
 *                              source gives
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { brotliCompressSync, brotliDecompressSync, constants, gunzipSync, gzipSync } from 'node:zlib';
import { buildSync } from 'esbuild';
import { minify_sync as squeeze } from 'terser';

const LIMIT_BYTES = 2500;
const root = new URL('.', import.meta.url);
const dist = new URL('dist/', root);

/** @returns {Buffer} the minified script */
function minify() {
  const built = buildSync({
    absWorkingDir: root.pathname,
    entryPoints: ['collector/collector.js'],
    bundle: true,
    minify: true,
    format: 'iife',
    target: 'es2019',
    charset: 'utf8',
    tsconfigRaw: '{}',
    write: false,
  });
  // A second pass by terser, whose names and order of declarations compress better: 3 % less.
  const options = { ecma: 2019, compress: { join_vars: false } };
  return Buffer.from(squeeze(built.outputFiles[0].text, options).code);
}

/** The description that the gateway serves the script by. */
function describe(script, br, gz) {
  const digest = (algorithm, form) => createHash(algorithm).update(script).digest(form);
  const description = {
    hash: digest('sha256', 'hex').slice(0, 12),
    integrity: `sha384-${digest('sha384', 'base64')}`,
    sizes: { js: script.length, gz: gz.length, br: br.length },
  };
  return `${JSON.stringify(description, null, 2)}\n`;
}

function build() {
  const script = minify();
  const br = brotliCompressSync(script, {
    params: {
      [constants.BROTLI_PARAM_QUALITY]: 11,
      [constants.BROTLI_PARAM_SIZE_HINT]: script.length,
    },
  });
  // Node writes no time stamp and no name.
  const gz = gzipSync(script, { level: 9 });
  return { script, br, gz };
}

function fail(message) {
  console.error(message);
  process.exitCode = 1;
}

/**
 * Compressed files are judged by what they hold, for another release of Node may compress to other
 * bytes; so the sizes that the description states are those of the files that are there.
 */
function check(script) {
  const read = (name) => readFileSync(new URL(name, dist));
  const judge = (name, same) => {
    let good = false;
    try {
      good = same();
    } catch (error) {
      console.error(`dist/${name}: ${error.message}`);
    }
    if (!good) fail(`dist/${name} is not what collector/collector.js gives: run node build.mjs`);
  };
  judge('collector.js', () => read('collector.js').equals(script));
  judge('collector.js.br', () => brotliDecompressSync(read('collector.js.br')).equals(script));
  judge('collector.js.gz', () => gunzipSync(read('collector.js.gz')).equals(script));
  judge('collector.json', () => {
    const expected = describe(script, read('collector.js.br'), read('collector.js.gz'));
    return read('collector.json').toString() === expected;
  });
}

const { script, br, gz } = build();
if (process.argv.includes('--check')) {
  check(script);
} else {
  mkdirSync(dist, { recursive: true });
  const write = (name, content) => writeFileSync(new URL(name, dist), content);
  write('collector.js', script);
  write('collector.js.br', br);
  write('collector.js.gz', gz);
  write('collector.json', describe(script, br, gz));
}
console.log(`collector.js: ${script.length} B, gzip ${gz.length} B, brotli ${br.length} B`);
if (br.length > LIMIT_BYTES) fail(`brotli is over the limit of ${LIMIT_BYTES} B`);

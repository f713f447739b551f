/**
 * Builds the collector and the adapters into dist/: each minified, with ready-made brotli and gzip,
 * and a description.
 *
 *     node build.mjs           writes, prints the sizes, fails above a limit
 *     node build.mjs --check   writes nothing; fails, and names the file, if dist/ is not what the
 *                              source gives
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { brotliCompressSync, brotliDecompressSync, constants, gunzipSync, gzipSync } from 'node:zlib';
import { buildSync } from 'esbuild';
import { minify_sync as squeeze } from 'terser';

/** By brotli. */
const CORE_LIMIT_BYTES = 2500;
const TOGETHER_LIMIT_BYTES = 4000;
const CORE = 'collector';
const SCRIPTS = {
  [CORE]: 'collector/collector.js',
  'adapters/datalayer': 'adapters/datalayer.js',
  'adapters/voyado': 'adapters/voyado.js',
  'adapters/dub': 'adapters/dub.js',
};
const root = new URL('.', import.meta.url);
const dist = new URL('dist/', root);

/**
 * @param {string} source its path
 * @returns {Buffer} the minified script
 */
function minify(source) {
  const built = buildSync({
    absWorkingDir: root.pathname,
    entryPoints: [source],
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

/** @param {string} source its path */
function build(source) {
  const script = minify(source);
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
function check(name, script) {
  const read = (suffix) => readFileSync(new URL(name + suffix, dist));
  const judge = (suffix, same) => {
    let good = false;
    try {
      good = same();
    } catch (error) {
      console.error(`dist/${name}${suffix}: ${error.message}`);
    }
    if (!good) fail(`dist/${name}${suffix} is not what ${SCRIPTS[name]} gives: run node build.mjs`);
  };
  judge('.js', () => read('.js').equals(script));
  judge('.js.br', () => brotliDecompressSync(read('.js.br')).equals(script));
  judge('.js.gz', () => gunzipSync(read('.js.gz')).equals(script));
  judge('.json', () => {
    const expected = describe(script, read('.js.br'), read('.js.gz'));
    return read('.json').toString() === expected;
  });
}

function write(name, { script, br, gz }) {
  const put = (suffix, content) => writeFileSync(new URL(name + suffix, dist), content);
  mkdirSync(new URL('.', new URL(name, dist)), { recursive: true });
  put('.js', script);
  put('.js.br', br);
  put('.js.gz', gz);
  put('.json', describe(script, br, gz));
}

let together = 0;
for (const [name, source] of Object.entries(SCRIPTS)) {
  const built = build(source);
  const { script, br, gz } = built;
  if (process.argv.includes('--check')) check(name, script);
  else write(name, built);
  console.log(`${name}.js: ${script.length} B, gzip ${gz.length} B, brotli ${br.length} B`);
  together += br.length;
  if (name === CORE && br.length > CORE_LIMIT_BYTES)
    fail(`brotli is over the limit of ${CORE_LIMIT_BYTES} B`);
}
console.log(`together: brotli ${together} B`);
if (together > TOGETHER_LIMIT_BYTES)
  fail(`core and adapters together are over the limit of ${TOGETHER_LIMIT_BYTES} B`);

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { createContext, runInContext } from 'node:vm';

/** What each built script adds to the page's global object, and nothing else. */
const OWN = {
  'collector.js': [],
  'adapters/datalayer.js': ['dataLayer'],
  'adapters/voyado.js': ['va'],
  'adapters/dub.js': ['dubAnalytics'],
};

for (const [name, own] of Object.entries(OWN))
  test(`${name} as built leaves the page's own names alone`, () => {
    const page = createContext({ document: {} });
    runInContext(readFileSync(new URL(`../dist/${name}`, import.meta.url), 'utf8'), page);
    assert.deepEqual(Object.keys(page).sort(), ['document', ...own].sort());
  });

/** The ES module, where there is no document. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gateway, start } from '../dist/collector.mjs';
import { Gateway } from './page.mjs';

test('the module works without a document, and keeps calls from before its start', async () => {
  globalThis.navigator ??= {};
  const there = await new Gateway().start();
  const early = gateway('product', { itemId: 'A' });
  start({
    key: 'pk_shop',
    endpoint: `${there.url}/v1/events`,
    consent: 'full',
    url: 'https://shop.example/?dub_id=k',
    language: 'sv-SE',
  });
  assert.equal((await early).outcome, 'accepted');
  const [page, product] = there.events;
  assert.deepEqual([page.type, page.url, page.language], ['page', 'https://shop.example/', 'sv-SE']);
  assert.deepEqual([product.clickId, product.url], ['k', 'https://shop.example/']);
  assert.equal((await gateway('ids')).clickId, 'k');
  there.stop();
});

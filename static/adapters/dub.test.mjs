import assert from 'node:assert/strict';
import { test } from 'node:test';
import { explained, loaded } from './test/loaded.mjs';

test('a lead and a sale are told in the collector\'s words', async () => {
  const { calls } = await loaded('dub');
  dubAnalytics.trackLead({
    clickId: 'k1', eventName: 'Sign up', customerExternalId: 'u-1', customerName: 'Anna',
    customerEmail: 'anna@example.com', customerAvatar: null, mode: 'wait', eventQuantity: 2,
    metadata: { plan: 'pro' },
  });
  dubAnalytics.trackSale({
    customerExternalId: 'u-1', amount: 4990, currency: 'sek', eventName: 'Purchase', invoiceId: 'o-77',
    leadEventName: 'Sign up', paymentProcessor: 'stripe', metadata: { sku: 'S-1' },
  });
  assert.deepEqual(calls, [
    ['lead', {
      clickId: 'k1', eventName: 'Sign up', customerId: 'u-1', customerName: 'Anna',
      customerEmail: 'anna@example.com', mode: 'wait', eventQuantity: 2, metadata: { plan: 'pro' },
    }],
    ['sale', {
      customerId: 'u-1', amount: 4990, currency: 'sek', eventName: 'Purchase', invoiceId: 'o-77',
      leadEventName: 'Sign up', paymentProcessor: 'stripe', metadata: { sku: 'S-1' },
    }],
  ]);
});

test('Dub\'s default currency, its old names of the customer, and an amount of nothing', async () => {
  const { calls } = await loaded('dub');
  dubAnalytics.trackSale({ externalId: 'u-1', amount: 0, currency: null });
  dubAnalytics.trackSale({ customerId: 'u-2', customerExternalId: '', amount: 1 });
  assert.deepEqual(calls, [
    ['sale', { customerId: 'u-1', amount: 0, currency: 'usd' }],
    ['sale', { customerId: 'u-2', amount: 1, currency: 'usd' }],
  ]);
});

test('an empty click id leaves the collector\'s, and what Dub ignores is not sent', async () => {
  let fields;
  await loaded('dub', { gateway: (_, said) => (fields = said) });
  dubAnalytics.trackLead({ clickId: '', eventName: 'Sign up', customerExternalId: 'u-1', currency: 'sek', x: 1 });
  assert.deepEqual(Object.keys(fields).sort(), ['customerId', 'eventName']);
  dubAnalytics.trackLead({ eventName: 'Sign up' });
  assert.deepEqual(Object.keys(fields), ['eventName']);
});

test('calls from before the load come first, in either form', async () => {
  // As Dub's own lines make it.
  const stub = function () {
    (stub.q = stub.q || []).push(arguments);
  };
  for (const name of ['trackClick', 'trackLead', 'trackSale']) stub[name] = (...said) => stub(name, ...said);
  let ready = 0;
  stub('ready', () => ready++);
  stub.trackLead({ eventName: 'A', customerExternalId: 'u-1' });
  await explained(async () => {
    const { calls } = await loaded('dub', { dubAnalytics: stub });
    dubAnalytics('trackLead', { eventName: 'B', customerExternalId: 'u-1' });
    dubAnalytics.trackLead({ eventName: 'C', customerExternalId: 'u-1' });
    assert.deepEqual(calls.map(([, { eventName }]) => eventName), ['A', 'B', 'C']);
    assert.equal(ready, 1);
  });
});

test('rubbish never throws into the page', async () => {
  await explained(async () => {
    for (const stub of [5, {}, { q: 5 }, { q: [null, 5] }]) await loaded('dub', { dubAnalytics: stub });
    const { calls } = await loaded('dub');
    dubAnalytics();
    dubAnalytics('ready');
    dubAnalytics.trackClick({ domain: 'go.example', key: 'a' });
    dubAnalytics.trackLead();
    dubAnalytics.trackSale(null);
    assert.deepEqual(calls, []);
    delete globalThis.gateway;
    dubAnalytics.trackLead({ eventName: 'A', customerExternalId: 'u-1' });
  });
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { explained, loaded } from './test/loaded.mjs';

const cart = {
  cartRef: 1001,
  cartUrl: 'https://shop.example/cart',
  locale: 'sv-SE',
  items: [{ itemId: 90183744, quantity: '2' }],
};

test('each command is told in the collector\'s words', async () => {
  const { calls } = await loaded('voyado');
  va('setTenant', 'shop');
  va('productview', { categoryName: 'Shoes > Running', itemId: 'S-1', locale: 'sv-SE' });
  va('setContactId', '0f0e0d0c');
  va('cart', cart);
  va('emptyCart', { cartRef: 1001, items: [{ itemId: 'X', quantity: 1 }] });
  assert.deepEqual(calls, [
    ['product', { itemId: 'S-1', category: 'Shoes > Running', language: 'sv-SE' }],
    ['identify', { contactId: '0f0e0d0c' }],
    ['cart', {
      cartReference: '1001', url: 'https://shop.example/cart', language: 'sv-SE',
      items: [{ sku: '90183744', quantity: 2 }],
    }],
    ['cart', { cartReference: '1001', items: [] }],
  ]);
});

test('a contact named in an event is remembered first', async () => {
  const { calls } = await loaded('voyado');
  va('cart', { ...cart, contactId: 'k-1' });
  va('setContactId', { id: 'k-2' });
  assert.deepEqual(calls.map(([command]) => command), ['identify', 'cart', 'identify']);
  assert.deepEqual(calls[0][1], { contactId: 'k-1' });
  assert.deepEqual(calls[2][1], { contactId: 'k-2' });
  assert.ok(!('contactId' in calls[1][1]));
});

test('a language that is not said is left to the collector', async () => {
  let fields;
  await loaded('voyado', { gateway: (_, said) => (fields = said) });
  va('productview', { itemId: 'S-1' });
  assert.ok(!('language' in fields));
});

test('no contact is made of the word for none', async () => {
  const { calls } = await loaded('voyado');
  await explained(() => {
    for (const id of ['undefined', 'null', '', null, undefined]) va('setContactId', id);
    va('productview', { itemId: 'S-1', contactId: 'undefined' });
  });
  assert.deepEqual(calls.map(([command]) => command), ['product']);
});

test('calls from before the load come first, also under the name that the shop chose', async () => {
  for (const name of ['va', 'engage']) {
    const stub = (...call) => stub.q.push(call);
    stub.q = [];
    stub('setTenant', 'shop');
    (function () {
      stub.q.push(arguments);
    })('setContactId', 'k-1');
    const { calls } = await loaded('voyado', { VoyadoAnalyticsObject: name, [name]: stub });
    globalThis[name]('setContactId', 'k-2');
    assert.deepEqual(calls, [
      ['identify', { contactId: 'k-1' }],
      ['identify', { contactId: 'k-2' }],
    ]);
    delete globalThis[name];
  }
});

test('rubbish never throws into the page', async () => {
  const lines = await explained(async () => {
    for (const stub of [5, {}, { q: 5 }, { q: [null, 5] }]) await loaded('voyado', { va: stub });
    const { calls } = await loaded('voyado');
    va();
    va('cart');
    va('cart', { cartRef: 1 });
    va('cart', { cartRef: 1, items: [null] });
    va({}, {});
    assert.deepEqual(calls, []);
    delete globalThis.gateway;
    va('setContactId', 'k-1');
  });
  assert.ok(lines.length >= 5);
});

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { explained, loaded } from './test/loaded.mjs';

const DIGITS = {
  BIF: 0, CLP: 0, DJF: 0, GNF: 0, ISK: 0, JPY: 0, KMF: 0, KRW: 0, PYG: 0, RWF: 0, UGX: 0, UYI: 0,
  VND: 0, VUV: 0, XAF: 0, XOF: 0, XPF: 0, BHD: 3, IQD: 3, JOD: 3, KWD: 3, LYD: 3, OMR: 3, TND: 3,
  CLF: 4, UYW: 4,
};
const shirt = { item_id: 'S-1', item_name: 'Shirt', price: 9.95, quantity: 2 };
const hat = { item_id: 'H-1', item_name: 'Hat' };

/** What a page that pushes these one after the other tells the collector. */
async function told(pushes, options = {}, cart = undefined) {
  const { calls } = await loaded('datalayer', {}, options, cart);
  globalThis.dataLayer.push(...pushes);
  return calls;
}

/** As gtag(…) pushes. */
function gtag() {
  return arguments;
}

test('an amount in any ISO 4217 currency is its minor units, exactly', async () => {
  const { minor } = await loaded('datalayer');
  assert.equal(minor(4.35, 'EUR'), 435);
  assert.equal(minor(1.1, 'eur'), 110);
  assert.equal(minor('4990', 'JPY'), 4990);
  assert.equal(minor(1.234, 'KWD'), 1234);
  const currencies = new Set([...Intl.supportedValuesOf('currency'), ...Object.keys(DIGITS)]);
  assert.ok(currencies.size > 150);
  let seed = 1;
  const random = () => (seed = (seed * 48271) % 2147483647) / 2147483647;
  for (const currency of currencies) {
    const digits = DIGITS[currency] ?? 2;
    for (let i = 0; i < 300; i++) {
      const units = Math.floor(10 ** (random() * 12));
      const padded = String(units).padStart(digits + 1, '0');
      const whole = padded.slice(0, padded.length - digits);
      const decimal = digits ? `${whole}.${padded.slice(-digits)}` : whole;
      assert.equal(minor(decimal, currency), units, `${decimal} ${currency}`);
      assert.equal(minor(Number(decimal), currency), units, `${Number(decimal)} ${currency}`);
      assert.equal(minor(decimal, currency.toLowerCase()), units);
    }
  }
});

test('what is finer than the minor unit is rounded, half a unit up, whatever binary makes of it', async () => {
  const { minor } = await loaded('datalayer');
  assert.equal(minor(1.005, 'EUR'), 101);
  assert.equal(minor(1.0049, 'EUR'), 100);
  assert.equal(minor(0.1 + 0.2, 'EUR'), 30);
  assert.equal(minor(0.3 - 0.1 * 3, 'EUR') + 0, 0);
  assert.equal(minor(1e-7, 'EUR'), 0);
  assert.equal(minor(99.5, 'JPY'), 100);
});

test('no amount is made up of what is no number, or has no currency', async () => {
  const { minor } = await loaded('datalayer');
  for (const value of [undefined, null, '', 'free', '4,35', '1 000', {}, [], NaN, true])
    assert.ok(Number.isNaN(minor(value, 'EUR')), String(value));
  for (const currency of [undefined, null, '']) assert.ok(Number.isNaN(minor(4.35, currency)));
});

test('a product seen is a product event, with its categories as a path', async () => {
  const item = { ...shirt, item_category: 'Clothes', item_category2: 'Shirts', item_category4: '' };
  assert.deepEqual(await told([{ event: 'view_item', ecommerce: { items: [item, hat] } }]), [
    ['product', { itemId: 'S-1', category: 'Clothes > Shirts' }],
    ['product', { itemId: 'H-1', category: '' }],
  ]);
});

test('the cart is kept from what is added and removed', async () => {
  const calls = await told([
    { event: 'add_to_cart', ecommerce: { items: [shirt] } },
    { event: 'add_to_cart', ecommerce: { items: [hat, { ...shirt, quantity: '3' }] } },
    { ecommerce: null },
    { event: 'remove_from_cart', ecommerce: { items: [{ ...shirt, quantity: 4 }] } },
    { event: 'remove_from_cart', ecommerce: { items: [{ ...shirt, quantity: 9 }, hat] } },
  ]);
  assert.deepEqual(calls.map(([, { items }]) => items), [
    [{ sku: 'S-1', quantity: 2 }],
    [{ sku: 'S-1', quantity: 5 }, { sku: 'H-1', quantity: 1 }],
    [{ sku: 'S-1', quantity: 1 }, { sku: 'H-1', quantity: 1 }],
    [],
  ]);
  assert.deepEqual(new Set(calls.map(([command]) => command)), new Set(['cart']));
  assert.equal(new Set(calls.map(([, { cartReference }]) => cartReference)).size, 1);
});

test('whatever is added and removed, the cart is the sum of it and never refused', async () => {
  let seed = 7;
  const random = (below) => (seed = (seed * 48271) % 2147483647) % below;
  const rubbish = [undefined, null, 'many', -1, 1.5, NaN, {}, '2', 0];
  const { change } = await loaded('datalayer');
  for (let round = 0; round < 300; round++) {
    let items = [];
    const sums = {};
    for (let step = 0; step < 20; step++) {
      const sku = `S-${random(4)}`;
      const quantity = random(3) ? random(4) + 1 : rubbish[random(rubbish.length)];
      const sign = random(2) ? 1 : -1;
      const before = structuredClone(items);
      const now = change(items, [{ item_id: sku, quantity }], sign);
      assert.deepEqual(items, before, 'what the collector keeps is not touched');
      const counted = quantity === undefined ? 1 : quantity | 0;
      sums[sku] = Math.max(0, (sums[sku] || 0) + sign * counted);
      items = now;
    }
    assert.deepEqual(
      Object.fromEntries(items.map(({ sku, quantity }) => [sku, quantity])),
      Object.fromEntries(Object.entries(sums).filter(([, sum]) => sum)),
    );
    for (const { quantity } of items) assert.ok(Number.isInteger(quantity) && quantity > 0);
  }
});

test('an item without an id changes nothing; one with only a name goes by that', async () => {
  const { change } = await loaded('datalayer');
  assert.deepEqual(change([], [{ quantity: 2 }, { item_id: 'undefined' }], 1), []);
  assert.deepEqual(change([], [{ item_name: 'Hat' }], 1), [{ sku: 'Hat', quantity: 1 }]);
  assert.deepEqual(change([], [{ item_id: 77 }], 1), [{ sku: '77', quantity: 1 }]);
});

test('a cart that is shown replaces what was kept', async () => {
  const kept = { cartReference: 'c-1', items: [{ sku: 'OLD', quantity: 9 }] };
  const calls = await told([{ event: 'view_cart', ecommerce: { items: [shirt] } }], {}, kept);
  assert.deepEqual(calls, [['cart', { cartReference: 'c-1', items: [{ sku: 'S-1', quantity: 2 }] }]]);
});

test('a cart that never was is not emptied', async () => {
  const lines = await explained(async () => {
    for (const event of ['remove_from_cart', 'view_cart'])
      assert.deepEqual(await told([{ event, ecommerce: { items: [] } }], {}, null), []);
  });
  assert.equal(lines.length, 2);
});

test('a purchase is a sale of the cart in minor units', async () => {
  const kept = { cartReference: 'c-1', items: [{ sku: 'S-1', quantity: 2 }] };
  const ecommerce = {
    transaction_id: 77, value: 4.35, tax: 0.87, shipping: 0, coupon: 'MAY', currency: 'EUR',
    items: [shirt],
  };
  assert.deepEqual(await told([{ event: 'purchase', ecommerce }], {}, kept), [
    ['sale', {
      amount: 435, currency: 'EUR', invoiceId: '77', cartReference: 'c-1',
      metadata: { tax: 0.87, shipping: 0, coupon: 'MAY' },
    }],
  ]);
});

test('a purchase takes the tag\'s currency where it names none; without either it has no amount', async () => {
  const push = { event: 'purchase', value: '1000', transaction_id: 'o-1' };
  const [[, fields]] = await told([push], { currency: 'JPY' });
  assert.deepEqual([fields.amount, fields.currency], [1000, 'JPY']);
  const [[, without]] = await told([push]);
  assert.deepEqual([without.amount, without.currency], [null, undefined]);
});

test('a lead and a sign-up are leads, of the customer who is named', async () => {
  assert.deepEqual(
    await told([
      { event: 'sign_up', method: 'Google', user_id: 'u-1' },
      { event: 'generate_lead', currency: 'EUR', value: 5 },
      { user_id: null },
      { user_id: 'undefined' },
    ]),
    [
      ['identify', { customerId: 'u-1' }],
      ['lead', { eventName: 'sign_up' }],
      ['lead', { eventName: 'generate_lead' }],
      ['identify', { customerId: null }],
      ['identify', { customerId: null }],
    ],
  );
});

test('gtag(…) does the same', async () => {
  assert.deepEqual(
    await told([
      gtag('js', new Date()),
      gtag('consent', 'update', { analytics_storage: 'granted' }),
      gtag('config', 'G-1', { user_id: 'u-1' }),
      gtag('set', { user_id: 'u-2' }),
      gtag('event', 'view_item', { items: [hat] }),
      gtag('event', 'purchase', { currency: 'KWD', value: 1.5, transaction_id: 'o-1', items: [hat] }),
    ]),
    [
      ['identify', { customerId: 'u-1' }],
      ['identify', { customerId: 'u-2' }],
      ['product', { itemId: 'H-1', category: '' }],
      ['sale', { amount: 1500, currency: 'KWD', invoiceId: 'o-1', metadata: {} }],
    ],
  );
});

test('the tag\'s options: another name, another field for the id, the link back to the cart', async () => {
  const options = { layer: 'shopLayer', sku: 'item_variant', cartUrl: 'https://shop.example/cart' };
  const shopLayer = [{ event: 'add_to_cart', ecommerce: { items: [{ ...hat, item_variant: 'H-1-L' }] } }];
  const { calls } = await loaded('datalayer', { shopLayer }, options);
  assert.equal(calls.length, 1);
  const [[, { url, items }]] = calls;
  assert.equal(url, 'https://shop.example/cart');
  assert.deepEqual(items, [{ sku: 'H-1-L', quantity: 1 }]);
});

test('what was pushed before comes first, once, and the page\'s own push still does its part', async () => {
  const seen = [];
  const dataLayer = [{ event: 'sign_up' }];
  const { push } = dataLayer;
  dataLayer.push = (...pushed) => {
    seen.push(...pushed);
    return push.apply(dataLayer, pushed);
  };
  const { calls } = await loaded('datalayer', { dataLayer });
  await import('./datalayer.js?again');
  assert.equal(dataLayer.push({ event: 'generate_lead' }, { event: 'scroll' }), 3);
  assert.deepEqual(calls.map(([, { eventName }]) => eventName), ['sign_up', 'generate_lead']);
  assert.deepEqual(seen, [{ event: 'generate_lead' }, { event: 'scroll' }]);
});

test('rubbish never throws into the page, and costs only itself', async () => {
  const hostile = {
    get ecommerce() {
      throw Error('mine');
    },
  };
  const rubbish = [
    null, undefined, 0, '', 'text', [], [null], () => 1, hostile, Object.create(null),
    { event: 'view_item' }, { event: 'view_item', ecommerce: { items: [null] } },
    { event: 'add_to_cart' }, { event: 'add_to_cart', ecommerce: { items: 'x' } },
    { event: 'view_cart', ecommerce: { items: {} } }, { event: { toString: 1 } },
    { event: 'add_to_cart', ecommerce: { items: [null] } },
  ];
  await explained(async () => {
    const calls = await told([...rubbish, { event: 'sign_up' }]);
    assert.deepEqual(calls, [['lead', { eventName: 'sign_up' }]]);
    for (const dataLayer of [5, 'x', {}, Object.freeze([]), { push: null }]) await loaded('datalayer', { dataLayer });
    await loaded('datalayer');
    delete globalThis.gateway;
    globalThis.dataLayer.push({ event: 'sign_up' });
  });
});

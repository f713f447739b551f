import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addToBatches, clean, landing, left, retryDelay, uuid } from './collector.js';

test('ids are UUIDv7, distinct, and sort by their time', () => {
  const now = Date.UTC(2026, 10, 21, 9, 14, 58, 31);
  const ids = [now, now + 1, now + 86_400_000].map(uuid);
  for (const id of ids) assert.match(id, /^0[\da-f]{7}-[\da-f]{4}-7[\da-f]{3}-8[\da-f]{3}-[\da-f]{12}$/);
  assert.equal(parseInt(ids[0].replace('-', '').slice(0, 12), 16), now);
  assert.deepEqual([...ids].sort(), ids);
  assert.equal(new Set(Array.from({ length: 10_000 }, () => uuid(now))).size, 10_000);
});

test('an address loses what identifies a person or a click, and its fragment', () => {
  const address = 'https://shop.example/p/1?VTID=c&colour=blue&dub_id=k&gclid=g&fbclid=f&mail_ref=m#x';
  assert.equal(clean(address), 'https://shop.example/p/1?colour=blue');
});

test('an address without such parameters stays as it is', () => {
  const address = 'https://shop.example/s%C3%B6k?q=a%20b&utm_source=mail&constructor=1';
  assert.equal(clean(address), address);
});

test('an address is never longer than the gateway takes', () => {
  assert.equal(clean(`https://shop.example/?q=${'x'.repeat(5000)}`).length, 2048);
});

test('a landing link fills the context', () => {
  const search =
    '?dub_id=k1&vtid=c1&eClub=e1&mail_ref=m1&gclid=g1&utm_source=mail&utm_campaign=h%C3%B6st&q=1';
  assert.deepEqual(landing(search), {
    clickId: 'k1',
    contactId: 'c1',
    eclub: 'e1',
    mailReference: 'm1',
    adClickIds: { gclid: 'g1' },
    utm: { utm_source: 'mail', utm_campaign: 'höst' },
  });
});

test('a hostile landing link fills nothing that the gateway would refuse', () => {
  const long = 'x'.repeat(2000);
  const names = Array.from({ length: 30 }, (_, i) => `utm_a${i}=1&a${i}clid=1`).join('&');
  const found = landing(
    `?vtid=${long}&dub_id=&eclub=${long}&utm_source=${long}&utm_${long}=1&__proto__=1&toString=1&${names}`,
  );
  assert.deepEqual(Object.keys(found).sort(), ['adClickIds', 'utm']);
  assert.equal(Object.keys(found.utm).length, 10);
  assert.equal(Object.keys(found.adClickIds).length, 10);
  for (const value of Object.values(found.utm)) assert.equal(value, '1');
});

test('retries wait longer and longer, but neither for ever nor less than the gateway asked', () => {
  assert.equal(retryDelay(0, 0, 0), 1000);
  assert.equal(retryDelay(3, 0, 0), 8000);
  assert.equal(retryDelay(3, 0, 1), 12_000);
  assert.equal(retryDelay(1000, 0, 0), 256_000);
  assert.equal(retryDelay(0, 30, 0), 30_000);
  assert.equal(retryDelay(0, 1e9, 1), 1_800_000);
});

test('the longest wait is obeyed, what a clock set back makes longer is not', () => {
  const now = Date.now();
  assert.equal(left(now + retryDelay(0, 1e9, 1), now), 1_800_000);
  assert.equal(left(now + 1_800_001, now), 0);
  assert.equal(left(now - 1, now), 0);
  assert.equal(left(NaN, now), 0);
});

const batchesOf = (entries) => {
  const batches = [];
  entries.forEach((entry, i) => addToBatches(batches, `n${i}`, entry));
  return batches;
};

test('events of one context go together, in their order; another context begins a new request', () => {
  const a = { url: 'https://shop.example/a' };
  const b = { url: 'https://shop.example/b' };
  const batches = batchesOf([
    [0, a, { id: '1' }],
    [0, { ...a }, { id: '2' }],
    [0, b, { id: '3' }],
  ]);
  assert.deepEqual(
    batches.map(({ context, names, events }) => [context, names, events.map(({ id }) => id)]),
    [
      [a, ['n0', 'n1'], ['1', '2']],
      [b, ['n2'], ['3']],
    ],
  );
});

test('the events of a request stay within 48 kB, counted in bytes, however many there are', () => {
  const entries = Array.from({ length: 500 }, (_, i) => [0, {}, { id: `${i}`, title: 'å'.repeat(200) }]);
  const batches = batchesOf(entries);
  assert.equal(batches.flatMap(({ events }) => events).length, 500);
  for (const { events } of batches) assert.ok(Buffer.byteLength(JSON.stringify(events)) <= 48_002);
  assert.ok(batches.length < 8);
});

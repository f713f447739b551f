import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cut, dissect, left, retryDelay, uuid } from './collector.js';

const PARAMETERS = { __proto__: null, vtid: 'contactId', eclub: 'eclub', dub_id: 'clickId', mail_ref: 'mailReference' };
const clean = (address) => dissect(address, PARAMETERS)[0];
const landing = (search) => dissect(`https://shop.example/${search}`, PARAMETERS)[1];

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

test('a hostile landing link brings no more than the gateway takes', () => {
  const long = 'x'.repeat(2000);
  const names = Array.from({ length: 30 }, (_, i) => `utm_a${i}=1&a${i}clid=1`).join('&');
  const found = landing(`?dub_id=&utm_source=${long}&gclid=${long}&utm_${long}=1&${names}`);
  assert.deepEqual(Object.keys(found).sort(), ['adClickIds', 'utm']);
  assert.equal(Object.keys(found.utm).length, 10);
  assert.equal(found.utm.utm_source.length, 255);
  assert.equal(Object.keys(found.adClickIds).length, 10);
  assert.equal(found.adClickIds.gclid.length, 500);
});

test('a text is cut, without halves of a pair; anything else stays', () => {
  assert.equal(cut('abc', 2), 'ab');
  assert.equal(cut('abc', undefined), 'abc');
  assert.equal(cut('a😀', 2), 'a');
  assert.equal(cut('\ud83d!', 9), '!');
  assert.equal(cut('a😀', 3), 'a😀');
  for (const value of [1, null, undefined, true]) assert.equal(cut(value, 1), value);
  const hostile = { replace: 1, slice: 1, trim: 1, toString: 1, valueOf: 1 };
  assert.equal(cut(hostile, 1), hostile);
});

test('retries wait longer and longer, but neither for ever nor less than the gateway asked', () => {
  assert.equal(retryDelay(0, 0), 1000);
  assert.equal(retryDelay(3, NaN), 8000);
  assert.equal(retryDelay(1000, 0), 1_200_000);
  assert.equal(retryDelay(0, 30), 30_000);
  assert.equal(retryDelay(0, 1e9), 1_200_000);
});

test('the longest wait is obeyed, what a clock set back makes longer is not', () => {
  assert.ok(left(Date.now() + retryDelay(0, 1e9)) > 1_199_000);
  assert.equal(left(Date.now() + 1_900_000), 0);
  assert.equal(left(Date.now() - 1), 0);
  assert.equal(left(NaN), 0);
});

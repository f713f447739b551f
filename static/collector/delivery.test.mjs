/** What arrives at the gateway's place, and what a page keeps. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { Gateway, Storage, open, until } from './page.mjs';

let gateway;
let pages;
const visit = (options) => {
  const page = open(gateway, options);
  pages.push(page);
  return page;
};
const full = (storage, more) => visit({ storage, ...more, data: { consent: 'full', ...more?.data } });
const arrived = (count) => until(() => gateway.events.length >= count && gateway.events, `${count} events`);
/** A try has failed, and the page knows it. */
const failed = ({ place }) => until(() => place['gateway:pk_shop:pause'], 'a failed try');
/** As long as another page needs to gather its events, send them and get its answer. */
const moment = async () => {
  const other = await new Gateway().start();
  const page = open(other, { data: { consent: 'full' } });
  await page.call('page');
  page.close();
  other.stop();
};
const cart = (quantity) => ({ cartReference: 'c-1', items: [{ sku: 'S', quantity }] });

beforeEach(async () => {
  pages = [];
  gateway = await new Gateway().start();
});
afterEach(() => {
  for (const page of pages) page.close();
  gateway.stop();
});

// Events and outcomes

test('what happens in one moment goes together, each event with its outcome', async () => {
  const { call } = full(new Storage());
  const outcomes = await Promise.all([
    call('product', { itemId: 'A' }),
    call('lead', { eventName: 'Sign up', customerId: 'u-1' }),
  ]);
  assert.deepEqual(outcomes.map(({ outcome }) => outcome), ['accepted', 'accepted']);
  assert.equal(gateway.requests.length, 1);
  const [{ body, headers }] = gateway.requests;
  assert.match(headers['content-type'], /^text\/plain/);
  assert.match(body.sentAt, /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
  assert.deepEqual(body.events.map(({ type }) => type), ['page', 'product', 'lead']);
  const [page, product] = body.events;
  assert.equal(page.title, 'A page');
  assert.equal(product.url, 'https://shop.example/');
  assert.equal(product.language, 'sv-SE');
  assert.equal(product.newSession, true);
  assert.equal(product.sessionId, page.sessionId);
  const ids = [page.id, page.visitorId, page.sessionId];
  assert.equal(new Set(ids).size, 3);
});

test('each result of a mixed answer reaches its own promise, and nothing is sent again', async () => {
  const results = (body) =>
    JSON.stringify({
      results: body.events.map(({ id, type }, index) =>
        type == 'product'
          ? { index, id, outcome: 'rejected', reason: 'bad_value', field: 'itemId', message: 'm' }
          : { index, id, outcome: 'accepted' },
      ),
    });
  gateway.answers = [[200, {}, results]];
  const storage = new Storage();
  const { call } = full(storage);
  const bad = await call('product', { itemId: 'A' });
  assert.deepEqual([bad.outcome, bad.reason, bad.field], ['rejected', 'bad_value', 'itemId']);
  assert.deepEqual(Object.keys(storage.place), ['gateway:pk_shop:']);
  assert.equal((await call('product', { itemId: 'B' })).outcome, 'accepted');
  assert.equal(gateway.requests.length, 2);
});

test('a request that is refused for good is dropped, and the promise says why', async () => {
  gateway.answers = [[403, {}, '{"error":"origin_not_allowed","message":"m"}']];
  const { call } = full(new Storage());
  const { outcome, message } = await call('page');
  assert.equal(outcome, 'rejected');
  assert.match(message, /origin_not_allowed/);
  await call('page');
  assert.equal(gateway.requests.length, 2);
});

test('commands from before the script keep their order, and their promises', async () => {
  const early = (...a) =>
    new Promise((r) => {
      a.r = r;
      (early.q ||= []).push(a);
    });
  const first = early('consent', 'full');
  const second = early('product', { itemId: 'A' });
  const ids = early('ids');
  visit({ storage: new Storage(), early });
  await first;
  assert.equal((await second).outcome, 'accepted');
  assert.match((await ids).visitorId, /-7/);
  assert.deepEqual(gateway.types(), ['page', 'product']);
});

test('rubbish never throws, and costs nothing but itself', async () => {
  const { call, warnings } = full(new Storage());
  const loop = {};
  loop.loop = loop;
  await call('debug');
  for (const bad of [
    ['cart'],
    ['cart', { cartReference: 'c' }],
    ['product', loop],
    ['lead', { metadata: loop }],
    ['lead', { big: 1n }],
  ])
    assert.equal((await call(...bad)).outcome, 'dropped');
  await call(undefined);
  await call('constructor', null);
  await call('lead', { eventName: '\ud83d', metadata: { replace: 1, toString: 1 } });
  assert.ok(warnings.length > 4);
  assert.equal((await call('product', { itemId: 'A' })).outcome, 'accepted');
  for (const { body } of gateway.requests) assert.doesNotMatch(JSON.stringify(body), /\\ud/);
});

test('debug explains what was refused and dropped; without it the console stays empty', async () => {
  const refusal = { index: 0, outcome: 'rejected', reason: 'bad_value', field: 'itemId', message: 'm' };
  const results = (body) => JSON.stringify({ results: body.events.map(() => refusal) });
  gateway.answers = [[422, {}, results], [422, {}, results]];
  const { call, warnings } = full(new Storage());
  await call('product', { itemId: 'A' });
  assert.deepEqual(warnings, []);
  await call('debug');
  await call('product', { itemId: 'B' });
  const said = JSON.stringify(warnings);
  for (const word of Object.values(refusal)) assert.ok(said.includes(word), word);
  assert.match(said, /itemId.{5}B/);
  await call('debug', false);
  const { length } = warnings;
  await call('consent', 'none');
  await call('product', { itemId: 'C' });
  assert.equal(warnings.length, length);
});

test('the tag\'s options: where to post to, the language, pages that count when told, a link\'s names', async () => {
  const { call } = full(new Storage(), {
    url: 'https://shop.example/?ref=k&letter=m&dub_id=k2&via=partner',
    data: {
      endpoint: `${gateway.url}/x/v1/events`,
      language: 'de-DE',
      autoPage: 'false',
      clickParameter: 'ref',
      mailParameter: 'letter',
    },
  });
  await call('page', { title: 'Told' });
  assert.deepEqual(gateway.requests.map(({ path }) => path), ['/x/v1/events']);
  const [{ title, language, clickId, mailReference, url }, more] = gateway.events;
  assert.deepEqual([title, language, clickId, mailReference], ['Told', 'de-DE', 'k', 'm']);
  // Dub's partners are no part of this.
  assert.equal(url, 'https://shop.example/?dub_id=k2&via=partner');
  assert.equal(more, undefined);
});

test('long texts are shortened, ids are not', async () => {
  const { call } = full(new Storage());
  const long = 'x'.repeat(5000);
  await call('product', { itemId: long, category: long, url: long });
  await call('custom', { eventName: long });
  const [, product, custom] = gateway.events;
  assert.deepEqual([product.itemId.length, product.category.length, product.url.length], [5000, 500, 2048]);
  assert.equal(custom.eventName.length, 255);
});

// Delivery

test('300 events at once arrive once each, never more than 48 KiB in a request', async () => {
  const { call } = full(new Storage());
  await Promise.all(Array.from({ length: 300 }, (_, i) => call('custom', { eventName: `${i} å` })));
  const custom = gateway.events.filter(({ type }) => type == 'custom');
  assert.equal(new Set(custom.map(({ id }) => id)).size, 300);
  assert.equal(custom.length, 300);
  for (const { bytes } of gateway.requests) assert.ok(bytes <= 49_152);
});

test('it listens to nothing that keeps a page out of the browser\'s cache', () => {
  const types = [];
  full(new Storage(), { addEventListener: (type) => types.push(type) });
  assert.ok(types.includes('pagehide') && types.includes('visibilitychange'));
  assert.deepEqual(types.filter((type) => /unload/.test(type)), []);
});

for (const status of [204, 200, 403])
  test(`the body of a ${status} is read to its end`, async () => {
    let read = 0;
    const text = async () => (read++, status == 200 ? '{"results":[{"outcome":"accepted"}]}' : '');
    await full(new Storage(), { fetch: async () => ({ status, text, headers: new Headers() }) }).call('page');
    assert.equal(read, 1);
  });

test('while the gateway is away events wait, and go under the same ids', async () => {
  gateway.answers = [[0], [503, {}, ''], [500, {}, '']];
  const storage = new Storage();
  const { call, happens } = full(storage);
  const outcome = call('product', { itemId: 'A' });
  for (let tries = 1; tries < 4; tries++) {
    await until(() => gateway.requests.length == tries, `try ${tries}`);
    await failed(storage);
    happens('online');
  }
  assert.equal((await outcome).outcome, 'accepted');
  const ids = gateway.requests.map(({ body }) => body.events.map(({ id }) => id).join());
  assert.equal(new Set(ids).size, 1);
});

for (const status of [408, 429, 500, 502, 503, 504, 524])
  test(`${status} means: again, later`, async () => {
    const storage = new Storage();
    gateway.answers = [[status, {}, 'not now']];
    const { call, happens } = full(storage);
    const outcome = call('product', { itemId: 'A' });
    await failed(storage);
    happens('online');
    assert.equal((await outcome).outcome, 'accepted');
  });

test('tries that fail are twice as far apart each time, and not at the same instant everywhere', async () => {
  gateway.answers = Array.from({ length: 20 }, () => [503, {}, '']);
  const first = [];
  for (let browser = 0; browser < 4; browser++) {
    const storage = new Storage();
    const delays = [];
    const { happens } = full(storage, { setTimeout: (_, delay) => delays.push(delay) && setTimeout(_, Math.min(delay, 60)) });
    for (let tries = 1; tries <= 3; tries++) {
      await failed(storage);
      const wait = await until(() => delays.find((delay) => delay > 500 && delay < 60_000));
      const least = 1000 * 2 ** (tries - 1);
      assert.ok(wait > least * 0.9 && wait <= least * 1.5, `${wait} after ${tries}`);
      if (tries == 1) first.push(Math.round(wait / 5));
      delays.length = 0;
      happens('online');
    }
  }
  assert.ok(new Set(first).size > 1);
});

test('what is on its way when the page goes is not sent again', async () => {
  let arrive;
  const slow = (...call) => new Promise((resolve) => (arrive = () => resolve(fetch(...call))));
  const { call, happens, page } = full(new Storage(), { fetch: (...it) => page.fetches.push(it[1]) && slow(...it) });
  const outcome = call('product', { itemId: 'A' });
  await until(() => arrive);
  happens('visibilitychange');
  happens('pagehide');
  arrive();
  await outcome;
  assert.equal(page.fetches.length, 1);
});

test('what only the memory holds goes when the page does, whatever the gateway asked', async () => {
  gateway.answers = [[503, { 'Retry-After': '60' }, '']];
  const { call, happens } = visit();
  await until(() => gateway.requests.length == 1);
  await moment();
  call('product', { itemId: 'A' });
  happens('pagehide');
  assert.deepEqual((await arrived(2)).map(({ type }) => type), ['page', 'product']);
});

test('Retry-After is obeyed, by the next page too', async () => {
  gateway.answers = [[429, { 'Retry-After': '2' }, '']];
  const storage = new Storage();
  const first = full(storage);
  await failed(storage);
  first.happens('pagehide');
  first.close();
  full(storage).call('product', { itemId: 'A' });
  await until(() => gateway.requests.length == 2);
  assert.ok(gateway.requests[1].at - gateway.requests[0].at >= 2000);
});

test('what a page could not send goes with the next one\'s, in its order', async () => {
  gateway.answers = [[0]];
  const storage = new Storage();
  const first = full(storage);
  first.call('identify', { contactId: 'p-1' });
  await failed(storage);
  first.happens('pagehide');
  first.close();
  await full(storage).call('product', { itemId: 'A' });
  assert.deepEqual(gateway.types(), ['page', 'customer', 'page', 'product']);
  assert.equal(gateway.requests.length, 2);
});

test('what was on its way when a page died is sent by a later one, once nobody waits for it', async () => {
  const storage = new Storage();
  const dead = full(storage, { fetch: () => new Promise(() => {}) });
  dead.call('product', { itemId: 'A' });
  const leased = () => Object.keys(storage.place).filter((name) => /"until":[1-9]/.test(storage.place[name]));
  const names = await until(() => leased().length == 2 && leased());
  dead.close();
  await full(storage).call('custom', { eventName: 'Mine' });
  assert.deepEqual(gateway.types(), ['page', 'custom']);
  for (const name of names)
    storage.place[name] = storage.place[name].replace(/\d+/, (time) => time - 15_000);
  await full(storage).call('custom', { eventName: 'Mine' });
  assert.deepEqual(gateway.types().slice(2).sort(), ['custom', 'page', 'page', 'product']);
});

test('two tabs send each event once, and each learns what became of its own', async () => {
  const storage = new Storage();
  const tabs = [full(storage), full(storage)];
  for (let i = 0; i < 5; i++)
    await Promise.all(tabs.map(({ call }) => call('custom', { eventName: `${i}` })));
  const ids = gateway.events.map(({ id }) => id);
  assert.equal(ids.length, 12);
  assert.equal(new Set(ids).size, 12);
});

test('what is older than the gateway can judge is dropped, and so is the oldest beyond 500', async () => {
  const storage = new Storage();
  const gone = '019a0000-0000-7000-8000-000000000000';
  const event = { type: 'page', id: gone, time: new Date(Date.now() - 24 * 3.6e6) };
  storage.place[`gateway:pk_shop:${gone}`] = JSON.stringify({ until: 0, event });
  const { call } = full(storage, { data: { autoPage: 'false' } });
  const outcomes = await Promise.all(Array.from({ length: 510 }, (_, i) => call('custom', { eventName: `${i}` })));
  assert.equal(outcomes.slice(0, 10).every(({ outcome }) => outcome == 'dropped'), true);
  assert.equal(outcomes.slice(10).every(({ outcome }) => outcome == 'accepted'), true);
  assert.equal(gateway.events.length, 500);
});

test('of what waits no more than half a million characters are kept: the newest', async () => {
  const storage = new Storage();
  const { call } = full(storage, { data: { autoPage: 'false' }, fetch: () => new Promise(() => {}) });
  const metadata = { text: 'x'.repeat(9000) };
  const dropped = [];
  for (let i = 0; i < 60; i++)
    call('custom', { eventName: `${i}`, metadata }).then(({ outcome }) => outcome == 'dropped' && dropped.push(i));
  await until(() => dropped.length);
  const kept = Object.keys(storage.place).filter((name) => name.includes(':0'));
  assert.ok(kept.reduce((sum, name) => sum + storage.place[name].length, 0) <= 500_000);
  assert.equal(kept.length + dropped.length, 60);
  assert.deepEqual(dropped.sort((a, b) => a - b), dropped.map((_, i) => i));
});

test('an event keeps the context that it happened in, however late it is sent', async () => {
  gateway.answers = [[0]];
  const storage = new Storage();
  const first = full(storage, { url: 'https://shop.example/a?utm_source=one', data: { language: 'sv' } });
  first.call('product', { itemId: 'A' });
  await failed(storage);
  first.close();
  const { call } = full(storage, { url: 'https://shop.example/b?dub_id=k', data: { language: 'de' } });
  await call('product', { itemId: 'B' });
  const [one, other] = gateway.events.filter(({ type }) => type == 'product');
  assert.deepEqual([one.itemId, one.url, one.language, one.clickId], ['A', 'https://shop.example/a?utm_source=one', 'sv', undefined]);
  assert.deepEqual([other.itemId, other.url, other.language, other.clickId], ['B', 'https://shop.example/b', 'de', 'k']);
});

test('full, throwing and missing storage lose nothing', async () => {
  const storage = new Storage();
  storage.full = true;
  assert.equal((await full(storage).call('product', { itemId: 'A' })).outcome, 'accepted');
  assert.equal(gateway.events.at(-1).consent, 'full');
  assert.equal((await full(undefined).call('product', { itemId: 'A' })).outcome, 'accepted');
  const blocked = full(undefined, { blocked: true });
  assert.equal((await blocked.call('product', { itemId: 'A' })).outcome, 'accepted');
});

test('where fetch is missing or throws a beacon is sent', async () => {
  const sent = [];
  const navigator = { sendBeacon: (_url, body) => sent.push(JSON.parse(body)) };
  for (const broken of [undefined, () => { throw new Error('no'); }]) {
    const { call } = full(new Storage(), { fetch: broken, navigator });
    assert.equal((await call('product', { itemId: 'A' })).outcome, 'accepted');
  }
  assert.equal(sent.length, 2);
});

test('an answer that is not the gateway\'s is no answer', async () => {
  gateway.answers = [[200, {}, '<html>']];
  const storage = new Storage();
  const { call, happens } = full(storage);
  const outcome = call('product', { itemId: 'A' });
  await failed(storage);
  happens('online');
  assert.equal((await outcome).outcome, 'accepted');
});

// Truth

test('each address is one page view; so is a page that comes back as it was left', async () => {
  const { page, happens } = full(new Storage());
  page.history.pushState({}, '', '/a?vtid=c#x');
  page.history.replaceState({}, '', '/a#y');
  await arrived(2);
  happens('popstate');
  happens('pageshow', { persisted: true });
  page.history.replaceState({}, '', '/b');
  await until(() => gateway.types().filter((type) => type == 'page').length == 4);
  await moment();
  const urls = gateway.events.filter(({ type }) => type == 'page').map(({ url }) => new URL(url).pathname);
  assert.deepEqual(urls, ['/', '/a', '/a', '/b']);
});

test('a session has its source; an own page is none', async () => {
  const storage = new Storage();
  const first = full(storage, { url: 'https://shop.example/?utm_source=mail', referrer: 'https://search.example/' });
  await first.call('product', { itemId: 'A' });
  await full(storage, { url: 'https://shop.example/b', referrer: 'https://shop.example/' }).call('product', { itemId: 'B' });
  const [one, , other] = gateway.events;
  const last = gateway.events.at(-1);
  assert.deepEqual(one.utm, { utm_source: 'mail' });
  assert.equal(one.referrer, 'https://search.example/');
  assert.deepEqual([last.utm, last.referrer, last.sessionId], [one.utm, one.referrer, one.sessionId]);
  assert.equal(last.newSession, false);
  assert.ok(other);
  await full(new Storage(), { referrer: 'https://shop.example/c' }).call('page');
  assert.equal(gateway.events.at(-1).referrer, null);
});

test('after thirty idle minutes a session begins, with its source and one first product', async () => {
  let later = 0;
  class Late extends Date {
    static now = () => Date.now() + later;
  }
  const storage = new Storage();
  const { call, page } = full(storage, { Date: Late, url: 'https://shop.example/?utm_source=one' });
  const seen = [];
  const views = async (minutes) => {
    later += minutes * 60_000;
    await call('product', { itemId: 'A' });
    const { sessionId, newSession, utm, visitorId } = gateway.events.at(-1);
    seen.push([sessionId, visitorId].join());
    return [newSession, utm?.utm_source];
  };
  assert.deepEqual(await views(0), [true, 'one']);
  assert.deepEqual(await views(29), [false, 'one']);
  assert.deepEqual(await views(29), [false, 'one']);
  page.history.pushState({}, '', '/?utm_source=two');
  assert.deepEqual(await views(31), [true, 'two']);
  assert.deepEqual(await views(1), [false, 'two']);
  assert.equal(new Set(seen).size, 2);
  assert.equal(new Set(seen.map((ids) => ids.split(',')[1])).size, 1);
});

test('two tags on a page count once', async () => {
  const first = full(new Storage());
  const again = visit({ storage: new Storage(), data: { consent: 'full' }, early: first.page.gateway });
  assert.equal(again.page.gateway, first.page.gateway);
});

test('a page that is rendered ahead counts when it is visited', async () => {
  const target = new EventTarget();
  const data = { key: 'pk_shop', consent: 'full' };
  const rendered = visit({
    document: {
      prerendering: true,
      location: new URL('https://shop.example/'),
      currentScript: { src: `${gateway.url}/collector.js`, dataset: data },
      documentElement: {},
      referrer: '',
      title: '',
      addEventListener: target.addEventListener.bind(target),
    },
    storage: new Storage(),
  });
  assert.equal(rendered.page.gateway, undefined);
  target.dispatchEvent(new Event('prerenderingchange'));
  await arrived(1);
  assert.deepEqual(gateway.types(), ['page']);
});

test('a click on what says so is an event', async () => {
  const listeners = {};
  full(new Storage(), { addEventListener: (type, listener) => (listeners[type] = listener) });
  const dataset = { gatewayEvent: 'lead', gatewayFields: '{"eventName": "Asked"}' };
  listeners.click({ target: { closest: () => ({ dataset }) } });
  listeners.click({ target: { closest: () => null } });
  listeners.click({ target: {} });
  const [, lead] = await arrived(2);
  assert.deepEqual([lead.type, lead.eventName], ['lead', 'Asked']);
});

test('the address bar is cleaned if wished, all but its fragment', async () => {
  const { page } = full(new Storage(), {
    url: 'https://shop.example/?a=1&vtid=c&ref=k#x',
    data: { cleanAddress: 'true', clickParameter: 'ref' },
  });
  assert.equal(page.location.href, 'https://shop.example/?a=1#x');
  const [first] = await arrived(1);
  assert.equal(first.clickId, 'k');
});

// Identity

test('once the contact is known, the views from before and the cart go out with it', async () => {
  const storage = new Storage();
  const { call } = full(storage);
  await call('product', { itemId: 'A', category: 'Shoes' });
  await call('cart', cart(2));
  const before = gateway.events.length;
  assert.equal((await call('identify', { customerId: 7, contactId: 'p-1', eclub: '', customerName: 'Ann' })).outcome, 'accepted');
  const [customer, again] = gateway.events.slice(before);
  assert.deepEqual([customer.type, customer.customerId, customer.contactId, customer.eclub, customer.customerName], ['customer', '7', 'p-1', null, 'Ann']);
  assert.deepEqual(customer.recent.map(({ itemId, category }) => [itemId, category]), [['A', 'Shoes']]);
  assert.deepEqual([again.type, again.contactId, again.items[0].quantity], ['cart', 'p-1', 2]);
  assert.equal(again.url, null);
  assert.notEqual(again.time, gateway.events.find(({ type }) => type == 'cart').time);
  assert.equal(await call('identify', { customerId: '7', contactId: 'p-1' }), undefined);
  await call('product', { itemId: 'B' });
  await call('identify', { contactId: 'p-2' });
  assert.deepEqual(gateway.events.at(-2).recent, []);
});

test('of the views from before the latest 25 go out, newest first', async () => {
  const { call } = full(new Storage());
  await Promise.all(Array.from({ length: 30 }, (_, i) => call('product', { itemId: `${i}`, metadata: { a: 1 } })));
  await call('identify', { contactId: 'p-1' });
  const { recent } = gateway.events.find(({ type }) => type == 'customer');
  assert.deepEqual(recent.map(({ itemId }) => +itemId), Array.from({ length: 25 }, (_, i) => 29 - i));
  assert.deepEqual(Object.keys(recent[0]).sort(), ['id', 'itemId', 'time', 'url']);
});

test('a landing link tells who comes, once', async () => {
  const storage = new Storage();
  const landing = { url: 'https://shop.example/?vtid=p-1&mail_ref=m-1' };
  await full(storage, landing).call('product', { itemId: 'A' });
  await full(storage, landing).call('product', { itemId: 'A' });
  const events = gateway.events;
  assert.equal(events.filter(({ type }) => type == 'customer').length, 1);
  for (const event of events) assert.deepEqual([event.contactId, event.mailReference], ['p-1', 'm-1']);
});

test('a cart is counted on from the latest, and a sold one is forgotten', async () => {
  const { call } = full(new Storage());
  const more = (latest) => cart((latest?.items[0].quantity || 0) + 1);
  await call('cart', more);
  await call('cart', more);
  const sold = (latest) => ({ amount: 1, cartReference: latest.cartReference, invoiceId: 'o', customerId: 'u' });
  await call('sale', sold);
  assert.equal(gateway.events.at(-1).cartReference, 'c-1');
  await call('cart', more);
  const quantities = gateway.events.filter(({ type }) => type == 'cart').map(({ items }) => items[0].quantity);
  assert.deepEqual(quantities, [1, 2, 1]);
});

test('log-out empties the cart, and forgets who it was', async () => {
  const { call } = full(new Storage());
  await call('identify', { customerId: 'u-1', contactId: 'p-1' });
  await call('cart', cart(1));
  await call('reset');
  const emptied = gateway.events.at(-1);
  assert.deepEqual([emptied.type, emptied.items, emptied.contactId], ['cart', [], 'p-1']);
  const ids = await call('ids');
  assert.deepEqual([ids.customerId, ids.contactId], [undefined, null]);
  await call('product', { itemId: 'A' });
  assert.equal(gateway.events.at(-1).contactId, null);
  assert.notEqual(gateway.events.at(-1).visitorId, emptied.visitorId);
});

// Consent

const PERSONAL = {
  customerId: 'u', customerName: 'Ann', customerEmail: 'a@b.se', contactId: 'p', clickId: 'k',
  country: 'SE', metadata: { a: 1 }, mailReference: 'm', customerAvatar: 'x', stripeCustomerId: 's',
};
const NAMES = [...Object.keys(PERSONAL), 'visitorId', 'sessionId', 'newSession', 'eclub', 'adClickIds', 'recent'];

test('with limited consent nothing is stored, nothing identifying and no cookie is sent', async () => {
  const storage = new Storage();
  const { call, page } = visit({ storage, url: 'https://shop.example/?vtid=p&gclid=g&utm_source=mail' });
  await call('identify', { contactId: 'p' });
  await call('product', { itemId: 'A', ...PERSONAL });
  await call('lead', { eventName: 'Asked', ...PERSONAL });
  assert.equal((await call('customer', PERSONAL)).outcome, 'dropped');
  assert.deepEqual(Object.keys(await call('ids')), []);
  assert.deepEqual(Object.keys(storage.place), []);
  for (const event of gateway.events) {
    assert.equal(event.consent, 'limited');
    assert.deepEqual(Object.keys(event).filter((name) => NAMES.includes(name)), []);
  }
  assert.equal(gateway.events[1].itemId, 'A');
  assert.deepEqual(gateway.events[0].utm, { utm_source: 'mail' });
  for (const { credentials } of page.fetches) assert.equal(credentials, 'omit');
});

test('without consent nothing is sent; once there is, the page counts once', async () => {
  const { call } = visit({ storage: new Storage(), data: { consent: 'none' } });
  assert.equal((await call('product', { itemId: 'A' })).outcome, 'dropped');
  await call('consent', 'full');
  await arrived(1);
  assert.equal((await call('product', { itemId: 'B' })).outcome, 'accepted');
  assert.deepEqual(gateway.types(), ['page', 'product']);
});

test('a page without consent that gets it at once counts once', async () => {
  const { call } = visit({ storage: new Storage(), data: { consent: 'none' } });
  await call('consent', 'full');
  await call('product', { itemId: 'B' });
  assert.deepEqual(gateway.types(), ['page', 'product']);
});

for (const choices of ['full none limited', 'limited none full', 'none full none full', 'wait none limited', 'wait full none full'])
  test(`a page counts once: ${choices}`, async () => {
    const [first, ...rest] = choices.split(' ');
    const { call, page } = visit({ storage: new Storage(), data: { consent: first } });
    const happened = (itemId) => call('product', { itemId });
    if (first != 'wait') await happened(first);
    for (const choice of rest) {
      await call('consent', choice);
      await happened(choice);
    }
    const views = () => gateway.events.filter(({ type }) => type == 'page');
    assert.equal(views().length, 1);
    page.history.pushState({}, '', '/next');
    await until(() => views().length == 2);
    assert.ok(views()[1].url.endsWith('/next'));
  });

test('a page view that is on its way when none is said counts, once', async () => {
  let arrive;
  const slow = (...call) => new Promise((resolve) => (arrive ||= () => resolve(fetch(...call))));
  const { call, page } = visit({ storage: new Storage(), fetch: slow });
  const outcome = call('product', { itemId: 'A' });
  await until(() => arrive);
  page.fetch = fetch;
  await call('consent', 'none');
  assert.equal((await call('product', { itemId: 'B' })).outcome, 'dropped');
  arrive();
  assert.equal((await outcome).outcome, 'accepted');
  await call('consent', 'full');
  assert.equal((await call('product', { itemId: 'C' })).outcome, 'accepted');
  assert.deepEqual(gateway.types(), ['page', 'product', 'product']);
});

for (const [choice, types] of [
  ['full', ['page', 'product', 'customer']],
  ['limited', ['page', 'product']],
  ['none', []],
])
  test(`what waits for a decision is sent as ${choice} says`, async () => {
    const storage = new Storage();
    const { call } = visit({ storage, data: { consent: 'wait' } });
    const outcome = call('product', { itemId: 'A' });
    call('identify', { contactId: 'p-1' });
    await moment();
    assert.equal(gateway.requests.length, 0);
    assert.deepEqual(Object.keys(storage.place), []);
    await call('consent', choice);
    assert.equal((await outcome).outcome, choice == 'none' ? 'dropped' : 'accepted');
    if (types[2]) await arrived(3);
    assert.deepEqual(gateway.types(), types);
    for (const event of gateway.events) assert.equal(event.consent, choice);
    const product = gateway.events.find(({ type }) => type == 'product') || {};
    assert.equal('visitorId' in product, choice == 'full');
  });

for (const choice of ['limited', 'none'])
  test(`withdrawal to ${choice} erases what is stored, here and at the gateway`, async () => {
    const storage = new Storage();
    storage.place.cart = 'the shop\'s own';
    const { call, page } = full(storage);
    await call('identify', { contactId: 'p-1' });
    gateway.answers = [[422, {}, '{"results":[{"index":0,"outcome":"rejected"}]}']];
    await call('consent', choice);
    await until(() => gateway.requests.some(({ body }) => body.context.consent == 'none'));
    assert.deepEqual(Object.keys(storage.place), ['cart']);
    const forgetting = gateway.requests.findIndex(({ body }) => body.context.consent == 'none');
    assert.equal(page.fetches[forgetting].credentials, 'include');
    assert.deepEqual(gateway.requests[forgetting].body.events, [null]);
    const { outcome } = await call('product', { itemId: 'A' });
    assert.equal(outcome, choice == 'none' ? 'dropped' : 'accepted');
    assert.ok(!('visitorId' in gateway.events.at(-1)));
    assert.deepEqual(Object.keys(storage.place), ['cart']);
  });

test('what still waits when consent is withdrawn goes out without what identifies', async () => {
  gateway.answers = [[0]];
  const { call, happens } = full(new Storage());
  const outcome = call('product', { itemId: 'A', customerId: 'u' });
  await until(() => gateway.requests.length == 1);
  await call('consent', 'limited');
  happens('online');
  assert.equal((await outcome).outcome, 'accepted');
  const product = gateway.events.find(({ type, consent }) => type == 'product' && consent == 'limited');
  assert.ok(product);
  assert.ok(!('customerId' in product) && !('visitorId' in product));
});

test('withdrawal in one tab holds in the other', async () => {
  const storage = new Storage();
  const one = full(storage);
  const other = full(storage);
  await one.call('product', { itemId: 'A' });
  await other.call('product', { itemId: 'A' });
  await one.call('consent', 'limited');
  await other.call('product', { itemId: 'B' });
  assert.equal(gateway.events.at(-1).consent, 'limited');
  assert.deepEqual(Object.keys(storage.place), []);
});

test('full consent is remembered; what the tag says comes first', async () => {
  const storage = new Storage();
  await full(storage).call('product', { itemId: 'A' });
  await visit({ storage }).call('product', { itemId: 'B' });
  assert.equal(gateway.events.at(-1).consent, 'full');
  await visit({ storage, data: { consent: 'limited' } }).call('product', { itemId: 'C' });
  assert.equal(gateway.events.at(-1).consent, 'limited');
  assert.ok(Object.keys(storage.place).length);
});

test('Global Privacy Control is limited consent, whatever is said', async () => {
  const storage = new Storage();
  const { call } = full(storage, { navigator: { globalPrivacyControl: true } });
  await call('consent', 'full');
  await call('product', { itemId: 'A' });
  for (const event of gateway.events) assert.equal(event.consent, 'limited');
  assert.deepEqual(Object.keys(storage.place), []);
});

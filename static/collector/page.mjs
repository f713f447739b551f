/**
 * For the tests: pages that run the built script, and the gateway's place: a real HTTP server.
 *
 * A page is a global object with just what the script may ask of a browser. What only browsers can
 * show (keepalive, bfcache, prerendering, CSP) the system tests show in them.
 */
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { Script, createContext } from 'node:vm';

const script = new Script(readFileSync(new URL('../dist/collector.js', import.meta.url), 'utf8'));
const DEADLINE = 8000;

/** Waits until the condition holds, and gives what it gave. */
export async function until(condition, what = condition) {
  const end = Date.now() + DEADLINE;
  for (;;) {
    const found = await condition();
    if (found) return found;
    if (Date.now() > end) throw new Error(`did not happen: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Like localStorage: texts by name, shared by pages; `full` makes every write throw. */
export class Storage {
  full = false;
  place = new Proxy(
    {},
    {
      set: (items, name, value) => {
        if (this.full) throw new Error('QuotaExceededError');
        items[name] = String(value);
        return true;
      },
    },
  );
}

/** Takes requests, and answers as it is told to. */
export class Gateway {
  requests = [];
  /** What the next ones get, then 204: `[status, headers, body]`; with status 0 no answer. */
  answers = [];

  async start() {
    this.server = createServer((request, response) => {
      let text = '';
      request.on('data', (part) => (text += part));
      request.on('end', () => {
        const body = JSON.parse(text);
        const [status, headers, answer] = this.answers.shift() || [204, {}, ''];
        this.requests.push({ at: Date.now(), path: request.url, status, body, bytes: Buffer.byteLength(text), headers: request.headers });
        if (!status) return request.socket.destroy();
        response.writeHead(status, headers);
        response.end(typeof answer == 'function' ? answer(body) : answer);
      });
    });
    await new Promise((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    this.url = `http://127.0.0.1:${this.server.address().port}`;
    return this;
  }

  stop() {
    this.server.closeAllConnections();
    this.server.close();
  }

  /** The events that were answered for good. */
  get events() {
    return this.requests
      .filter(({ status }) => status && status < 429)
      .flatMap(({ body }) => body.events.map((event) => ({ ...event, consent: body.context.consent })));
  }

  types() {
    return this.events.map(({ type }) => type);
  }
}

/** Opens a page with the tag; `blocked` storage throws; `more` overrides what its global has. */
export function open(gateway, { url = 'https://shop.example/', data = {}, storage, early, referrer = '', blocked, ...more } = {}) {
  const target = new EventTarget();
  const location = new URL(url);
  const document = {
    location,
    currentScript: { src: `${gateway.url}/collector.js`, dataset: { key: 'pk_shop', ...data } },
    documentElement: { lang: 'sv-SE' },
    title: 'A page',
    referrer,
    addEventListener: target.addEventListener.bind(target),
  };
  const timers = new Set();
  const warnings = [];
  const page = {
    document,
    location,
    history: {
      state: null,
      pushState: (_state, _title, to) => (page.location.href = new URL(to, page.location).href),
      replaceState: (_state, _title, to) => (page.location.href = new URL(to, page.location).href),
    },
    navigator: {},
    localStorage: storage?.place,
    fetch: (to, options) => {
      page.fetches.push(options);
      return fetch(to, options);
    },
    fetches: [],
    setTimeout: (action, delay) => {
      const timer = setTimeout(action, delay);
      timers.add(timer);
      return timer;
    },
    clearTimeout,
    addEventListener: target.addEventListener.bind(target),
    console: { warn: (...words) => warnings.push(words) },
    URL,
    Blob,
    ...more,
  };
  page.gateway = early;
  if (blocked)
    Object.defineProperty(page, 'localStorage', {
      get() {
        throw new Error('SecurityError');
      },
    });
  createContext(page);
  script.runInContext(page);
  return {
    call: (...command) => page.gateway(...command),
    happens: (type, extra = {}) => target.dispatchEvent(Object.assign(new Event(type), extra)),
    page,
    warnings,
    /** The page is gone: nothing of it runs any more. */
    close: () => timers.forEach(clearTimeout),
  };
}

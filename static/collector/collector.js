/**
 * The collector: sends a storefront's events to the gateway, and loses none that it can keep.
 *
 *     <script async src="https://shop.example/collector.js" data-key="pk_shop"></script>
 *
 * and, where commands may be called before it has loaded:
 *
 *     window.gateway = window.gateway || function () {
 *       (gateway.q = gateway.q || []).push(arguments);
 *     };
 *
 * Options, from the tag: `data-key`; `data-endpoint` (default: `/v1/events` where the script came
 * from); `data-consent` (default: `limited`, unless this browser remembers `full`);
 * `data-auto-page="false"`; `data-language` (default: the document's). Commands: `gateway.d.ts`.
 *
 * The path of an event: a command -> `track` gives it id, time and the context it happens in ->
 * it is kept -> `flush` sends what is due, together where the context is equal -> the answer
 * removes it, or it stays and is sent again under the same id. With full consent it is kept in
 * localStorage, one key an event, so that tabs never overwrite one another and the next page
 * carries on; otherwise in this page's memory, which has the same shape: an object of strings.
 */

/** @typedef {import('./gateway.d.ts').Consent} Consent */
/** @typedef {Record<string, any>} Fields */
/**
 * @typedef {object} Bookkeeping
 * @property {number} [seen] when the session's latest event happened
 * @property {boolean} [fresh] the session has had no product event yet
 * @property {string} [told] the ids that the gateway has been told belong together
 * @property {Fields[]} [views] product events from before the contact was known
 * @property {Fields} [cart] the latest cart, unless it was emptied
 */
/** @typedef {Bookkeeping & Fields} State what is remembered: the rest goes out as context */
/** @typedef {[lease: number, context: Fields, event: Fields]} Entry an event that waits */
/**
 * @typedef {object} Batch entries of one context, for one request
 * @property {Fields} context
 * @property {string} same the context as text, to compare
 * @property {string[]} names
 * @property {Fields[]} events
 * @property {number} size bytes of the events
 */

const SECOND = 1000;
const HOUR = 3600 * SECOND;
const SESSION_IDLE = HOUR / 2;
const LONGEST_WAIT = HOUR / 2;
/** Below the gateway's window of 24 h: an older event could be counted twice. */
const AGE_LIMIT = 23 * HOUR;
/** While a page waits for an answer, others leave its events alone; it may have gone. */
const LEASE = 15 * SECOND;
/** The browser allows 64 KiB of keepalive bodies in flight, for this page's scripts together. */
const FLIGHT_BYTES = 48e3;
const KEEPALIVE_BYTES = 6e4;
/** In localStorage, which has room for about five million. */
const KEPT_CHARACTERS = 5e5;
const KEPT_EVENTS = 500;
const KEPT_VIEWS = 25;

/** How fields begin that may identify a person: never sent without full consent. */
const PERSONAL =
  /^(customer|visitor|session|newSession|contact|eclub|click|adClick|mail|country|stripe|metadata|recent)/;
/** gclid, fbclid, msclkid, gbraid and their like. */
const AD_CLICK = /^\w{0,26}(clk?id|braid)$/i;
/** Parameters of a landing link, the field each one fills, and the field's limit in characters. */
const LANDING = /** @type {Record<string, [string, number]>} */ (/** @type {any} */ ({
  __proto__: null,
  dub_id: ['clickId', 100],
  vtid: ['contactId', 64],
  eclub: ['eclub', 1024],
  mail_ref: ['mailReference', 100],
}));

// Pure parts

/**
 * A UUIDv7, so that ids sort by time. Of its 74 random bits 2 stay fixed.
 * @param {number} now milliseconds
 */
export const uuid = (now) =>
  ((0 + now.toString(16)).replace(/.{8}/, '$&-') + '-7xxx-8xxx-xxxxxxxxxxxx').replace(
    /x/g,
    () => (crypto.getRandomValues(new Uint8Array(1))[0] & 15).toString(16),
  );

/**
 * An address without its fragment and the parameters that identify a person or a click.
 * @param {string} address
 */
export const clean = (address) => {
  const url = new URL(address);
  const parameters = url.searchParams;
  [...parameters.keys()].forEach((name) => {
    if (LANDING[name.toLowerCase()] || AD_CLICK.test(name)) parameters.delete(name);
  });
  url.hash = '';
  return url.href.slice(0, 2048);
};

/**
 * What a landing link says, as fields of the context. What is over a limit is left out, for the
 * gateway would refuse every event that carried it.
 * @param {string} search the address's query
 */
export const landing = (search) => {
  const /** @type {Fields} */ found = {};
  new URLSearchParams(search).forEach((value, name) => {
    const [field, limit] = LANDING[name.toLowerCase()] || [];
    const group = AD_CLICK.test(name) ? 'adClickIds' : /^utm_\w{1,28}$/.test(name) && 'utm';
    if (value && value.length <= limit) found[field] = value;
    if (group && value && value.length < 256) {
      found[group] = found[group] || {};
      if (Object.keys(found[group]).length < 10) found[group][name] = value;
    }
  });
  return found;
};

/**
 * How long to wait after a failed try, in milliseconds: as long as the gateway asked, else doubling
 * from a second to four minutes; up to half as long again, so that browsers spread; half an hour at most.
 * @param {number} failures in a row before this one
 * @param {number} retryAfter seconds, 0 if not said
 * @param {number} random from 0 to 1
 */
export const retryDelay = (failures, retryAfter, random) =>
  Math.min(1200, retryAfter || 2 ** Math.min(8, failures)) * SECOND * (1 + random / 2);

/**
 * The milliseconds left until an instant: none if it has passed, is no number, or is further off
 * than anything is put off, for a clock that was set back must not hold events up.
 * @param {number} instant
 */
export const left = (instant, now = Date.now()) =>
  instant > now && instant - now <= LONGEST_WAIT ? instant - now : 0;

/** @param {Fields} event */
const young = (event) => Date.now() - Date.parse(event.time) < AGE_LIMIT;

/** @param {string} text */
const bytes = (text) => new Blob([text]).size;

/**
 * Adds an entry to the batches: to the last one, if the context is equal and there is room.
 * @param {Batch[]} batches
 * @param {string} name
 * @param {Entry} entry
 */
export const addToBatches = (batches, name, [, context, event]) => {
  const same = JSON.stringify(context);
  const size = bytes(JSON.stringify(event)) + 1;
  let last = batches[batches.length - 1];
  if (!last || last.same != same || last.size + size > FLIGHT_BYTES) {
    last = { context, same, names: [], events: [], size: 0 };
    batches.push(last);
  }
  last.names.push(name);
  last.events.push(event);
  last.size += size;
};

// The page's part

/** @param {HTMLScriptElement} script the tag that brought the collector */
const start = (script) => {
  const { key, endpoint = new URL('/v1/events', script.src).href, ...options } = script.dataset;
  const prefix = 'gateway:' + key + ':';
  const stateName = prefix + 'state';
  const pauseName = prefix + 'pause';

  let /** @type {Consent} */ consent = 'limited';
  let /** @type {Record<string, string>} */ store = {};
  let /** @type {State} */ state = { context: {} };
  let debug = false;
  let clock = 0;
  let here = '';
  let inFlight = 0;
  let failures = 0;
  let timer = 0;

  /** @param {unknown[]} words */
  const log = (...words) => {
    if (debug) console.warn('gateway:', ...words);
  };

  /**
   * Runs something of ours, so that nothing it throws reaches the page.
   * @template T
   * @param {() => T} action
   */
  const safely = (action) => {
    try {
      return action();
    } catch (error) {
      // Rubbish from the page, or a browser that lacks something: this one thing is not done.
      log(error);
    }
  };

  // What is kept

  /** The browser's storage; an empty object where it is blocked. */
  const device = () => /** @type {Record<string, string>} */ (safely(() => localStorage) || {});

  /** @param {string} name */
  const read = (name) => safely(() => JSON.parse(store[name] || 'null'));

  /**
   * @param {string} name
   * @param {string} text
   */
  const put = (name, text) => {
    try {
      store[name] = text;
    } catch (error) {
      // Storage is full: from here on this page's memory must do. What is stored stays there for
      // the next page; sent twice under one id, it counts once.
      log(error);
      store = { ...store, [name]: text };
    }
  };

  /**
   * @param {Record<string, string>} place
   * @param {string} start
   */
  const namesIn = (place, start) => Object.keys(place).filter((name) => name.startsWith(start));

  /** The names of events that wait, oldest first. Ids begin with 0 until the year 2527. */
  const waiting = () => namesIn(store, prefix + '0').sort();

  /** Beyond the bounds, the oldest events go. */
  const prune = () => {
    let room = KEPT_CHARACTERS;
    waiting()
      .reverse()
      .forEach((name, newer) => {
        room -= store[name].length;
        if (room < 0 || newer >= KEPT_EVENTS) {
          log('dropped', name);
          delete store[name];
        }
      });
  };

  // Sending

  /** @param {number} delay milliseconds */
  const schedule = (delay) => {
    clearTimeout(timer);
    timer = setTimeout(() => safely(flush), delay);
  };

  /**
   * Posts a body. Gives -1 when there is nothing more to do for it, else the seconds that the
   * gateway wants to be left alone before the next try, 0 if it does not say.
   * @param {string} body a text is sent as text/plain, which needs no preflight
   * @param {boolean} keepalive whether the request outlives the page
   */
  const post = (body, keepalive) =>
    safely(() =>
      fetch(endpoint, { method: 'POST', body, keepalive, credentials: 'include' })
        .then(async (answer) => {
          // Read to its end: in Chromium, an unread one may hold its share of the keepalive quota.
          const text = await answer.text();
          const status = /** @type {any} */ (answer.status);
          if (status != 204) log(status, text, body);
          return /408|429|5../.test(status) ? +(/** @type {any} */ (answer.headers.get('Retry-After'))) || 0 : -1;
        })
        .catch((error) => {
          // No answer: in doubt, so again under the same ids.
          log(error);
          return 0;
        }),
    ) ||
    // No fetch here. A beacon is the last resort, for a blocked one says that it was sent.
    -(/** @type {any} */ (navigator.sendBeacon(endpoint, body)));

  /**
   * Says until when entries are left to the page that sends them. One that is gone stays gone.
   * @param {string[]} names
   * @param {number} until
   */
  const lease = (names, until) =>
    names.forEach((name) => {
      // An entry's text begins with its lease.
      if (store[name]) put(name, store[name].replace(/\d+/, '' + until));
    });

  /** How long the gateway is to be left alone, in milliseconds. */
  const paused = () => left(+store[pauseName]);

  /** @param {Batch} batch */
  const send = async ({ context, names, events }) => {
    const body = JSON.stringify({ key, sentAt: new Date(), context, events });
    const size = bytes(body);
    // No room: it goes when an answer comes.
    if (inFlight && inFlight + size > FLIGHT_BYTES) return;
    inFlight += size;
    lease(names, Date.now() + LEASE);
    const wait = await post(body, size < KEEPALIVE_BYTES);
    inFlight -= size;
    if (wait < 0) {
      failures = 0;
      names.forEach((name) => delete store[name]);
    } else {
      lease(names, 0);
      // Of several that failed together one counts, unless the gateway asks for more.
      if (wait || !paused())
        put(pauseName, '' + (Date.now() + retryDelay(failures++, wait, Math.random())));
    }
    schedule(0);
  };

  /** @param {boolean} [leaving] the page may never run again */
  const flush = (leaving) => {
    const /** @type {Batch[]} */ batches = [];
    // What only this page's memory holds goes now or never.
    const pause = leaving && store != device() ? 0 : paused();
    let next = pause || LONGEST_WAIT;
    waiting().forEach((name) => {
      const entry = read(name);
      if (!safely(() => young(entry[2]))) delete store[name];
      else if (left(entry[0])) next = Math.min(next, left(entry[0]));
      else addToBatches(batches, name, entry);
    });
    // After a failure, one request tries whether the gateway is back.
    if (!pause) batches.slice(0, failures && !leaving ? 1 : 99).forEach(send);
    schedule(next);
  };

  // Events

  /**
   * An event happens: never two at one instant, for a cart's time tells its states apart. Begins a
   * session where none is, or the last has been idle for too long.
   */
  const touch = () => {
    clock = Math.max(Date.now(), clock + 1);
    state.visitorId = state.visitorId || uuid(clock);
    if (!(clock - /** @type {number} */ (state.seen) < SESSION_IDLE)) {
      const { referrer } = document;
      const external = /^http/.test(referrer) && new URL(referrer).host != location.host;
      state.sessionId = uuid(clock);
      state.fresh = true;
      state.referrer = external ? clean(referrer) : undefined;
      state.utm = landing(location.search).utm;
    }
    state.seen = clock;
  };

  /**
   * @param {string} type
   * @param {Fields} [fields]
   */
  const track = (type, fields) => {
    const full = consent == 'full';
    // Without full consent nothing is left of a customer.
    if (consent == 'none' || (!full && type == 'customer')) return log('not sent', type);
    touch();
    const { views = [], cart = {}, fresh, seen, told, ...known } = state;
    const url = clean(location.href);
    const time = new Date(clock);
    const /** @type {Fields} */ event = { ...fields, type, id: uuid(clock), time };
    const language = options.language || document.documentElement.lang || undefined;
    if (type == 'page') event.title = (event.title || document.title).slice(0, 500) || undefined;
    if (full && type == 'product') {
      const { id, itemId, category } = event;
      if (fresh) event.newSession = true;
      state.fresh = false;
      if (!known.contactId)
        state.views = [...views, { id, time, itemId, category, url: event.url || url }].slice(
          -KEPT_VIEWS,
        );
    }
    if (type == 'cart') state.cart = event.items[0] && event;
    if (type == 'sale' && cart.cartReference == event.cartReference) delete state.cart;
    const entry = JSON.stringify([0, { consent, ...known, language, url }, event], (name, value) =>
      full || !PERSONAL.test(name) ? value : undefined,
    );
    put(prefix + event.id, entry);
    prune();
    log(entry);
  };

  /**
   * Once it is known who this is, tells so: with the views from before, and the cart again.
   * @param {Fields} [profile]
   */
  const introduce = (profile) => {
    const { customerId, contactId, eclub, views = [], cart, told } = state;
    const ids = '' + [customerId, contactId, eclub];
    if (ids == ',,' || ids == told || consent != 'full') return;
    state.told = ids;
    const recent = views.filter(young);
    if (contactId) delete state.views;
    track('customer', { ...profile, recent: contactId && recent[0] ? recent : undefined });
    if (contactId && cart && young(cart)) track('cart', cart);
  };

  /**
   * Looks at the address: a landing link says who this is, and each address is a page view.
   * @param {boolean} [again] even if it has not changed
   */
  const look = (again) => {
    const url = clean(location.href);
    if (url == here && !again) return;
    if (url != here) {
      touch();
      Object.assign(state, landing(location.search));
    }
    here = url;
    if (options.autoPage != 'false') track('page');
    introduce();
  };

  // Commands

  const commands = /** @type {Record<string, (fields: any) => void>} */ ({
    debug: (on) => {
      debug = on !== false;
    },

    consent: (choice) => {
      const before = consent;
      const memory = store;
      consent = choice == 'none' ? choice : 'limited';
      if (choice == 'full' && !navigator.globalPrivacyControl) {
        consent = choice;
        store = device();
        // The browser's visitor and session go on; what this page has learnt is newer.
        const { visitorId, sessionId, seen, fresh, ...learnt } = state;
        state = { ...state, ...read(stateName), ...learnt };
        Object.keys(memory).forEach((name) => put(name, memory[name]));
        introduce();
      } else {
        const kept = device();
        if (consent != before) {
          flush(true);
          store = {};
          state = {};
        }
        namesIn(kept, prefix).forEach((name) => delete kept[name]);
      }
      // The page was not counted yet.
      if (before == 'none' && here) look(true);
    },

    identify: ({ customerId, contactId, eclub, ...profile }) => {
      look();
      Object.entries({ customerId, contactId, eclub }).forEach(([name, id]) => {
        if (id !== undefined) state[name] = id ? '' + id : null;
      });
      introduce(profile);
    },

    reset: () => {
      if (state.cart) track('cart', { ...state.cart, items: [] });
      // null, for the gateway's cookie may still know the contact.
      state = { contactId: null };
    },
  });

  /**
   * Does something with what is remembered, and remembers what it changed.
   * @param {() => void} action
   */
  const run = (action) =>
    safely(() => {
      state = read(stateName) || {};
      action();
      put(stateName, JSON.stringify(state));
      schedule(10);
    });

  /**
   * @param {string} command
   * @param {any} [fields]
   */
  const gateway = (command, fields) =>
    run(() => {
      if (commands[command]) return commands[command](fields);
      look();
      // An event, or a slip of the pen: the gateway knows, and says so to the operator too.
      track(command, fields);
    });

  // The page's calls so far, and its life

  const { q = [] } = window.gateway || {};
  const choice = options.consent || (device()[stateName] ? 'full' : 'limited');
  window.gateway = gateway;
  // Less than full consent in the tag erases nothing: the page may be about to say more.
  if (choice == 'full') gateway('consent', choice);
  if (choice == 'none') consent = choice;
  [...q].forEach((call) => gateway(.../** @type {[string]} */ (call)));

  /** @param {any} [event] where it is persisted, the page comes back as it was left */
  const arrive = (event) => run(() => look(event && event.persisted));
  const leave = () => safely(() => flush(true));
  const { pushState } = history;
  history.pushState = (...change) => {
    pushState.apply(history, change);
    // Later, for the page's title follows.
    setTimeout(arrive);
  };
  addEventListener('popstate', arrive);
  addEventListener('pageshow', arrive);
  // Never `unload`: it keeps the page out of the browser's cache, and Safari does not fire it.
  addEventListener('pagehide', leave);
  addEventListener('visibilitychange', leave);
  addEventListener('online', () => {
    delete store[pauseName];
    schedule(0);
  });
  arrive();
};

/** @param {HTMLScriptElement} script */
const boot = (script) => {
  // Two tags on a page would count everything twice.
  if (window.gatewayKey) return;
  window.gatewayKey = script.dataset.key;
  // A page rendered ahead of a visit that may never come counts when it is visited.
  if (document.prerendering)
    document.addEventListener('prerenderingchange', () => start(script), { once: true });
  else start(script);
};

if (typeof document != 'undefined' && document.currentScript)
  boot(/** @type {HTMLScriptElement} */ (document.currentScript));

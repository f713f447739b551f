/**
 * The collector: sends a storefront's events to the gateway, and loses none that it can keep.
 *
 *     <script async src="https://shop.example/collector.js" data-key="pk_shop"></script>
 *
 * Options (the tag's data attributes), commands and outcomes: `gateway.d.ts`.
 *
 * The path of an event: a command -> `track` gives it id, time and the context it happens in ->
 * `keep` stores what consent allows of it -> `flush` sends what is due, in one request -> the
 * answer settles it, or it stays and is sent again under the same id. With full consent it is kept
 * in localStorage, one name an event, so that tabs never overwrite one another and the next page
 * carries on; otherwise in this page's memory, which has the same shape: an object of strings.
 */

/** @typedef {import('./gateway.d.ts').Consent} Consent */
/** @typedef {import('./gateway.d.ts').Options} Options */
/** @typedef {import('./gateway.d.ts').Outcome} Outcome */
/** @typedef {Record<string, any>} Fields */
/**
 * What is remembered: all but `own` goes out with each event.
 * @typedef {object} Own
 * @property {any} [seen] when the session's latest event happened
 * @property {boolean} [fresh] the session has had no product event yet
 * @property {string} [told] the ids that the gateway has been told belong together
 * @property {Fields[]} views product events from before the contact was known, newest first
 * @property {any} [cart] the latest cart, unless it was emptied
 */
/** @typedef {{own: Own} & Fields} State */
/** @typedef {Record<string, string>} Parameters */

const SECOND = 1000;
const HOUR = 3600 * SECOND;
const SESSION_IDLE = HOUR / 2;
const LONGEST_WAIT = HOUR / 2;
/** Events of one moment go together. */
const GATHER = SECOND / 20;
/** Below the gateway's window of 24 h: an older event could be counted twice. */
const AGE_LIMIT = 23 * HOUR;
/** While a page waits for an answer, others leave its events alone; it may have gone. */
const LEASE = 15 * SECOND;
/** The browser allows 64 KiB of keepalive bodies in flight, for this page's scripts together. */
const FLIGHT_BYTES = 48e3;
const KEEPALIVE_BYTES = 6e4;
/** In localStorage, which has room for about five million. */
const KEPT_CHARACTERS = 5e5;
/** As many as a request may hold. */
const KEPT_EVENTS = 500;
const KEPT_VIEWS = 25;

/** What is shortened to what the gateway takes, in characters: texts, and what a link says. */
const TEXTS = /** @type {Record<string, number>} */ ({
  title: 500,
  category: 500,
  eventName: 255,
  customerName: 100,
  url: 2048,
  referrer: 2048,
  clickId: 100,
  contactId: 64,
  eclub: 1024,
  mailReference: 100,
});

/** How fields begin that may identify a person: never sent without full consent. */
const PERSONAL =
  /^(cust|visi|sess|newS|conta|eclub|click|adC|mail|coun|stripe|meta|rec)/;
/** gclid, fbclid, msclkid, gbraid and their like. */
const AD_CLICK = /^\w{0,26}(clk?id|braid)$/i;

// Pure parts

/**
 * A UUIDv7, so that ids sort by time. Of its 74 random bits 2 stay fixed.
 * @param {number} now milliseconds
 */
export const uuid = (now) =>
  ((0 + now.toString(16)).replace(/.{8}/, '$&-') + '-7xxx-8xxx-xxxxxxxxxxxx').replace(/x/g, () =>
    ((Math.random() * 16) | 0).toString(16),
  );

/**
 * The first characters, without halves of surrogate pairs, which are no JSON to the gateway. What
 * is no text stays as it is, for the gateway to refuse.
 * @param {any} text
 * @param {number} limit
 */
export const cut = (text, limit) =>
  typeof text == 'string' ? text.slice(0, limit).replace(/\p{Cs}/gu, '') : text;

/**
 * Takes an address apart: without its fragment and the parameters that identify a person or a
 * click; and what those say, as fields of an event.
 * @param {string} address
 * @param {Parameters} parameters by name, in lower case
 */
export const dissect = (address, parameters) => {
  const url = new URL(address);
  const /** @type {Fields} */ found = {};
  [...url.searchParams].forEach(([name, value]) => {
    const field = parameters[name.toLowerCase()];
    const ad = AD_CLICK.test(name);
    const group = ad ? 'adClickIds' : /^utm_.{1,28}$/.test(name) && 'utm';
    if (field || ad) url.searchParams.delete(name);
    if (!value) return;
    if (field) found[field] = value;
    if (group) {
      const values = (found[group] ||= {});
      if (!Object.keys(values)[9]) values[name] = value.slice(0, ad ? 500 : 255);
    }
  });
  url.hash = '';
  return /** @type {[url: string, found: Fields]} */ ([url.href, found]);
};

/**
 * How long the gateway is left alone after a failed try, in milliseconds: as long as it asked, else
 * doubling from a second; 20 minutes at most.
 * @param {number} failures in a row before this one
 * @param {number} retryAfter seconds, 0 or NaN if not said
 */
export const retryDelay = (failures, retryAfter) =>
  Math.min(1200, retryAfter || 2 ** failures) * SECOND;

/**
 * The milliseconds left until an instant: none if it has passed, is no number, or is further off
 * than anything is put off, for a clock that was set back must not hold events up.
 * @param {number} instant
 */
export const left = (instant) =>
  (instant -= Date.now()) > 0 && instant <= LONGEST_WAIT ? instant : 0;

/** @param {string} text */
const bytes = (text) => new Blob([text]).size;

/** @param {Fields | undefined} event */
const young = (event) => Date.now() - Date.parse(event?.time) < AGE_LIMIT;

// The page's part

/**
 * Starts the collector: one a page.
 * @param {Options} options
 */
export const start = (options) => {
  const { key, endpoint } = options;
  const prefix = 'gateway:' + key + ':';
  const pauseName = prefix + 'pause';
  /** Absent in a worker, such as a shop system's sandbox for pixels. */
  const page = globalThis.document;
  /** Of a landing link. */
  const parameters = /** @type {Parameters} */ (/** @type {any} */ ({
    __proto__: null,
    [options.clickParameter || 'dub_id']: 'clickId',
    [options.mailParameter || 'mail_ref']: 'mailReference',
    vtid: 'contactId',
    eclub: 'eclub',
  }));
  const /** @type {Record<string, (outcome: Outcome) => void>} */ promised = {};
  const early = /** @type {any} */ (globalThis.gateway) || {};
  const blank = () => /** @type {State} */ ({ own: { views: [] } });

  let /** @type {Consent} */ consent = 'limited';
  let /** @type {Record<string, string>} */ store = {};
  let state = blank();
  let /** @type {Fields} */ landed = {};
  let /** @type {Fields} */ profile = {};
  let debug = false;
  let clock = 0;
  /** The address of the latest page view that was not dropped. */
  let here = '';
  let inFlight = 0;
  let failures = 0;
  let /** @type {any} */ timer;

  /** @param {unknown[]} words */
  const log = (...words) => {
    if (debug) console.warn('gateway:', ...words);
  };

  /**
   * Runs something of ours, so that nothing it throws reaches the page.
   * @param {() => any} action
   * @param {any} [otherwise]
   */
  const safely = (action, otherwise) => {
    try {
      return action();
    } catch (error) {
      // Rubbish from the page, or a browser that lacks something: this one thing is not done.
      log(error);
      return otherwise;
    }
  };

  // What is kept

  /** The browser's storage; an object of this page where it is blocked. */
  const device = /** @type {Record<string, string>} */ (safely(() => localStorage) || {});

  /** @param {string} text */
  const parse = (text) => safely(() => JSON.parse(text || '{}'), {});

  /**
   * @param {string} name
   * @param {any} text
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

  /** The names of events that wait, oldest first. Ids begin with 0 until the year 2527. */
  const waiting = (place = store) =>
    Object.keys(place)
      .filter((name) => !name.indexOf(prefix + 0))
      .sort();

  /**
   * It is known what became of an event.
   * @param {string} name
   * @param {Outcome} outcome
   */
  const settle = (name, outcome) => {
    log(outcome, store[name]);
    delete store[name];
    promised[name]?.(outcome);
    delete promised[name];
  };

  // Sending

  /** @param {number} delay milliseconds */
  const schedule = (delay) => {
    clearTimeout(timer);
    timer = setTimeout(flush, delay);
  };

  /**
   * Says until when events are left to the page that sends them. One that is gone stays gone.
   * @param {string[]} names
   * @param {any} until
   */
  const lease = (names, until) =>
    names.forEach((name) => {
      // It is the first number in their text.
      if (store[name]) put(name, store[name].replace(/\d+/, until));
    });

  /**
   * @param {string[]} names
   * @param {Consent} [allowed]
   */
  const send = async (names, allowed = consent) => {
    // A text is sent as text/plain, which needs no preflight.
    const body = JSON.stringify(
      {
        key,
        sentAt: new Date(),
        context: { consent: allowed },
        events: names.map((name) => parse(store[name]).event),
      },
      (field, value) =>
        allowed != 'full' && PERSONAL.test(field) ? undefined : cut(value, TEXTS[field]),
    );
    const size = bytes(body);
    /** In so many seconds, if the gateway says it. */
    let again = 0;
    inFlight += size;
    lease(names, Date.now() + LEASE);
    try {
      const answer = await (safely(() =>
        fetch(endpoint, {
          method: 'POST',
          body,
          // The request outlives the page.
          keepalive: size < KEEPALIVE_BYTES,
          // With limited consent cookies are neither sent nor deleted.
          credentials: allowed == 'limited' ? 'omit' : 'include',
        }),
      ) || // No fetch here. A beacon is the last resort, for a blocked one says that it was sent.
        /** @type {any} */ ({ status: navigator.sendBeacon(endpoint, body) && 204, text: String }));
      // Read to its end: in Chromium, an unread one may hold its share of the keepalive quota.
      const message = await answer.text();
      const { results } = parse(message);
      again = +answer.headers?.get('retry-after');
      // A 200 that is not the gateway's is no answer.
      if (results || /204|^4(?!08|29)/.test(answer.status)) {
        failures = 0;
        names.forEach((name, index) =>
          settle(
            name,
            results?.[index] || { outcome: answer.status == 204 ? 'accepted' : 'rejected', message },
          ),
        );
      }
    } catch (error) {
      // No answer: in doubt, so again under the same ids.
      log(error);
    }
    inFlight -= size;
    lease(names, 0);
    if (store[names[0]]) put(pauseName, Date.now() + retryDelay(failures++, again));
    flush();
  };

  /** @param {any} [leaving] the page may never run again */
  const flush = (leaving) =>
    safely(() => {
      // What only this page's memory holds goes now or never.
      const pause = leaving && store != device ? 0 : left(+store[pauseName]);
      const /** @type {string[]} */ names = [];
      let next = pause || LONGEST_WAIT;
      let size = inFlight;
      let room = KEPT_CHARACTERS;
      waiting().reverse().forEach((name, newer) => {
        const { until, event } = parse(store[name]);
        const length = bytes(store[name]);
        const leased = left(promised[name] ? until - SECOND : until);
        room -= length;
        // What is on its way can't be called back.
        if (leased) next = Math.min(next, leased);
        else if (
          room < 0 ||
          newer >= KEPT_EVENTS ||
          !young(event) ||
          consent == 'none' ||
          // Without full consent nothing is left of a customer.
          (consent == 'limited' && event.type == 'customer')
        ) {
          // This page is counted once that is allowed.
          if (promised[name] && event?.type == 'page') here = '';
          settle(name, { outcome: 'dropped' });
        } else if (!pause && consent != 'wait' && (!size || size + length < FLIGHT_BYTES)) {
          size += length;
          names.unshift(name);
        }
      });
      if (names[0]) send(names);
      // Not at the instant that other tabs and browsers choose too.
      schedule(next * (1 + Math.random() / 2));
    });

  // Events

  /**
   * An event happens: never two at one instant, for a cart's time tells its states apart. It begins
   * a session where none is, or the last has been idle for too long.
   * @param {string} type
   * @param {Fields} [fields]
   * @returns {Promise<Outcome>}
   */
  const track = (type, fields) => {
    clock = Math.max(clock + 1, Date.now());
    const id = uuid(clock);
    const time = new Date(clock);
    const { own } = state;
    state.visitorId ||= uuid(clock);
    if (!(own.seen > clock - SESSION_IDLE)) {
      state.sessionId = uuid(clock);
      state.utm = landed.utm;
      // Not from the shop itself.
      state.referrer = (page?.referrer.indexOf(location.origin) && page.referrer) || null;
      own.fresh = true;
    }
    own.seen = clock;
    const /** @type {Fields} */ event = {
      ...state,
      own: undefined,
      language: options.language || page?.documentElement.lang || null,
      // A cart's address is the link back to it.
      url: type == 'cart' ? null : here,
      ...fields,
      type,
      id,
      time,
    };
    if (type == 'product') {
      const { itemId, category, url } = event;
      event.newSession = own.fresh;
      own.fresh = false;
      if (!state.contactId && !state.eclub)
        own.views = [{ id, time, itemId, category, url }, ...own.views].slice(0, KEPT_VIEWS);
    }
    if (type == 'cart') own.cart = event.items[0] && { ...fields, time };
    if (type == 'sale' && own.cart?.cartReference == event.cartReference) own.cart = null;
    put(prefix + id, JSON.stringify({ until: clock + SECOND, event }));
    return new Promise((resolve) => (promised[prefix + id] = resolve));
  };

  /** Once it is known who this is, tells so: with the views from before, and the cart again. */
  const introduce = () => {
    const { own, customerId, contactId, eclub } = state;
    const ids = '' + [customerId, contactId, eclub];
    if (ids != ',,' && ids != own.told && consent == 'full') {
      own.told = ids;
      const contact = contactId || eclub;
      const outcome = track('customer', { ...profile, recent: contact && own.views });
      if (contact) {
        own.views = [];
        if (young(own.cart)) track('cart', own.cart);
      }
      return outcome;
    }
  };

  /**
   * Looks at the address: a landing link says who this is, and each address is a page view.
   * @param {any} [again] even if it has not changed
   */
  const look = (again, address = options.url || page?.location.href) => {
    if (!address) return;
    const [url, found] = dissect(address, parameters);
    if (url != here) state = { ...state, ...(landed = found) };
    else if (!again) return;
    here = url;
    if (options.cleanAddress) history.replaceState(history.state, '', url + location.hash);
    if (options.autoPage != 'false') track('page', page && { title: page.title });
  };

  // Commands

  const commands = /** @type {Record<string, (fields: any) => any>} */ ({
    look,

    debug: (on = true) => {
      debug = on;
    },

    consent: (choice) => {
      const memory = store;
      // Under the consent that it happened under.
      flush();
      consent = choice == 'full' && navigator.globalPrivacyControl ? 'limited' : choice;
      store = consent == 'full' ? device : {};
      waiting(memory).forEach((name) => put(name, memory[name]));
      // The browser's visitor and session go on; what this page has learnt is newer.
      if (consent == 'full') state = { ...state, ...parse(device[prefix]), ...landed };
      else {
        if (device[prefix]) {
          // Of no event, so that the gateway deletes its cookies.
          send([''], 'none');
          state = blank();
        }
        Object.keys(device).forEach((name) => name.indexOf(prefix) || delete device[name]);
      }
      look();
    },

    identify: (fields) => {
      profile = {};
      for (const name in fields)
        if (/Id$|eclub|Reference/.test(name)) state[name] = fields[name] ? '' + fields[name] : null;
        else profile[name] = fields[name];
    },

    ids: () => (consent == 'full' ? { ...state, own: undefined } : {}),

    reset: () => {
      const { cart } = state.own;
      const outcome = cart && track('cart', { ...cart, items: [] });
      // null, for the gateway's cookie may still know the contact.
      state = { ...blank(), contactId: null };
      profile = {};
      return outcome;
    },
  });

  /**
   * Does something with what is remembered, and remembers what it changed.
   * @param {string} command
   * @param {any} [fields]
   */
  const gateway = async (command, fields) =>
    safely(() => {
      // Another tab has withdrawn.
      if (!store[prefix] && consent == 'full') commands.consent('limited');
      state = { ...blank(), ...parse(store[prefix]) };
      if (fields?.call) fields = fields(state.own.cart);
      if (command != 'consent') look();
      // An event, or a slip of the pen: the gateway knows, and says so to the operator too.
      const result = commands[command] ? commands[command](fields) : track(command, fields);
      const told = introduce();
      put(prefix, JSON.stringify(state));
      schedule(GATHER);
      return result || told;
    }, { outcome: 'dropped' });

  // The page's calls so far, and its life

  /** @param {any} [event] where it is persisted, the page comes back as it was left */
  const arrive = (event) => gateway('look', event?.persisted);

  const begin = () => {
    globalThis.gateway = gateway;
    /** @type {any} */ (gateway).key = key;
    // Less than full consent in the tag erases nothing: the page may be about to say more.
    const said = options.consent || (device[prefix] && 'full');
    if (said == 'full') gateway('consent', 'full');
    else if (said) consent = /** @type {Consent} */ (said);
    early.q?.forEach((/** @type {any} */ call) => gateway(.../** @type {[string]} */ (call)).then(call.r));
    arrive();
    safely(() => {
      const listeners = /** @type {Record<string, (event: any) => any>} */ ({
        // Never `unload`: it keeps the page out of the browser's cache, and Safari does not fire it.
        pagehide: flush,
        visibilitychange: flush,
        pageshow: arrive,
        popstate: arrive,
        online: () => flush(delete store[pauseName]),
        click: ({ target }) => {
          const element = target.closest?.('[data-gateway-event]');
          if (element) gateway(element.dataset.gatewayEvent, parse(element.dataset.gatewayFields));
        },
      });
      Object.keys(listeners).forEach((type) => addEventListener(type, listeners[type], true));
      ['pushState', 'replaceState'].forEach((name) => {
        const change = /** @type {any} */ (history)[name];
        /** @type {any} */ (history)[name] = (/** @type {any[]} */ ...how) => {
          change.apply(history, how);
          // Later, for the page's title follows.
          setTimeout(arrive);
        };
      });
    });
  };

  // Two tags on a page would count everything twice.
  if (!early.key) {
    // A page rendered ahead of a visit that may never come counts when it is visited.
    if (page?.prerendering) page.addEventListener('prerenderingchange', begin);
    else begin();
  }
};

const script = /** @type {HTMLScriptElement | undefined} */ (globalThis.document?.currentScript);
if (script)
  start({ endpoint: new URL('/v1/events', script.src), .../** @type {any} */ (script.dataset) });

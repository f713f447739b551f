/**
 * The demo storefront. What it tells the gateway it tells by `gateway(...)` alone, as any shop
 * would that has pasted the snippet: look for `gateway(` below.
 *
 * For tests, `[data-test=…]` stays as it is:
 *
 * - everywhere: `home`, `greeting`, `sign-up-link`, `log-out`, `basket-link`, `basket-count`,
 *   `consent-full`, `consent-limited`, `consent-none`
 * - index.html: `products`, in it `product-SKU` (a link)
 * - product.html?sku=SKU: `product-name`, `product-price`, `add-to-basket` (goes to basket.html)
 * - basket.html: `basket-lines`, in it `line-SKU`, `quantity-SKU` (an input), `remove-SKU`;
 *   `basket-total`, `basket-empty`, `to-check-out` (to sign-up.html first, for who is no customer)
 * - sign-up.html: `name`, `email`, `sign-up-submit`, `as-guest`, `problem`
 * - check-out.html: `check-out-lines`, `check-out-total`, `check-out-customer`, `pay`, `problem`
 * - thank-you.html?order=ID: `order`
 *
 * The body has `data-ready` once the page is drawn. What the shop itself keeps in localStorage:
 * `shop.basket`, `shop.customer`, `shop.consent`.
 */

/** @typedef {{sku: string, name: string, category: string, price: number, picture: string, text: string}} Product */
/** @typedef {{sku: string, quantity: number}} Line */
/** @typedef {{reference: string, lines: Line[]}} Basket */
/** @typedef {{customerId: string, contactId: string, name: string, email: string}} Customer */

const MOST_OF_ONE = 99;

/** @type {{currency: string, products: Product[]}} */
const list = await (await fetch('products.json')).json();

// What the shop keeps

/** @param {string} name */
const kept = (name) => JSON.parse(localStorage.getItem(`shop.${name}`) || 'null');

/** @param {string} name @param {unknown} value */
const keep = (name, value) => localStorage.setItem(`shop.${name}`, JSON.stringify(value));

/** @returns {Basket} */
const basket = () => kept('basket') || { reference: newReference(), lines: [] };

/** @returns {Customer | null} */
const customer = () => kept('customer');

const newReference = () =>
  'c-' + [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(36)).join('');

// Small change

/** @param {string} id @returns {any} the element: each page has the ones that its part below asks for */
const element = (id) => document.getElementById(id);

/** @param {string} id @param {string} text */
const say = (id, text) => {
  element(id).textContent = text;
};

/**
 * @param {string} tag
 * @param {Record<string, any>} properties
 * @param {(Node | string)[]} children
 */
const make = (tag, { test, ...properties }, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  if (test) made.dataset.test = test;
  made.append(...children);
  return made;
};

/** @param {number} amount in minor units */
const money = (amount) =>
  new Intl.NumberFormat(document.documentElement.lang, {
    style: 'currency',
    currency: list.currency,
    minimumFractionDigits: amount % 100 ? 2 : 0,
  }).format(amount / 100);

/** @param {string | null} sku */
const productOf = (sku) => list.products.find((product) => product.sku === sku);

/** @param {Line} line */
const priceOf = ({ sku, quantity }) => (productOf(sku)?.price || 0) * quantity;

/** @param {Basket} of */
const totalOf = ({ lines }) => lines.reduce((sum, line) => sum + priceOf(line), 0);

/** The shop's back end. @param {string} path @param {unknown} body */
const ask = async (path, body) => {
  const answer = await fetch(path, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
};

/** @param {string} text */
const complain = (text) => {
  say('problem', text);
  element('problem').hidden = false;
};

/**
 * Changes how many of a product are in the basket, and tells the gateway the whole of it.
 * @param {string} sku
 * @param {(before: number) => number} change
 * @returns {number} how many there are now
 */
const changeQuantity = (sku, change) => {
  const { reference, lines } = basket();
  const before = lines.find((line) => line.sku === sku)?.quantity || 0;
  const quantity = Math.min(MOST_OF_ONE, Math.max(0, change(before)));
  if (quantity === before) return before;
  const others = lines.map((line) => (line.sku === sku ? { sku, quantity } : line));
  const all = before ? others : [...lines, { sku, quantity }];
  const items = all.filter((line) => line.quantity);
  keep('basket', { reference, lines: items });
  gateway('cart', { cartReference: reference, url: new URL('basket.html', location.href).href, items });
  return quantity;
};

// Every page

const drawHeader = () => {
  const who = customer();
  const count = basket().lines.reduce((sum, line) => sum + line.quantity, 0);
  say('basket-count', String(count));
  say('greeting', who ? `Hej ${who.name}` : '');
  element('sign-up-link').hidden = Boolean(who);
  element('log-out').hidden = !who;
};

const prepareEveryPage = () => {
  drawHeader();
  element('log-out').addEventListener('click', () => {
    gateway('reset');
    localStorage.removeItem('shop.customer');
    localStorage.removeItem('shop.basket');
    location.href = 'index.html';
  });
  const choice = localStorage.getItem('shop.consent') || 'full';
  element('consent').querySelector(`[value=${choice}]`).checked = true;
  element('consent').addEventListener('change', (/** @type {any} */ { target }) => {
    localStorage.setItem('shop.consent', target.value);
    gateway('consent', target.value);
  });
};

// Each page

const drawProducts = () => {
  const cards = list.products.map(({ sku, name, price, picture }) =>
    make(
      'li',
      {},
      make(
        'a',
        { href: `product.html?sku=${encodeURIComponent(sku)}`, test: `product-${sku}` },
        make('img', { src: picture, alt: '', width: 320, height: 240 }),
        make('span', { className: 'name' }, name),
        make('span', { className: 'price' }, money(price)),
      ),
    ),
  );
  element('products').append(...cards);
};

const drawProduct = () => {
  const product = productOf(new URLSearchParams(location.search).get('sku'));
  if (!product) {
    say('product-name', 'Den varan finns inte');
    element('product-picture').hidden = true;
    element('add-to-basket').hidden = true;
    return;
  }
  document.title = `${product.name} – Norrsken Hem`;
  element('product-picture').src = product.picture;
  say('product-category', product.category);
  say('product-name', product.name);
  say('product-text', product.text);
  say('product-price', money(product.price));
  gateway('product', { itemId: product.sku, category: product.category });
  element('add-to-basket').disabled = false;
  element('add-to-basket').addEventListener('click', () => {
    changeQuantity(product.sku, (before) => before + 1);
    // At once: the event arrives all the same.
    location.href = 'basket.html';
  });
};

/** @param {Line} line */
const drawLine = ({ sku, quantity }) => {
  const name = productOf(sku)?.name || sku;
  const sum = make('td', {}, money(priceOf({ sku, quantity })));
  const input = make('input', {
    type: 'number',
    min: '1',
    max: String(MOST_OF_ONE),
    value: String(quantity),
    ariaLabel: `Antal, ${name}`,
    test: `quantity-${sku}`,
    onchange: () => {
      const wanted = Math.trunc(Number(input.value));
      if (wanted < 1) return;
      quantity = changeQuantity(sku, () => wanted);
      input.value = String(quantity);
      sum.textContent = money(priceOf({ sku, quantity }));
      drawTotals();
    },
  });
  const remove = () => {
    changeQuantity(sku, () => 0);
    drawBasket();
  };
  return make(
    'tr',
    { test: `line-${sku}` },
    make('td', {}, make('a', { href: `product.html?sku=${encodeURIComponent(sku)}` }, name)),
    make('td', {}, input),
    sum,
    make(
      'td',
      {},
      make('button', { className: 'plain', test: `remove-${sku}`, onclick: remove }, 'Ta bort'),
    ),
  );
};

const drawTotals = () => {
  say('basket-total', money(totalOf(basket())));
  drawHeader();
};

const drawBasket = () => {
  const now = basket();
  element('basket-empty').hidden = now.lines.length > 0;
  element('basket').hidden = now.lines.length === 0;
  element('basket-lines').replaceChildren(...now.lines.map(drawLine));
  drawTotals();
  element('to-check-out').href = customer() ? 'check-out.html' : 'sign-up.html';
};

const prepareSignUp = () => {
  const form = element('sign-up');
  element('as-guest').hidden = basket().lines.length === 0;
  form.addEventListener('submit', async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const name = element('name').value.trim();
    const email = element('email').value.trim();
    if (!form.checkValidity() || !name) return complain('Fyll i namn och e-post.');
    try {
      const { customerId, contactId } = await ask('/api/sign-up', { name, email });
      keep('customer', { customerId, contactId, name, email });
      const about = { customerId, customerEmail: email, customerName: name };
      gateway('identify', { contactId, ...about });
      gateway('lead', { eventName: 'Sign up', ...about });
      location.href = basket().lines.length ? 'check-out.html' : 'index.html';
    } catch (error) {
      console.warn(error);
      complain('Det gick inte. Är e-postadressen rätt? Försök igen.');
    }
  });
};

const prepareCheckOut = () => {
  const { reference, lines } = basket();
  const who = customer();
  element('check-out-empty').hidden = lines.length > 0;
  element('check-out').hidden = lines.length === 0;
  element('check-out-lines').append(
    ...lines.map((line) =>
      make('li', {}, `${line.quantity} × ${productOf(line.sku)?.name || line.sku}`),
    ),
  );
  say('check-out-total', money(totalOf({ reference, lines })));
  say('check-out-customer', who ? `${who.name}, ${who.email}` : 'Utan kundkonto');
  element('pay').addEventListener('click', async () => {
    element('pay').disabled = true;
    try {
      const { invoiceId, amount, currency } = await ask('/api/check-out', { items: lines });
      gateway('sale', {
        amount,
        currency,
        invoiceId,
        cartReference: reference,
        ...(who && {
          customerId: who.customerId,
          customerEmail: who.email,
          customerName: who.name,
        }),
      });
      localStorage.removeItem('shop.basket');
      location.href = `thank-you.html?order=${encodeURIComponent(invoiceId)}`;
    } catch (error) {
      console.warn(error);
      element('pay').disabled = false;
      complain('Betalningen gick inte igenom. Försök igen.');
    }
  });
};

const drawThanks = () => say('order', new URLSearchParams(location.search).get('order') || '–');

/** @type {Record<string, () => void>} */
const pages = {
  products: drawProducts,
  product: drawProduct,
  basket: drawBasket,
  'sign-up': prepareSignUp,
  'check-out': prepareCheckOut,
  'thank-you': drawThanks,
};

prepareEveryPage();
pages[/** @type {string} */ (document.body.dataset.page)]();
document.body.dataset.ready = '';

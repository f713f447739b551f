/** For tests: loads an adapter as a page does, and records what it tells the collector. */

let pages = 0;

/**
 * @param {string} name the adapter's
 * @param {object} page what the page's global object holds, beside the collector
 * @param {object} options the tag's data attributes
 * @param {object} [cart] the latest, as the collector keeps it
 * @returns the adapter's exports, and `calls`, as [command, fields], in order
 */
export async function loaded(name, page = {}, options = {}, cart = undefined) {
  const calls = [];
  const names = ['dataLayer', 'va', 'dubAnalytics', 'VoyadoAnalyticsObject', ...Object.keys(page)];
  for (const name of names) delete globalThis[name];
  const gateway = async (command, fields) => {
    try {
      const said = typeof fields === 'function' ? fields(cart) : fields;
      if (command === 'cart') cart = said.items[0] && said;
      // As the collector sends them: what is undefined is left out.
      calls.push([command, JSON.parse(JSON.stringify(said))]);
    } catch (error) {
      // The collector drops it and explains; its promise is never rejected.
      console.debug(error);
    }
  };
  Object.assign(globalThis, { gateway, document: { currentScript: { dataset: options } } }, page);
  const exports = await import(`../${name}.js?${pages++}`);
  return { ...exports, calls };
}

/** The debug lines that the action makes the console print; they are not printed. */
export async function explained(action) {
  const { debug } = console;
  const lines = [];
  console.debug = (...words) => lines.push(words.join(' '));
  try {
    await action();
  } finally {
    console.debug = debug;
  }
  return lines;
}

/** What the adapters share. Of the collector they know only its global `gateway(…)`. */

/** @typedef {Record<string, any>} Fields */

/**
 * Wraps a function of an adapter's, so that nothing it throws reaches the page: that one call is
 * lost, and the console says why to who looks (browsers hide this level unless asked).
 * @param {(...said: any[]) => void} action
 */
export const safely =
  (action) =>
  (/** @type {any[]} */ ...said) => {
    try {
      action(...said);
    } catch (error) {
      console.debug(error);
    }
  };

/**
 * An id as text; null where there is none, also where a template has printed a word for none.
 * @param {any} id
 */
export const text = (id) => (/^(undefined|null)?$/.test(id) ? null : '' + id);

/**
 * The collector as an ES module, for bundlers, workers and shop systems' sandboxes for pixels:
 *
 *     import { gateway, start } from 'https://shop.example/collector.mjs';
 *     start({ key: 'pk_shop', endpoint: 'https://shop.example/v1/events', consent: 'wait' });
 *     gateway('page', { url: 'https://shop.example/', title: 'Start' });
 *
 * Nothing begins before `start`. Where there is no document, an event says its `url` itself, and
 * what is known lives as long as the worker.
 */

export { start } from './collector.js';

/**
 * Calls the collector; before it has started, keeps the call.
 * @type {import('./gateway.d.ts').Gateway}
 */
export const gateway = (/** @type {[string, any?]} */ ...call) => {
  globalThis.gateway ||= (/** @type {any[]} */ ...early) =>
    new Promise((resolve) => {
      (globalThis.gateway.q ||= []).push(Object.assign(early, { r: resolve }));
    });
  return globalThis.gateway(...call);
};

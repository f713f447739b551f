/**
 * The collector's interface: the global `gateway(command, fields)`.
 *
 * Amounts are integers in minor units (4990 is 49.90 SEK). Ids never stand in for one another:
 * `customerId` is the shop's account, `contactId` Voyado's person, `clickId` Dub's click.
 */

/** What every event may carry beside its own fields; it wins over what the collector knows. */
export interface CommonFields {
  customerId?: string | null;
  contactId?: string | null;
  clickId?: string | null;
  language?: string;
  url?: string;
  metadata?: Record<string, unknown>;
}

export interface PageFields extends CommonFields {
  /** At most 500 characters; the document's title if left out. */
  title?: string;
}

export interface ProductFields extends CommonFields {
  itemId: string;
  /** As a path: `"Shoes > Running"`. */
  category?: string;
}

export interface CartItem {
  sku: string;
  /** 1 to 999,999. */
  quantity: number;
}

/** The whole cart as it is now; `items: []` says that it was emptied. */
export interface CartFields extends CommonFields {
  cartReference: string;
  /** The link back to the cart. */
  url: string;
  items: CartItem[];
}

export interface Profile {
  customerName?: string;
  customerEmail?: string;
  customerAvatar?: string;
  /** Two letters. */
  country?: string;
}

export interface LeadFields extends CommonFields, Profile {
  eventName: string;
  mode?: 'async' | 'wait' | 'deferred';
  eventQuantity?: number;
}

export interface SaleFields extends CommonFields, Profile {
  /** Minor units, never negative. */
  amount: number;
  currency?: string;
  /** The same here and in the shop's own server-side sale, so that the two count once. */
  invoiceId?: string;
  /** The cart that was bought: the gateway empties it. */
  cartReference?: string;
  eventName?: string;
  leadEventName?: string;
  paymentProcessor?: string;
}

export interface CustomerFields extends CommonFields, Profile {}

export interface CustomFields extends CommonFields {
  eventName: string;
}

/** Who this is. An id given as `null` is forgotten; one left out stays as it was. */
export interface IdentifyFields extends Profile {
  customerId?: string | null;
  contactId?: string | null;
  eclub?: string | null;
}

/**
 * `full` stores and identifies; `limited` (the default) sends events that identify nobody and
 * stores nothing on the device; `none` sends nothing.
 */
export type Consent = 'full' | 'limited' | 'none';

export interface Gateway {
  (command: 'page', fields?: PageFields): void;
  (command: 'product', fields: ProductFields): void;
  (command: 'cart', fields: CartFields): void;
  (command: 'lead', fields: LeadFields): void;
  (command: 'sale', fields: SaleFields): void;
  (command: 'customer', fields: CustomerFields): void;
  (command: 'custom', fields: CustomFields): void;
  (command: 'identify', fields: IdentifyFields): void;
  (command: 'consent', choice: Consent): void;
  /** Log-out: forgets who this is and empties the cart. */
  (command: 'reset'): void;
  /** Explains on the console what is sent, refused and why; `false` ends it. */
  (command: 'debug', on?: boolean): void;
  (command: string, fields?: any): void;
  /** Calls made before the script has loaded. */
  q?: Iterable<any>[];
}

declare global {
  var gateway: Gateway;
  interface Window {
    /** The key of the collector that runs on this page. */
    gatewayKey?: string;
  }
  interface Document {
    /** Chromium: the page is rendered ahead of a visit that may never come. */
    readonly prerendering?: boolean;
  }
  interface Navigator {
    readonly globalPrivacyControl?: boolean;
  }
}

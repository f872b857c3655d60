// The page's own server signs a token for each visitor: it reaches one number, for twenty minutes at most, and nothing else.

import { createHmac } from 'node:crypto';

const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

/**
 * A token (JWT, HS256) for one visitor and one destination; `secret` is that of [auth] in the gateway's configuration.
 * `visitor` is what the page made up for itself, and nobody else knows: the same gives the same user.
 */
export function visitorToken(secret, destination, visitor, now = Date.now()) {
  const claims = {
    sub: `visitor-${createHmac('sha256', secret).update(`visitor ${visitor}`).digest('hex').slice(0, 16)}`,
    destinations: [destination],
    max_duration: 1200,
    exp: Math.floor(now / 1000) + 60, // it is fetched at the click; the call may go on past it
  };
  const signed = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode(claims)}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

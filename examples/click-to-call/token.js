// The page's own server signs a token for each visitor: it reaches one number, for twenty minutes at most, and nothing else.

import { createHmac, randomUUID } from 'node:crypto';

const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** A token (JWT, HS256) for one visitor and one destination; `secret` is that of [auth] in the gateway's configuration. */
export function visitorToken(secret, destination, now = Date.now()) {
  const claims = {
    sub: `visitor-${randomUUID().slice(0, 8)}`,
    destinations: [destination],
    max_duration: 1200,
    exp: Math.floor(now / 1000) + 60, // it is fetched at the click; the call may go on past it
  };
  const signed = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode(claims)}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

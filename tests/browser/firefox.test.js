/** Firefox: the core cases. */

import { after, before, describe, test } from 'node:test';
import * as cases from './lib/cases.js';
import { Firefox } from './lib/firefox.js';
import { Gateway } from './lib/gateway.js';
import { Network, speech } from './lib/stage.js';

let firefox;
before(async () => { firefox = await Firefox.launch({ microphone: speech.caller.file }); });
after(() => firefox?.close());
const opener = (t) => cases.opener(t, () => firefox);

describe('Firefox and the test phone', () => {
  let gateway;
  before(async () => { gateway = await Gateway.embedded(); });
  after(() => gateway?.end());

  test('600 says back what was said', (t) => cases.echo(opener(t), gateway, 'firefox'));
  test('601 is heard soon after the click', (t) => cases.clickToSound(opener(t), gateway, 'firefox'));
  test('602 plays back the digits that are pressed', (t) => cases.digits(opener(t), gateway));
  test('603 is busy, and the page says so', (t) => cases.busy(opener(t), gateway, 'firefox'));
});

describe('Firefox and SIPp', () => {
  let network;
  before(async () => { network = await Network.start(); });
  after(() => network?.end());

  test('a call out, hung up by the page, heard at both ends', (t) => cases.outbound(opener(t), network, t));
  test('a call out, hung up by the phone', (t) => cases.hungUpByPhone(opener(t), network, t));
  test('a call in, hung up by the page, heard at both ends', (t) => cases.inbound(opener(t), network, t));
  test('a call in, hung up by the phone', (t) => cases.inboundHungUpByPhone(opener(t), network, t));
});

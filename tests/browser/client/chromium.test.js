/** The client in Chromium: all of its API, in a page of another origin with a strict policy. */

import { describe, test } from 'node:test';
import { Chromium } from '../lib/chromium.js';
import { stage } from '../lib/stage.js';
import * as cases from './cases.js';
import * as members from './members.js';
import { ClientNetwork } from './network.js';
import { Pages } from './pages.js';

const scene = stage(Chromium, Pages, ClientNetwork);

const holds = (what, run) => test(what, (t) => run(cases.opener(t, scene), scene.network, t, scene.pages));

describe('the client in Chromium', () => {
  holds('calls out: what is heard, told and measured', cases.outbound);
  holds('is called', cases.inbound);
  holds('declines', cases.declined);
  holds('ignores what rings on elsewhere', cases.ignored);
  holds('mutes and holds', cases.muteAndHold);
  holds('sends digits with pauses', cases.digits);
  holds('is refused, and told why', cases.refused);
  holds('is busy while it talks', cases.whileBusy);
  holds('transfers to a number', cases.blindTransfer);
  holds('transfers one call to another', cases.attendedTransfer);
  holds('chooses devices', cases.devices);
  holds('asks what would become of a number', cases.check);
  holds('renews its token', cases.renewal);
  holds('tells what the other side does, and how loud both are', members.theirs);
  holds('keeps to its options, and aborts', members.options);
  holds('speaks with a stream of the page’s', members.ownStream);
  holds('refuses as the page words it', members.refusals);
  holds('plays and rings where it is told', members.loudspeakers);
  holds('tells when the microphone goes, and when it is back', members.unplugged);
  holds('says why it cannot call', members.unsupported);
  holds('tells who is there, and lets itself be known', members.whoIsThere);
  holds('is heard as the page wants it', members.asItIsHeard);
  holds('plays the sounds of the page', members.sounds);
  holds('makes ready for a call', members.beforeCall);
  holds('outlives its socket', cases.lostSocket);
  holds('outlives its page', cases.reload);
  holds('ends with its page, where no other comes', cases.closed);
  holds('finds another path for its sound', cases.iceRestart);
});

test('what is wrong in a page is noticed', (t) => cases.noticed(scene, t));

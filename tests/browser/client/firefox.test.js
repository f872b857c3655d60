/** The client in Firefox: a call both ways, and what calls outlive. */

import { describe, test } from 'node:test';
import { Firefox } from '../lib/firefox.js';
import { stage } from '../lib/stage.js';
import * as cases from './cases.js';
import { ClientNetwork } from './network.js';
import { Pages } from './pages.js';

const scene = stage(Firefox, Pages, ClientNetwork);

const holds = (what, run) => test(what, (t) => run(cases.opener(t, scene), scene.network, t));

describe('the client in Firefox', () => {
  holds('calls out: what is heard, told and measured', cases.outbound);
  holds('is called', cases.inbound);
  holds('outlives its socket', cases.lostSocket);
  holds('outlives its page', cases.reload);
  holds('finds another path for its sound', cases.iceRestart);
});

test('what is wrong in a page is noticed', (t) => cases.noticed(scene, t));

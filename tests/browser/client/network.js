/** A gateway that pages of another origin may use, with a second telephone network to transfer to. */

import { freeUdpPort } from '../lib/processes.js';
import { Network, OUTSIDE } from '../lib/stage.js';

/** A number of the second network. */
export const ELSEWHERE = '+33142685300';

/** Pages may show alice's numbers, and tell the other side what they know. */
const RULES = `
[caller_id]
allowed = "+4420794601XX"

[[out]]
name = "elsewhere"
prefix = ["+33"]
tiers = [["elsewhere"]]

[[out]]
name = "hotline"
number = "hotline" # the button's of docs/browser-client.md
to = "${OUTSIDE}"
tiers = [["sipp"]]
`;

export class ClientNetwork extends Network {
  /** `origin` is the pages', where there are others than the gateway's own; `certificate` as of every network. */
  static async start({ origin, certificate } = {}) {
    const elsewhere = await freeUdpPort();
    const sections = `
[trunk.elsewhere]
options = 0
address = "127.0.0.1:${elsewhere}"
codecs = ["PCMU"]
refer = "never"
`;
    const network = await super.start({ certificate, origins: origin && [origin], trunk: 'refer = "never"\nparams = true\ntrust_identity = true', sections, rules: RULES });
    network.elsewherePort = elsewhere;
    return network;
  }

  get phoneUrl() { return this.socket('phone'); }

  /** What a page's phone is made with. */
  options(user) { return { url: this.phoneUrl, token: this.token(user) }; }
}

/** A gateway that lets web phones of other origins register, with a second telephone network to transfer to. */

import { freeUdpPort } from '../lib/processes.js';
import { Network } from '../lib/stage.js';

export const DOMAIN = 'phones.example';
/** A number of the second network. */
export const ELSEWHERE = '+33142685300';

const PASSWORDS = { alice: 'the password of alice', bob: 'the password of bob' };

const RULES = `
[[out]]
name = "elsewhere"
prefix = ["+33"]
tiers = [["elsewhere"]]
`;

export class OpenNetwork extends Network {
  /** `origin` is the pages', `within` the gateway's namespace; `certificate` and further lines of the `trunk` as of every network. */
  static async start({ origin, within, certificate, trunk = '' }) {
    const elsewhere = await freeUdpPort();
    const users = Object.entries(PASSWORDS).map(([user, password]) => `${user} = { password = "${password}" }`).join('\n');
    const network = await super.start({
      within, certificate, origins: [origin],
      // Transfers are ours to do: these phones know no REFER.
      trunk: `refer = "never"\n${trunk}`,
      sections: `
[trunk.elsewhere]
options = 0
address = "127.0.0.1:${elsewhere}"
codecs = ["PCMU"]
refer = "never"

[registrar]
realm = "${DOMAIN}"
[registrar.users]
${users}
`,
      rules: RULES,
    });
    network.elsewherePort = elsewhere;
    return network;
  }

  /** What a library is told of a user: by password, or by the session token that our own pages use. */
  account(user, { bearer = false, ...more } = {}) {
    return {
      socket: this.socket('sip'), door: this.socket('phone'), uri: `sip:${user}@${DOMAIN}`, user, realm: DOMAIN,
      ...(bearer ? { token: this.token(user) } : { password: PASSWORDS[user] }), ...more,
    };
  }
}

export const uri = (number) => `sip:${number}@${DOMAIN}`;

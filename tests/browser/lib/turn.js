/** coturn as it comes from Debian, with time-limited credentials. */

import { mkdtempSync } from 'node:fs';
import path from 'node:path';
import { freeTcpPort, Program } from './processes.js';

const SECRET = 'what the gateway and coturn know';

export class Turn extends Program {
  static async start(out) {
    const port = await freeTcpPort();
    const dir = mkdtempSync(path.join(out, 'turn-'));
    const turn = new Turn('turnserver', [
      '-n', '--listening-ip=127.0.0.1', '--relay-ip=127.0.0.1', `--listening-port=${port}`, '--min-port=42000', '--max-port=42099',
      '--use-auth-secret', `--static-auth-secret=${SECRET}`, '--realm=turn.example', '--allow-loopback-peers', '--no-cli', '--no-tls',
      '--no-dtls', '--fingerprint',
      // As docs/operations.md says: the gateway alone is reached through it.
      '--denied-peer-ip=0.0.0.0-255.255.255.255', '--denied-peer-ip=::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', '--allowed-peer-ip=127.0.0.1',
      '--verbose', '--log-file=stdout', `--pidfile=${path.join(dir, 'pid')}`, `--userdb=${path.join(dir, 'db')}`,
    ]);
    turn.port = port;
    await turn.says(/TCP listener opened on/);
    return turn;
  }

  /** `[turn]` of the gateway: this server over `transports`. */
  section(...transports) {
    const urls = transports.map((transport) => `"turn:127.0.0.1:${this.port}?transport=${transport}"`);
    return `\n[turn]\nurls = [${urls.join(', ')}]\nsecret = "${SECRET}"\nttl = 3600\n`;
  }

  /** The users whose allocations it has made so far. */
  get users() { return [...this.output.matchAll(/user <([^>]*)>: incoming packet ALLOCATE processed, success/g)].map(([, user]) => user); }
}

/** coturn as it comes from Debian, with time-limited credentials. */

import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { freeTcpPort, Program, until } from './processes.js';

const SECRET = 'what the gateway and coturn know';

export class Turn extends Program {
  /** `within` is the namespace to run in, where it is not the tests' own. */
  static async start(out, { within } = {}) {
    const host = within?.address ?? '127.0.0.1';
    const port = await freeTcpPort();
    const dir = mkdtempSync(path.join(out, 'turn-'));
    const turn = new Turn('turnserver', [
      '-n', `--listening-ip=${host}`, `--relay-ip=${host}`, `--listening-port=${port}`, '--min-port=42000', '--max-port=42099',
      '--use-auth-secret', `--static-auth-secret=${SECRET}`, '--realm=turn.example', '--allow-loopback-peers', '--no-cli', '--no-tls',
      '--no-dtls', '--fingerprint',
      // As docs/operations.md says: the gateway alone is reached through it.
      '--denied-peer-ip=0.0.0.0-255.255.255.255', '--denied-peer-ip=::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff', `--allowed-peer-ip=${host}`,
      '--verbose', '--log-file=stdout', `--pidfile=${path.join(dir, 'pid')}`, `--userdb=${path.join(dir, 'db')}`,
    ], { within });
    turn.host = host;
    turn.port = port;
    await turn.says(/TCP listener opened on/);
    return turn;
  }

  /** What it is, in a test's name. */
  static kind = 'coturn';
  host = '127.0.0.1';

  /** `[turn]` of the gateway: this server over `transports`. */
  section(...transports) {
    const urls = transports.map((transport) => `"turn:${this.host}:${this.port}?transport=${transport}"`);
    return `\n[turn]\nurls = [${urls.join(', ')}]\nsecret = "${SECRET}"\nttl = 3600\n`;
  }

  /** The users whose allocations it has made so far. */
  get users() { return [...this.output.matchAll(/user <([^>]*)>: incoming packet ALLOCATE processed, success/g)].map(([, user]) => user); }
}

const COMPOSE = ['-p', 'ringback-turn', '-f', fileURLToPath(new URL('../../../docker-compose.yml', import.meta.url))];
const STARTS_WITHIN_MS = 300_000; // its image may have to be made

/** Whether something listens there. */
async function answers(port) {
  const socket = net.connect(port, '127.0.0.1');
  const taken = await once(socket, 'connect').then(() => true, () => false); // which an error rejects
  socket.destroy();
  return taken;
}

/** The same as docker-compose.yml has it: the profile `turn`, on this machine's own loopback. */
export class ComposedTurn extends Turn {
  static kind = 'docker-compose.yml’s coturn';
  static #environment = { ...process.env, RINGBACK_TURN_SECRET: SECRET, DOCKER_BUILDKIT: '0', COMPOSE_DOCKER_CLI_BUILD: '0' };

  static async start() {
    const turn = new ComposedTurn('docker-compose', [...COMPOSE, '--profile', 'turn', 'up', '--no-color', 'turn'], { env: ComposedTurn.#environment });
    turn.port = 3478;
    try {
      await turn.says(/DB connection success/, STARTS_WITHIN_MS);
      await until(() => answers(turn.port), 'the container’s coturn');
    } catch (error) {
      await turn.end();
      throw error;
    }
    return turn;
  }

  /** Its log does not name them. */
  get users() { return null; }

  async end() {
    execFileSync('docker-compose', [...COMPOSE, '--profile', 'turn', 'down', '--timeout', '5'], { env: ComposedTurn.#environment, stdio: 'ignore' });
    await super.end();
  }
}

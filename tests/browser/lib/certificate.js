/** A certificate of the test's own making, as a gateway shows that speaks https and wss itself. */

import { execFileSync } from 'node:child_process';
import { createHash, X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync } from 'node:fs';
import path from 'node:path';

const DAYS = 2;

export class Certificate {
  /** One for `127.0.0.1` in a folder of its own in `out`. */
  constructor(out) {
    const dir = mkdtempSync(path.join(out, 'certificate-'));
    this.file = path.join(dir, 'certificate.pem');
    this.key = path.join(dir, 'key.pem');
    execFileSync('openssl', [
      'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', String(DAYS), '-subj', '/CN=127.0.0.1',
      '-addext', 'subjectAltName=IP:127.0.0.1', '-addext', 'basicConstraints=critical,CA:FALSE', '-keyout', this.key, '-out', this.file,
    ], { stdio: ['ignore', 'ignore', 'pipe'] });
  }

  /** The lines of `[http]` with it. */
  get lines() { return `tls_certificate = "${this.file}"\ntls_key = "${this.key}"`; }

  /** SHA-256 of its public key, as browsers are told which one to trust. */
  get fingerprint() {
    const key = new X509Certificate(readFileSync(this.file)).publicKey.export({ type: 'spki', format: 'der' });
    return createHash('sha256').update(key).digest('base64');
  }
}

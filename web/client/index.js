export { Call } from './call.js';
export { Phone } from './phone.js';
export { PhoneError } from './texts.js';

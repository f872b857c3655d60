//! The built-in test phone: a real SIP and RTP endpoint on loopback.

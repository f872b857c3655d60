//! Sockets, RTP ports, interface addresses.

//! The tokio shell: WebSocket, SIP transports, HTTP, shutdown.

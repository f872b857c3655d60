//! Networks: which addresses a trunk's packets may come from.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use thiserror::Error;

/// An address with the bits of it that count (CIDR, [RFC 4632](https://www.rfc-editor.org/rfc/rfc4632#section-3.1)).
/// IPv4 addresses in IPv6's mapped form are the same as without it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Network {
    ip: IpAddr,
    bits: u8,
}

/// A text that is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// Not an IPv4 or IPv6 address before the slash.
    #[error("not an IPv4 or IPv6 address")]
    Address,
    /// More bits than an address has, or no number.
    #[error("not a number of bits after the slash")]
    Bits,
    /// Bits are set beyond the network's own: a typing mistake more often than a wish.
    #[error("bits are set after the network's own; the network is {0}")]
    HostBits(Network),
}

impl Network {
    /// Whether `ip` is of this network.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.ip, ip.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                own.to_bits() & mask == other.to_bits() & mask
            }
            _ => false,
        }
    }

    fn base(ip: IpAddr, bits: u8) -> IpAddr {
        match ip {
            IpAddr::V4(ip) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
                IpAddr::V4((ip.to_bits() & mask).into())
            }
            IpAddr::V6(ip) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
                IpAddr::V6((ip.to_bits() & mask).into())
            }
        }
    }
}

impl From<IpAddr> for Network {
    fn from(ip: IpAddr) -> Network {
        let ip = ip.to_canonical();
        Network { ip, bits: if ip.is_ipv4() { 32 } else { 128 } }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Network, NetworkError> {
        let (ip, bits) = match text.split_once('/') {
            Some((ip, bits)) => (ip, Some(bits)),
            None => (text, None),
        };
        let ip: IpAddr = ip.parse().map_err(|_| NetworkError::Address)?;
        let Some(bits) = bits else { return Ok(Network::from(ip)) };
        let most = if ip.is_ipv4() { 32 } else { 128 };
        let digits = !bits.is_empty() && bits.bytes().all(|byte| byte.is_ascii_digit());
        let bits: u8 = bits.parse().ok().filter(|bits| digits && *bits <= most).ok_or(NetworkError::Bits)?;
        let base = Network::base(ip, bits);
        if base != ip {
            return Err(NetworkError::HostBits(Network { ip: base, bits }));
        }
        Ok(Network { ip, bits })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let single = self.bits == if self.ip.is_ipv4() { 32 } else { 128 };
        if single { self.ip.fmt(f) } else { write!(f, "{}/{}", self.ip, self.bits) }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn networks_hold_their_addresses_and_no_others() {
        for (network, inside, outside) in [
            ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("192.0.2.7", "::ffff:192.0.2.7", "::ffff:192.0.2.8"),
            ("54.172.60.0/30", "54.172.60.3", "54.172.60.4"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("2001:db8::1", "2001:db8::1", "192.0.2.1"),
        ] {
            let parsed: Network = network.parse().unwrap();
            assert!(parsed.contains(inside.parse().unwrap()), "{network} {inside}");
            assert!(!parsed.contains(outside.parse().unwrap()), "{network} {outside}");
            assert_eq!(parsed.to_string(), network);
        }
        let all: Network = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("255.255.255.255".parse().unwrap()) && !all.contains("::1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for (text, error) in [
            ("192.0.2/24", NetworkError::Address),
            ("192.0.2.0/33", NetworkError::Bits),
            ("192.0.2.0/+8", NetworkError::Bits),
            ("192.0.2.0/", NetworkError::Bits),
            ("2001:db8::/129", NetworkError::Bits),
            ("192.0.2.1/24", NetworkError::HostBits("192.0.2.0/24".parse().unwrap())),
        ] {
            assert_eq!(text.parse::<Network>(), Err(error), "{text}");
        }
    }
}

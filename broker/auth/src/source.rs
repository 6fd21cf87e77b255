//! Networks that users may come from. Not their addresses' discovery.

use std::net::IpAddr;

/// An address and how many of its bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Reads `10.0.0.0/8` or `fd00::/8`.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        if bits.is_empty() || !bits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let bits: u8 = bits.parse().ok()?;
        (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some(Self { address, bits })
    }

    /// Whether the address lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let differing = u32::from(own) ^ u32::from(other);
                differing.leading_zeros() >= u32::from(self.bits)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let differing = u128::from(own) ^ u128::from(other);
                differing.leading_zeros() >= u32::from(self.bits)
            }
            _ => false,
        }
    }
}

/// Whether the address lies in one of the networks; anywhere when there are none, nowhere when one cannot be read.
pub fn is_allowed(networks: &[String], address: IpAddr) -> bool {
    if networks.is_empty() {
        return true;
    }
    for network in networks {
        match Network::parse(network) {
            None => return false,
            Some(network) if network.contains(address) => return true,
            Some(_) => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_lies_in_its_network_only() {
        let allowed = |networks: &[&str], address: &str| {
            let networks: Vec<String> = networks.iter().map(|network| (*network).to_owned()).collect();
            is_allowed(&networks, address.parse().expect("an address"))
        };
        assert!(allowed(&[], "1.2.3.4"));
        assert!(allowed(&["10.0.0.0/8"], "10.200.1.1") && !allowed(&["10.0.0.0/8"], "11.0.0.1"));
        assert!(allowed(&["0.0.0.0/0"], "8.8.8.8") && !allowed(&["0.0.0.0/0"], "::1"));
        assert!(allowed(&["127.0.0.1/32"], "::ffff:127.0.0.1"));
        assert!(allowed(&["fd00::/8", "1.2.3.4/32"], "1.2.3.4") && allowed(&["fd00::/8"], "fd12::1"));
        for bad in ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/-1", "x/8", "10.0.0.0/+8", "/"] {
            assert!(Network::parse(bad).is_none(), "{bad}");
        }
        assert!(!allowed(&["bad", "0.0.0.0/0"], "1.2.3.4"));
    }
}

//! The host's name servers, from /etc/resolv.conf (resolv.conf(5)).

use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, SocketAddr};

/// As many as the C library asks (`MAXNS`).
const MOST: usize = 3;

/// Bytes of the file that are read.
const LARGEST: u64 = 64 << 10;

/// The host's name servers, in the order in which it asks them. Read once: in the jail no file can be
/// opened. One at 127.0.0.53, systemd-resolved's, is as good as any, for it is this host that asks.
///
/// macOS keeps a resolv.conf with the servers of the primary network service; those that belong to a
/// domain alone (a VPN's, `scutil --dns`) are not in it, and are not asked.
pub fn resolvers() -> Vec<SocketAddr> {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open("/etc/resolv.conf") {
        // Where it cannot be read, there are no name servers, and the guest is told so.
        let _ = file.take(LARGEST).read_to_end(&mut bytes);
    }
    parse(&bytes)
}

fn parse(file: &[u8]) -> Vec<SocketAddr> {
    let lines = file.split(|byte| *byte == b'\n').filter_map(|line| str::from_utf8(line).ok());
    let servers = lines.filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        // An address with a zone (fe80::1%eth0) is not one to Rust, and the interface's number would
        // be no use after it has come back.
        let server: IpAddr =
            (words.next()? == "nameserver").then(|| words.next())??.parse().ok()?;
        Some(SocketAddr::new(server, 53))
    });
    servers.take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_in_their_order_and_what_else_there_is_is_not() {
        let file = b"# nameserver 9.9.9.9\nsearch example.org\nnameserver 127.0.0.53\n\
                     nameserver\t 2606:4700:4700::1111  # second\n nameserver 1.1.1.1\r\n\
                     nameserver fe80::1%eth0\nnameserver what\nnameserver\n\xff\xfe\noptions edns0\n\
                     nameserver 8.8.8.8";
        let found: Vec<_> = parse(file).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["127.0.0.53:53", "[2606:4700:4700::1111]:53", "1.1.1.1:53"]);
        assert_eq!(parse(b""), []);
    }
}

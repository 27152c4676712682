//! Who listens at a port of this host.

use super::lock::Holders;
use super::sys;
use crate::net::Transport;

/// The processes that listen at `port`, at any address, as far as this user may see. On macOS nobody:
/// the system does not say without a private interface.
pub fn holders(transport: Transport, port: u16) -> Holders {
    Holders::new(sys::port_holders(transport, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn a_port_names_the_process_that_listens_there() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("[::1]:0").or_else(|_| UdpSocket::bind("127.0.0.1:0")).unwrap();
        let found = [
            holders(Transport::Tcp, tcp.local_addr().unwrap().port()),
            holders(Transport::Udp, udp.local_addr().unwrap().port()),
        ];
        for holders in found.map(|holders| holders.to_string()) {
            let wanted = match cfg!(target_os = "linux") {
                true => format!("(pid {})", std::process::id()),
                false => "another process".into(),
            };
            assert!(holders.contains(&wanted), "{holders}");
        }
    }
}

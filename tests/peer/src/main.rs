//! `peer serve PORT` answers, or `peer serve ADDRESS:PORT`; `peer WHAT ADDRESS:PORT [NUMBER…]` asks (see `ask`), `peer vsock WHAT PORT …`
//! does both by vsock (see `vsock`).

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use peer::ask;
use peer::serve::Server;
use peer::vsock;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let result = match words.first().map(String::as_str) {
        Some("serve") => serve(words.get(1)),
        Some("vsock") => vsock::by_words(words.get(1..).unwrap_or_default()),
        _ => ask::by_words(&words),
    };
    match result {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// Serves for ever, at a port by IPv4 or at an address.
fn serve(place: Option<&String>) -> peer::Result<String> {
    let place = place.ok_or("a port is missing")?;
    let address = match place.parse() {
        Ok(port) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        Err(_) => place.parse().map_err(|error| format!("{place}: {error}"))?,
    };
    let _server = Server::start(address).map_err(|error| format!("{address}: {error}"))?;
    println!("serves");
    loop {
        std::thread::park();
    }
}

//! `peer serve PORT` answers, `peer WHAT ADDRESS:PORT [NUMBER…]` asks (see `ask`), `peer vsock WHAT PORT …`
//! does both by vsock (see `vsock`).

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

/// Serves for ever.
fn serve(port: Option<&String>) -> peer::Result<String> {
    let port = port.and_then(|port| port.parse().ok()).ok_or("a port is missing")?;
    let address = (std::net::Ipv4Addr::UNSPECIFIED, port).into();
    let _server = Server::start(address).map_err(|error| format!("port {port}: {error}"))?;
    println!("serves");
    loop {
        std::thread::park();
    }
}

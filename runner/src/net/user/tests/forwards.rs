use super::*;
use crate::net::{Forward, Transport};

/// A network that forwards a port to the guest's port 80, and where clients send to.
fn forwarding() -> (Net, SocketAddr) {
    forwarding_from("127.0.0.1:0")
}

fn forwarding_from(host: &str) -> (Net, SocketAddr) {
    let forward = Forward { transport: Transport::Udp, host: at(host), guest: 80 };
    let options = Options { forwards: vec![forward], ..options(Policy::default()) };
    let net = Net::new(options);
    let [(found, host)] = net.user.forwards()[..] else { panic!("one was forwarded") };
    assert_eq!(found, forward);
    assert_ne!(host.port(), 0);
    (net, host)
}

#[test]
fn a_client_reaches_the_guest_and_hears_from_the_port_it_sent_to() {
    let (mut net, host) = forwarding();
    let ((first, seen_first), (second, seen_second)) = (outside(), outside());
    for bytes in [&b"hello"[..], b"", &[5; 1472]] {
        for (client, seen) in [(&first, seen_first), (&second, seen_second)] {
            client.send_to(bytes, host).unwrap();
            assert_eq!(read_udp(&net.next()), (seen, guest(80), bytes.to_vec()));
            net.send(&udp(guest(80), seen, bytes));
            let mut buffer = [0; 2048];
            let (len, from) = client.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..len], from), (bytes, host));
        }
    }
    assert_eq!(net.user.udp.len(), 0);
}

#[test]
fn the_guest_answers_clients_and_nobody_else_on_this_host() {
    // N57
    let (mut net, host) = forwarding();
    let ((client, seen), (_, other)) = (outside(), outside());
    net.dropped(Cause::Refused, &udp(guest(80), seen, b"too early"));
    net.next();
    client.send_to(b"hello", host).unwrap();
    net.next();
    net.dropped(Cause::Refused, &udp(guest(81), seen, b"another port"));
    net.dropped(Cause::Refused, &udp(guest(80), other, b"another client"));
    net.some(2);
    net.now = Duration::from_secs(242);
    net.nothing();
    net.dropped(Cause::Refused, &udp(guest(80), seen, b"too late"));
}

#[test]
fn datagrams_wait_for_a_guest_that_is_not_there_yet_and_go_to_the_address_it_has() {
    let (mut net, host) = forwarding();
    net.mailbox.room = 0;
    let (client, seen) = outside();
    client.send_to(b"early", host).unwrap();
    net.nothing();
    net.user.activate(None);
    net.user.activate(Some(0));
    net.mailbox.room = 9;
    net.send(&arp(Ipv4Addr::new(10, 0, 2, 40), Ipv4Addr::new(10, 0, 2, 77)));
    assert_eq!(read_udp(&net.next()), (seen, at("10.0.2.40:80"), b"early".to_vec()));
}

#[test]
fn a_port_that_is_taken_is_an_error_before_anything_runs() {
    let (_, host) = forwarding();
    let (net, taken) = forwarding();
    assert_ne!(host, taken);
    let forward = Forward { transport: Transport::Udp, host: taken, guest: 53 };
    let options = Options { forwards: vec![forward], ..options(Policy::default()) };
    let text = User::open(options).unwrap_err().to_string();
    assert!(text.starts_with(&format!("forward UDP {taken}: the port is taken by ")), "{text}");
    drop(net);
}

#[test]
fn a_client_that_is_gone_does_not_disturb_the_others() {
    let (mut net, host) = forwarding();
    let ((gone, seen_gone), (client, seen)) = (outside(), outside());
    for socket in [&gone, &client] {
        socket.send_to(b"hello", host).unwrap();
    }
    net.some(2);
    drop(gone);
    for _ in 0..20 {
        net.send(&udp(guest(80), seen_gone, b"lost"));
        net.send(&udp(guest(80), seen, b"found"));
        assert_eq!(client.recv(&mut [0; 16]).unwrap(), 5);
    }
}

#[test]
fn the_answer_comes_from_the_address_that_the_client_has_sent_to() {
    if let Err(why) = UdpSocket::bind("127.0.0.2:0") {
        println!("skipped: this system has one address on its loopback: {why}");
        return;
    }
    let (mut net, host) = forwarding_from("0.0.0.0:0");
    // What comes from elsewhere a socket that is connected does not take.
    for (count, ours) in ["127.0.0.1", "127.0.0.2", "127.1.2.3"].into_iter().enumerate() {
        let (client, seen) = outside();
        client.connect((ours, host.port())).unwrap();
        for bytes in [&b"hello"[..], b"", &[5; 9000]] {
            client.send(bytes).unwrap();
            net.some(if bytes.len() > 1472 { 7 } else { 1 });
            net.send(&udp(guest(80), seen, &bytes[..bytes.len().min(1472)]));
            let len = client.recv(&mut [0; 2048]).unwrap();
            assert_eq!(len, bytes.len().min(1472), "{count} {ours}");
        }
        // The same client elsewhere is another to the guest.
        client.connect((Ipv4Addr::new(127, 9, 9, 9), host.port())).unwrap();
        client.send(b"again").unwrap();
        let (other, _, _) = read_udp(&net.next());
        assert_ne!(other, seen);
        net.send(&udp(guest(80), other, b"back"));
        assert_eq!(client.recv(&mut [0; 16]).unwrap(), 4);
    }
}

#[test]
fn an_answer_to_a_broadcast_comes_from_some_address() {
    let (mut net, host) = forwarding_from("0.0.0.0:0");
    let (client, seen) = outside();
    client.set_broadcast(true).unwrap();
    let sent = client.send_to(b"hello", (Ipv4Addr::new(127, 255, 255, 255), host.port()));
    if let Err(why) = sent {
        println!("skipped: this system has no broadcast on its loopback: {why}");
        return;
    }
    net.next();
    net.send(&udp(guest(80), seen, b"back"));
    let (len, from) = client.recv_from(&mut [0; 16]).unwrap();
    assert_eq!((len, from), (4, at(&format!("127.0.0.1:{}", host.port()))));
}

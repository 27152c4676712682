use super::*;

/// A name server of the host's, and its address.
fn server() -> (UdpSocket, SocketAddr) {
    let (socket, _) = outside();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn asking(resolvers: Vec<SocketAddr>) -> Net {
    Net::new(Options { resolvers, ..options(Policy::default()) })
}

/// A question with an identifier.
fn question(id: u16) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    bytes.extend(b"\x07example\x03org\x00\x00\x01\x00\x01");
    bytes
}

fn name_server() -> SocketAddr {
    at("10.0.2.3:53")
}

fn ask(net: &mut Net, port: u16, id: u16) {
    net.send(&udp(guest(port), name_server(), &question(id)));
}

/// What a server is asked, and by whom.
fn asked(server: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 512];
    let (len, from) = server.recv_from(&mut buffer).unwrap();
    (buffer[..len].to_vec(), from)
}

/// An answer to what a server was asked.
fn answer(mut asked: Vec<u8>) -> Vec<u8> {
    asked[2] |= 0x80;
    asked.extend([7; 300]);
    asked
}

/// Checks that the guest's question `id` was answered by `answer`, but for the identifier.
fn is_answered(net: &mut Net, port: u16, id: u16, answer: &[u8]) {
    let (from, to, bytes) = read_udp(&net.next());
    assert_eq!((from, to), (name_server(), guest(port)));
    assert_eq!(bytes[..2], id.to_be_bytes());
    assert_eq!(bytes[2..], answer[2..]);
}

fn is_failure(net: &mut Net, port: u16, id: u16) {
    let mut wanted = question(id);
    (wanted[2], wanted[3]) = (0x81, 0x82);
    is_answered(net, port, id, &wanted);
}

#[test]
fn questions_and_answers_pass_as_they_are_under_identifiers_of_our_own() {
    let (server, address) = server();
    let mut net = asking(vec![address]);
    let (mut ids, mut ports) = (Vec::new(), Vec::new());
    for id in 0..8 {
        ask(&mut net, 1000, id);
        let (seen, from) = asked(&server);
        assert_eq!(seen[2..], question(id)[2..]);
        ids.push(u16::from_be_bytes([seen[0], seen[1]]));
        ports.push(from.port());
        let answer = answer(seen);
        server.send_to(&answer, from).unwrap();
        is_answered(&mut net, 1000, id, &answer);
    }
    let differ = |numbers: &[u16]| numbers.windows(2).any(|pair| pair[0].abs_diff(pair[1]) > 1);
    assert!(differ(&ids), "{ids:?}");
    assert!(differ(&ports), "{ports:?}");
    assert_eq!((net.user.dns.len(), net.user.deadline()), (0, None));
}

#[test]
fn answers_that_come_in_another_order_find_their_questions() {
    let (server, address) = server();
    let mut net = asking(vec![address]);
    let flows = [(1000, 7), (1001, 7), (1000, 8)];
    let questions: Vec<_> = flows
        .map(|(port, id)| {
            ask(&mut net, port, id);
            asked(&server)
        })
        .into_iter()
        .zip(flows)
        .collect();
    for ((seen, from), (port, id)) in questions.into_iter().rev() {
        let answer = answer(seen);
        server.send_to(&answer, from).unwrap();
        is_answered(&mut net, port, id, &answer);
    }
}

#[test]
fn nobody_answers_in_the_servers_place() {
    let (server, address) = server();
    let mut net = asking(vec![address]);
    ask(&mut net, 1000, 7);
    let (seen, from) = asked(&server);
    let (stranger, _) = outside();
    stranger.send_to(&answer(seen.clone()), from).unwrap();
    let mut guessed = answer(seen.clone());
    guessed[0] ^= 1;
    server.send_to(&guessed, from).unwrap();
    server.send_to(&seen, from).unwrap();
    server.send_to(&answer(seen.clone())[..11], from).unwrap();
    net.nothing();
    let answer = answer(seen);
    server.send_to(&answer, from).unwrap();
    is_answered(&mut net, 1000, 7, &answer);
}

#[test]
fn a_question_sent_again_is_the_same_question_and_another_takes_its_place() {
    let (server, address) = server();
    let mut net = asking(vec![address]);
    ask(&mut net, 1000, 7);
    ask(&mut net, 1000, 7);
    let (first, second) = (asked(&server), asked(&server));
    assert_eq!(first, second);
    assert_eq!(net.user.dns.len(), 1);
    let mut other = question(7);
    other[13] = b'E';
    net.send(&udp(guest(1000), name_server(), &other));
    assert_eq!(net.user.dns.len(), 1);
    let (seen, from) = asked(&server);
    assert_eq!((seen[13], from == first.1), (b'E', false));
}

#[test]
fn the_next_server_is_asked_after_two_seconds_and_first_from_then_on() {
    let ((dead, first), (server, second)) = (server(), server());
    let mut net = asking(vec![first, second]);
    ask(&mut net, 1000, 7);
    asked(&dead);
    assert_eq!(net.user.deadline(), Some(Duration::from_secs(3)));
    net.now = Duration::from_secs(3);
    net.nothing();
    let (seen, from) = asked(&server);
    let reply = answer(seen);
    server.send_to(&reply, from).unwrap();
    is_answered(&mut net, 1000, 7, &reply);
    ask(&mut net, 1000, 8);
    let (seen, from) = asked(&server);
    let reply = answer(seen);
    server.send_to(&reply, from).unwrap();
    is_answered(&mut net, 1000, 8, &reply);
}

#[test]
fn a_server_that_is_not_there_is_left_at_once() {
    let ((closed, first), (server, second)) = (server(), server());
    drop(closed);
    let mut net = asking(vec![first, second]);
    ask(&mut net, 1000, 7);
    let end = Instant::now() + PATIENCE;
    server.set_nonblocking(true).unwrap();
    let mut buffer = [0; 512];
    let (len, from) = loop {
        assert!(Instant::now() < end);
        net.nothing();
        if let Ok(asked) = server.recv_from(&mut buffer) {
            break asked;
        }
    };
    let reply = answer(buffer[..len].to_vec());
    server.send_to(&reply, from).unwrap();
    is_answered(&mut net, 1000, 7, &reply);
}

#[test]
fn a_question_that_nobody_answers_fails_in_words() {
    let mut net = asking(Vec::new());
    ask(&mut net, 1000, 7);
    is_failure(&mut net, 1000, 7);
    let (silent, address) = server();
    let mut net = asking(vec![address]);
    ask(&mut net, 1000, 8);
    assert_eq!(net.user.deadline(), Some(Duration::from_secs(6)));
    net.now = Duration::from_secs(6);
    is_failure(&mut net, 1000, 8);
    drop(silent);
    ask(&mut net, 1000, 9);
    is_failure(&mut net, 1000, 9);
    assert_eq!((net.user.dns.len(), net.user.deadline()), (0, None));
}

#[test]
fn what_is_no_question_is_dropped_and_so_is_one_too_many() {
    // N56
    let (_server, address) = server();
    let mut net = asking(vec![address]);
    let good = question(7);
    for len in 0..12 {
        let short = udp(guest(1000), name_server(), &good[..len]);
        net.dropped(Cause::Question, &short);
    }
    let mut reply = good.clone();
    reply[2] |= 0x80;
    net.dropped(Cause::Question, &udp(guest(1000), name_server(), &reply));
    net.dropped(Cause::Question, &udp(guest(1000), name_server(), &[0; 4097]));
    for id in 0..256 {
        ask(&mut net, 1000, id);
    }
    assert_eq!(net.user.dns.len(), 256);
    net.dropped(Cause::Question, &udp(guest(1000), name_server(), &question(256)));
    net.user.activate(None);
    assert_eq!((net.user.dns.len(), net.user.deadline()), (0, None));
}

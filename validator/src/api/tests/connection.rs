//! Checks of connections: many requests on one, slow ones, silent ones, and the end of all.

use super::*;

#[test]
fn one_connection_serves_many_requests() {
    let node = FakeNode::start();
    let server = Server::start(&node.handle);
    let mut stream = server.connect();
    let mut read = [0; 4_096];
    for _ in 0..3 {
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
        let size = stream.read(&mut read).unwrap();
        assert_eq!(Reply::parse(&read[..size]).body, b"ok\n");
    }
    assert_eq!(server.open(), 1);
}

/// Waits until the server ends the connection.
fn await_end(stream: &mut TcpStream) {
    let mut rest = [0; 1_024];
    loop {
        match stream.read(&mut rest) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
            Err(error) => panic!("the connection did not end: {error}"),
        }
    }
}

#[test]
fn slow_senders_and_silent_clients_are_ended_while_others_are_served() {
    let node = FakeNode::start();
    let server = Server::start_with(&node.handle, 32, Duration::from_millis(500));
    let mut silent = server.connect();
    let mut drip = server.connect();
    let start = Instant::now();
    let dripping = std::thread::spawn(move || {
        for byte in b"GET /livez HTTP/1.1\r\nx: ".iter().chain(std::iter::repeat(&b'y')) {
            if drip.write_all(&[*byte]).is_err() || start.elapsed() > PATIENCE {
                return start.elapsed();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        unreachable!("the bytes never end")
    });
    let mut half = server.connect();
    half.write_all(b"POST /transaction HTTP/1.1\r\nhost: a\r\ncontent-length: 500\r\n\r\nhalf")
        .unwrap();
    while start.elapsed() < Duration::from_millis(300) {
        assert_eq!(server.get("/livez").status, 200);
    }
    await_end(&mut silent);
    await_end(&mut half);
    assert!(dripping.join().unwrap() < PATIENCE / 2);
    await_true(|| server.open() == 0);
}

#[test]
fn silent_connections_make_room_and_waiting_ones_do_not() {
    let node = FakeNode::start();
    let server = Server::start_with(&node.handle, 4, crate::api::connection::PROGRESS_TIME_MAX);
    let (bytes, _) = transaction(0, TAKEN_NEVER_FINAL, b"");
    let mut waiting = server.connect();
    let head = format!(
        "POST /transaction?wait=final HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n",
        bytes.len()
    );
    waiting.write_all(&[head.as_bytes(), &bytes].concat()).unwrap();
    let mut silent: Vec<TcpStream> = (0..3).map(|_| server.connect()).collect();
    await_true(|| server.open() == 4 && node.handle.metrics.tx_received.get() == 1);
    std::thread::sleep(QUIET_MIN + QUIET_MIN / 10);
    assert_eq!(server.get("/livez").status, 200);
    await_end(&mut silent[0]);
    assert_eq!(server.closed("quiet"), 1);
    // The one that waits for finality is told when the validator stops, not thrown out.
    server.stop.stop();
    let document: document::Submitted = Reply::read(&mut waiting).json(202);
    assert_eq!(document.status, document::ACCEPTED);
}

#[test]
fn stopping_ends_in_time_whatever_clients_do() {
    let node = FakeNode::start();
    let server = Server::start(&node.handle);
    let _silent = server.connect();
    let mut half = server.connect();
    half.write_all(b"GET /livez HTT").unwrap();
    assert_eq!(server.get("/livez").status, 200);
    let start = Instant::now();
    drop(server);
    assert!(start.elapsed() < 2 * STOP_TIME_MAX);
}

#[test]
fn one_thread_serves_both_listeners_and_ends_with_one_stop() {
    let node = FakeNode::start();
    let listen = |name| listen(name, "127.0.0.1:0".parse().unwrap()).unwrap();
    let listeners = Listeners { http: listen("http"), tcp: listen("tcp") };
    let tcp = listeners.tcp.local_addr().unwrap();
    let http = listeners.http.local_addr().unwrap();
    let (handle, stop) = (node.handle.clone(), Stop::new());
    let stopped = stop.clone();
    let thread = std::thread::spawn(move || run(listeners, handle, stopped).unwrap());
    let mut stream = TcpStream::connect(tcp).unwrap();
    stream.write_all(&crate::wire::HELLO).unwrap();
    let mut welcome = [0; crate::wire::WELCOME_BYTES];
    stream.read_exact(&mut welcome).unwrap();
    assert!(crate::wire::Welcome::decode(&welcome).is_ok());
    let mut stream = TcpStream::connect(http).unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    assert_eq!(Reply::read(&mut stream).status, 200);
    stop.stop();
    thread.join().unwrap();
}

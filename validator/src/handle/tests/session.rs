//! A client and a server of sessions, joined without sockets.

use net_ebpf::{
    abi::{Answer, Cookie, Hello, PACKET_SIZE_MAX},
    policy::Rate,
    session::{Action, AdmissionKey, Client, Event, Options, Server, Standing, Ticket},
    tables::Tables,
};
use std::{net::SocketAddr, sync::Arc};

pub(crate) struct Pair {
    pub(crate) address: SocketAddr,
    server: Server,
    client: Client,
    tokens: Tables,
}

impl Pair {
    pub(crate) fn new() -> Self {
        let options = Options {
            sessions: 64,
            network: [42; 32],
            rate: Rate { packets_per_second: 1_000, burst_packets: 10_000 },
            handshake_cpu_percent: 5,
        };
        let key = AdmissionKey::generate([1; 32]);
        let mut client = Client::new(options.network, *key.public(), [2; 32]);
        let mut server = Server::new(&options, key, [3; 32]).unwrap();
        let address = "127.0.0.1:9".parse().unwrap();
        let mut tokens = Tables::plain(64);
        let hello = Hello::decode(client.poll(0).unwrap().bytes()).unwrap();
        let cookie = Cookie { nonce: hello.nonce, cookie: 5 }.encode();
        assert_eq!(client.receive(0, &cookie), Event::Cookie);
        let handshake = client.poll(0).unwrap();
        let welcome = server.handshake(1, address, handshake.bytes(), &mut tokens).unwrap();
        assert_eq!(client.receive(0, &welcome), Event::Established);
        Self { address, server, client, tokens }
    }

    /// The ticket of the next submit.
    pub(crate) fn ticket(&mut self) -> (Ticket, Arc<Standing>) {
        let mut packet = [0; PACKET_SIZE_MAX];
        let size = self.client.seal(1, &[7; 200], &mut packet).unwrap();
        let accepted =
            self.server.accept(1, self.address, &packet[..size], &mut self.tokens).unwrap();
        (accepted.ticket, self.server.standing())
    }

    /// Reads an answer as the client does.
    pub(crate) fn open(&mut self, bytes: &[u8]) -> Answer {
        match self.client.receive(2, bytes) {
            Event::Answer(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn tick(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        self.server.tick(3, &mut self.tokens, &mut actions);
        actions
    }
}

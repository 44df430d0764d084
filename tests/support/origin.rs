//! A server that follows a script and remembers every byte that it got.

use super::message::{Framing, Head, Reader, Seen};
use super::port::Port;
use super::{DEADLINE, Shared};
use rustix::net::{Shutdown as Ends, shutdown, sockopt};
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

type Script = Arc<dyn Fn(&mut Visit) + Send + Sync>;

/// The server. It ends when it is dropped.
pub struct Origin {
    port: Port,
    record: Shared<Record>,
    script: Script,
    listening: Option<Arc<TcpListener>>,
}

/// What it remembers.
#[derive(Debug, Default)]
pub struct Record {
    /// Requests that came whole, in the order of their ends.
    pub requests: Vec<Seen>,
    /// Requests whose head came, in order.
    pub heads: usize,
    /// Every byte of every connection.
    pub bytes: Vec<Vec<u8>>,
    /// Connections that the balancer ended, one way or another.
    pub ended: usize,
    /// Connections whose script has ended.
    pub over: usize,
    streams: Vec<TcpStream>,
}

/// One connection, as a script sees it.
pub struct Visit {
    /// From 0, over all connections of this server.
    pub number: usize,
    stream: TcpStream,
    reader: Reader<TcpStream>,
    record: Shared<Record>,
}

impl Origin {
    /// Runs the script once for each connection, each in a thread of its own. The connection closes when the
    /// script ends.
    pub fn start(script: impl Fn(&mut Visit) + Send + Sync + 'static) -> Self {
        let mut origin = Origin {
            port: Port::reserve(),
            record: Shared::default(),
            script: Arc::new(script),
            listening: None,
        };
        origin.start_again();
        origin
    }

    /// Listens again on the same port.
    pub fn start_again(&mut self) {
        let listener = Arc::new(self.port.listen());
        let (record, script) = (self.record.clone(), Arc::clone(&self.script));
        self.listening = Some(Arc::clone(&listener));
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let visit = Visit::of(stream, &record);
                let script = Arc::clone(&script);
                thread::spawn(move || visit.run(&*script));
            }
        });
    }

    /// Refuses connections from now on, and cuts those that are open. The port stays its own.
    pub fn stop(&mut self) {
        if let Some(listener) = self.listening.take() {
            // On Linux this wakes the accept, and new connections are refused at once.
            let _ = shutdown(&*listener, Ends::Both);
        }
        let streams = self.record.change(|record| std::mem::take(&mut record.streams));
        streams.iter().for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Requests that came whole so far.
    pub fn requests(&self) -> Vec<Seen> {
        self.record.look(|record| record.requests.clone())
    }

    /// How many requests came whole so far.
    pub fn count(&self) -> usize {
        self.record.look(|record| record.requests.len())
    }

    /// The one request that came.
    #[track_caller]
    pub fn only_request(&self) -> Seen {
        let requests = self.requests();
        assert!(requests.len() == 1, "{} requests came: {requests:?}", requests.len());
        requests.into_iter().next().unwrap()
    }

    /// How many connections there ever were.
    pub fn connections(&self) -> usize {
        self.record.look(|record| record.bytes.len())
    }

    /// Every byte of a connection, as far as the script has read.
    pub fn bytes(&self, connection: usize) -> Vec<u8> {
        self.record.look(|record| record.bytes[connection].clone())
    }

    /// Every byte of all connections.
    pub fn all_bytes(&self) -> Vec<u8> {
        self.record.look(|record| record.bytes.concat())
    }

    /// Waits until so many heads have come, or until the time is over; says how many there are.
    pub fn wait_for_heads(&self, count: usize, limit: Duration) -> usize {
        let found = self.record.wait_for(limit, |record| (record.heads >= count).then_some(()));
        found.map_or_else(|| self.record.look(|record| record.heads), |()| count)
    }

    /// Waits until the scripts of all connections have ended.
    pub fn wait_for_quiet(&self) {
        self.record.wait_for(DEADLINE, |record| (record.over == record.bytes.len()).then_some(()));
    }

    /// Waits until what it remembers is so.
    #[track_caller]
    pub fn until(&self, what: &str, holds: impl Fn(&Record) -> bool) {
        let found = self.record.wait_for(DEADLINE, |record| holds(record).then_some(()));
        assert!(found.is_some(), "the server did not see that {what}");
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Visit {
    fn of(stream: TcpStream, record: &Shared<Record>) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE * 2)).unwrap();
        stream.set_write_timeout(Some(DEADLINE * 2)).unwrap();
        let number = record.change(|record| {
            record.streams.push(stream.try_clone().unwrap());
            record.bytes.push(Vec::new());
            record.bytes.len() - 1
        });
        let reader = Reader::new(stream.try_clone().unwrap(), true);
        Visit { number, stream, reader, record: record.clone() }
    }

    fn run(mut self, script: &(dyn Fn(&mut Visit) + Send + Sync)) {
        script(&mut self);
        self.tell();
        self.record.change(|record| {
            record.streams.retain(|stream| !is_same(stream, &self.stream));
            record.over += 1;
        });
    }

    /// What was read goes into the record.
    fn tell(&mut self) {
        let Visit { reader, number, .. } = self;
        self.record.change(|record| record.bytes[*number].append(&mut reader.seen));
    }

    /// The next request, whole. `None` when there is none: the balancer closed, or it is no good request.
    pub fn request(&mut self) -> Option<Seen> {
        let head = self.head()?;
        let framing = head.framing();
        self.body_of(head, framing.ok()?)
    }

    /// The next request's head alone.
    pub fn head(&mut self) -> Option<Head> {
        let head = self.reader.head();
        self.tell();
        match head {
            Ok(head) => {
                self.record.change(|record| record.heads += 1);
                Some(head)
            }
            Err(_) => {
                self.record.change(|record| record.ended += 1);
                None
            }
        }
    }

    /// The rest of a request whose head was read.
    pub fn body(&mut self, head: Head) -> Option<Seen> {
        let framing = head.framing().ok()?;
        self.body_of(head, framing)
    }

    fn body_of(&mut self, head: Head, framing: Framing) -> Option<Seen> {
        let body = self.reader.body(framing);
        self.tell();
        let Ok(body) = body else {
            self.record.change(|record| record.ended += 1);
            return None;
        };
        let Head { line, fields, bytes } = head;
        let seen = Seen {
            connection: self.number,
            line,
            fields,
            head: bytes,
            framing,
            body: body.bytes,
            trailers: body.trailers,
        };
        self.record.change(|record| record.requests.push(seen.clone()));
        Some(seen)
    }

    /// The target of the last request that came whole.
    pub fn target(&self) -> String {
        let last = |record: &Record| {
            let mine = record.requests.iter().rev().find(|seen| seen.connection == self.number);
            mine.map(|seen| seen.target().to_owned()).unwrap_or_default()
        };
        self.record.look(last)
    }

    /// So many bytes, whatever they are; fewer at the end.
    pub fn take(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = self.reader.take(count, &mut bytes);
        self.tell();
        bytes
    }

    /// All until the balancer closes or resets.
    pub fn to_the_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = self.reader.to_the_end(&mut bytes);
        self.tell();
        self.record.change(|record| record.ended += 1);
        bytes
    }

    /// The connection itself, for what is sent beside the script.
    pub fn stream(&self) -> TcpStream {
        self.stream.try_clone().unwrap()
    }

    /// Sends; the balancer may have gone.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _: io::Result<()> = self.stream.write_all(bytes.as_ref());
    }

    /// Sends; false when the balancer has gone.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// A response with a length.
    pub fn response(&mut self, body: impl AsRef<[u8]>) {
        let body = body.as_ref();
        let mut bytes = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        bytes.extend_from_slice(body);
        self.send(bytes);
    }

    /// No more will be sent.
    pub fn finish_writing(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// The close to come is a reset.
    pub fn reset_on_close(&mut self) {
        let _ = sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO));
    }
}

fn is_same(one: &TcpStream, other: &TcpStream) -> bool {
    one.peer_addr().ok().zip(other.peer_addr().ok()).is_some_and(|(one, other)| one == other)
}

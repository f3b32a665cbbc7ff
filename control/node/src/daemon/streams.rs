//! Who listens to which event stream.

use mizzen_api::v1::scheduler::Event;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// Events between the forwarder of a stream and its connection.
const QUEUE: usize = 64;
/// Events that may wait for a client: a reconciliation of many tasks comes in one go.
const BACKLOG: usize = 100_000;
/// A client that takes nothing for so long is dropped.
const PATIENCE: Duration = Duration::from_secs(60);

/// The event streams of frameworks: those over HTTP, and the one of our own service
/// scheduler, which lives in this process and is a framework like any other.
///
/// The loop never waits for a client. Events go into a queue of the stream, and a task
/// of its own moves them on as fast as the client takes them.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    http: BTreeMap<String, Stream>,
    services: Option<String>,
}

#[derive(Debug)]
struct Stream {
    events: mpsc::UnboundedSender<Event>,
    waiting: Arc<AtomicUsize>,
}

/// Where an event goes.
pub(crate) enum Delivery {
    /// To the client; it was queued.
    Sent,
    /// To our own service scheduler.
    Services(Box<Event>),
    /// Nowhere: the client is gone or does not keep up.
    Lost,
    /// Nowhere: there is no such stream any more.
    Closed,
}

impl Streams {
    /// A client subscribed; what it should receive comes out of the receiver.
    pub(crate) fn open(&mut self, stream: &str) -> mpsc::Receiver<Event> {
        let (client, receiver) = mpsc::channel(QUEUE);
        let (events, queue) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        tokio::spawn(forward(queue, client, Arc::clone(&waiting)));
        self.http.insert(stream.to_owned(), Stream { events, waiting });
        receiver
    }

    /// Our own service scheduler subscribed.
    pub(crate) fn open_services(&mut self, stream: String) {
        self.services = Some(stream);
    }

    /// The stream of our own service scheduler.
    pub(crate) fn services(&self) -> Option<&str> {
        self.services.as_deref()
    }

    /// Nothing is sent to this stream any more; its client sees the end after what
    /// was sent before. Says whether it was the one of our own service scheduler.
    pub(crate) fn close(&mut self, stream: &str) -> bool {
        self.http.remove(stream);
        self.services.take_if(|services| services == stream).is_some()
    }

    /// Sends an event.
    pub(crate) fn send(&mut self, stream: &str, event: Event) -> Delivery {
        if self.services.as_deref() == Some(stream) {
            return Delivery::Services(Box::new(event));
        }
        let Some(stream) = self.http.get(stream) else { return Delivery::Closed };
        if stream.waiting.fetch_add(1, Ordering::Relaxed) >= BACKLOG {
            return Delivery::Lost;
        }
        match stream.events.send(event) {
            Ok(()) => Delivery::Sent,
            Err(_) => Delivery::Lost,
        }
    }
}

/// Moves events to a client until one of the two ends, or the client takes nothing.
async fn forward(
    mut queue: mpsc::UnboundedReceiver<Event>,
    client: mpsc::Sender<Event>,
    waiting: Arc<AtomicUsize>,
) {
    while let Some(event) = queue.recv().await {
        waiting.fetch_sub(1, Ordering::Relaxed);
        if client.send_timeout(event, PATIENCE).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_burst_waits_for_the_client_and_the_end_comes_after_it() {
        let mut streams = Streams::default();
        let mut client = streams.open("s");
        for _ in 0..5_000 {
            assert!(matches!(streams.send("s", Event::default()), Delivery::Sent));
        }
        streams.close("s");
        assert!(matches!(streams.send("s", Event::default()), Delivery::Closed));
        let mut count = 0;
        while client.recv().await.is_some() {
            count += 1;
        }
        assert_eq!(count, 5_000);
    }

    #[tokio::test]
    async fn who_never_reads_is_dropped_in_the_end() {
        let mut streams = Streams::default();
        let _client = streams.open("s");
        let lost =
            (0..=BACKLOG).any(|_| matches!(streams.send("s", Event::default()), Delivery::Lost));
        assert!(lost);
    }
}

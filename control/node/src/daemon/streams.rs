//! Who listens to which event stream.

use mizzen_api::v1::scheduler::Event;
use std::collections::BTreeMap;
use tokio::sync::mpsc;

/// Events that may wait for a slow client before it is dropped.
pub(crate) const QUEUE: usize = 1024;

/// The event streams of frameworks: those over HTTP, and the one of our own service
/// scheduler, which lives in this process and is a framework like any other.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    http: BTreeMap<String, mpsc::Sender<Event>>,
    services: Option<String>,
}

/// Where an event goes.
pub(crate) enum Delivery {
    /// To the client; it was queued.
    Sent,
    /// To our own service scheduler.
    Services(Box<Event>),
    /// Nowhere: the client is gone or does not keep up.
    Lost,
}

impl Streams {
    /// A client subscribed; what it should receive comes out of the receiver.
    pub(crate) fn open(&mut self, stream: &str) -> mpsc::Receiver<Event> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        self.http.insert(stream.to_owned(), sender);
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

    /// Nothing is sent to this stream any more; its client sees the end. Says
    /// whether it was the one of our own service scheduler.
    pub(crate) fn close(&mut self, stream: &str) -> bool {
        self.http.remove(stream);
        self.services.take_if(|services| services == stream).is_some()
    }

    /// Sends an event.
    pub(crate) fn send(&mut self, stream: &str, event: Event) -> Delivery {
        if self.services.as_deref() == Some(stream) {
            return Delivery::Services(Box::new(event));
        }
        match self.http.get(stream).map(mpsc::Sender::try_reserve) {
            Some(Ok(place)) => {
                place.send(event);
                Delivery::Sent
            }
            _ => Delivery::Lost,
        }
    }
}

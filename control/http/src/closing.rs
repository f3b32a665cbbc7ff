//! How the streams learn that the node stops.

use tokio::sync::watch;

/// The end that waits.
#[derive(Debug, Clone)]
pub struct Closing(watch::Receiver<bool>);

/// The end that closes, also by being dropped.
#[derive(Debug)]
pub struct Close(watch::Sender<bool>);

/// Both ends.
pub fn closing() -> (Close, Closing) {
    let (close, closing) = watch::channel(false);
    (Close(close), Closing(closing))
}

impl Closing {
    /// Waits for the end.
    pub async fn wait(&mut self) {
        // Without a sender it is the end as well.
        let _ = self.0.wait_for(|closed| *closed).await;
    }
}

impl Close {
    /// Ends all streams.
    pub fn close(&self) {
        self.0.send_replace(true);
    }
}

//! Load that goes on while a test works, and ends with it, also when it fails: threads that
//! ask a flag which a failed assertion never sets would be waited for without end.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Whether the load is still wanted.
#[derive(Debug, Default)]
pub struct Load {
    ended: AtomicBool,
}

impl Load {
    /// False once the work is done or has failed, or a client has.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        !self.ended.load(Ordering::Relaxed)
    }

    fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// Runs each of `clients` in a thread of its own while `work` runs; they go on as long as
/// [`Load::goes_on`]. Returns what the clients and the work return. Whoever panics ends all of
/// it and is heard here.
pub fn while_loaded<C, L, W>(
    clients: impl IntoIterator<Item = C>,
    work: impl FnOnce(&Load) -> W,
) -> (Vec<L>, W)
where
    C: FnOnce(&Load) -> L + Send,
    L: Send,
{
    let load = Load::default();
    let load = &load;
    thread::scope(|scope| {
        let begin = |client: C| {
            scope.spawn(move || {
                let _watch = OnPanic(load);
                client(load)
            })
        };
        let clients: Vec<_> = clients.into_iter().map(begin).collect();
        let watch = OnPanic(load);
        let done = work(load);
        drop(watch);
        load.end();
        let ended =
            clients.into_iter().map(|client| client.join().unwrap_or_else(|p| resume_unwind(p)));
        (ended.collect(), done)
    })
}

/// Ends the load if its thread panics.
struct OnPanic<'a>(&'a Load);

impl Drop for OnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    fn until_the_end(load: &Load) -> u32 {
        while load.goes_on() {
            thread::yield_now();
        }
        7
    }

    #[test]
    fn clients_end_with_the_work() {
        let (clients, work) = while_loaded([until_the_end; 3], Load::goes_on);
        assert_eq!((clients, work), (vec![7; 3], true));
    }

    #[test]
    fn clients_end_when_the_work_fails() {
        let failed = catch_unwind(|| while_loaded([until_the_end], |_| -> u32 { panic!("work") }));
        assert_eq!(*failed.unwrap_err().downcast::<&str>().unwrap(), "work");
    }

    #[test]
    fn a_client_that_fails_ends_the_rest_and_is_heard() {
        let client = |number: u32| {
            move |load: &Load| if number == 1 { panic!("client") } else { until_the_end(load) }
        };
        let clients = AssertUnwindSafe((0..3).map(client));
        let failed = catch_unwind(|| while_loaded(clients.0, until_the_end));
        assert_eq!(*failed.unwrap_err().downcast::<&str>().unwrap(), "client");
    }
}

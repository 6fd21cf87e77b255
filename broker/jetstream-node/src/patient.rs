//! A lock that asynchronous tasks take, and that somebody may hold for as long as a disk needs: a checkpoint does. Who
//! waits longer than a moment gives the runtime another thread in its place, so that connections, and streams that are
//! not concerned, go on. Not for locks that are only ever held for a moment.

use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::runtime::{Handle, RuntimeFlavor};

/// Longer than work in memory takes; another thread costs some tens of microseconds.
const MOMENT: Duration = Duration::from_millis(1);

#[derive(Default)]
pub(crate) struct PatientMutex<T>(Mutex<T>);

impl<T> PatientMutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        if let Some(guard) = self.0.try_lock_for(MOMENT) {
            return guard;
        }
        let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
        if matches!(flavor, Ok(RuntimeFlavor::MultiThread)) {
            tokio::task::block_in_place(|| self.0.lock())
        } else {
            self.0.lock()
        }
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc;

    use super::*;

    const WITHIN: Duration = Duration::from_secs(20);

    /// All its workers wait for a lock; whoever does not need it is served.
    #[test]
    fn a_lock_held_for_long_does_not_stop_the_runtime() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("threads");
        let lock = Arc::new(PatientMutex::new(0));
        let held = lock.lock();
        let waiting: Vec<_> = (0..6)
            .map(|_| {
                let lock = Arc::clone(&lock);
                runtime.spawn(async move { *lock.lock() += 1 })
            })
            .collect();
        for _ in 0..20 {
            let (sender, served) = mpsc::channel();
            runtime.spawn(async move { sender.send(()).expect("it is awaited") });
            served.recv_timeout(WITHIN).expect("the runtime goes on");
        }
        assert!(waiting.iter().all(|task| !task.is_finished()), "they did not wait");
        drop(held);
        waiting.into_iter().for_each(|task| runtime.block_on(task).expect("it got the lock"));
        assert_eq!(*lock.lock(), 6);
    }

    #[test]
    fn it_is_taken_within_any_runtime_and_without_one() {
        let lock = PatientMutex::new(1);
        *lock.lock() += 1;
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let guard = lock.lock();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| runtime.block_on(async { *lock.lock() }));
            std::thread::sleep(MOMENT * 5);
            drop(guard);
            assert_eq!(waiting.join().expect("it got the lock"), 2);
        });
    }
}

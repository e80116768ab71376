//! The MD5 of values on their way through.
//!
//! A long value's pieces are hashed on a thread that does nothing else, so that the thread which serves the client
//! reads on meanwhile, and so that pieces of different values are hashed together, which takes hardly longer than one
//! of them alone (`md5_lanes`). The thread takes what is there and waits for nothing: the more it has to do, the more
//! pieces come together. Short values are hashed where they are.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::thread;

use bytes::Bytes;
use md5_lanes::{MOST_LANES, Md5, update_all};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Values up to so many bytes are hashed where they are: waking another thread takes as long.
const SHORT: u64 = 16 * 1024;

/// Pieces of one value that may wait to be hashed: the next ones wait with the client.
const AHEAD: u32 = 2;

/// So many bytes of a piece are hashed at once, so that pieces that come meanwhile can join in.
const STRIDE: usize = 64 * 1024;

/// One thread for so many cores: it hashes 4 to 6 GiB a second of many values, where vectors have eight lanes or more,
/// and each other core receives and passes on about one.
const CORES_PER_THREAD: usize = 4;

/// The MD5 of one value.
pub(crate) struct Hashing {
    /// Bytes so far.
    length: u64,
    place: Place,
}

enum Place {
    Here(Md5),
    OnThread { value: Arc<Value>, jobs: Sender<Job> },
}

/// A value that a thread hashes.
struct Value {
    md5: Mutex<Md5>,
    /// One for each piece that may wait.
    room: Arc<Semaphore>,
}

struct Job {
    value: Arc<Value>,
    piece: Bytes,
    /// Room for another piece, once this one is dropped.
    _room: OwnedSemaphorePermit,
}

impl Hashing {
    pub(crate) fn new() -> Self {
        Self { length: 0, place: Place::Here(Md5::new()) }
    }

    /// Takes the next piece; waits while earlier ones are still to be hashed.
    pub(crate) async fn update(&mut self, piece: &Bytes) {
        self.length += piece.len() as u64;
        if let Place::Here(md5) = &mut self.place {
            match (self.length > SHORT).then(choose_thread).flatten() {
                None => return md5.update(piece),
                Some(jobs) => {
                    let room = Arc::new(Semaphore::new(AHEAD as usize));
                    let value = Arc::new(Value { md5: Mutex::new(md5.clone()), room });
                    self.place = Place::OnThread { value, jobs };
                }
            }
        }
        let Place::OnThread { value, jobs } = &self.place else { return };
        let room = Arc::clone(&value.room).acquire_owned().await;
        let Ok(room) = room else { unreachable!("the room of a value is never closed") };
        let job = Job { value: Arc::clone(value), piece: piece.clone(), _room: room };
        // the threads run as long as the process
        jobs.send(job).unwrap_or_else(|_| unreachable!("a thread that hashes has ended"));
    }

    /// The MD5 of all pieces so far.
    pub(crate) async fn md5(&self) -> [u8; 16] {
        match &self.place {
            Place::Here(md5) => md5.sum(),
            Place::OnThread { value, .. } => {
                let all_hashed = value.room.acquire_many(AHEAD).await;
                let md5 = value.lock();
                // a piece that nobody hashed gives back its room, too: no sum is better than a wrong one
                if all_hashed.is_err() || md5.length() != self.length {
                    unreachable!("{} of {} bytes were hashed", md5.length(), self.length);
                }
                md5.sum()
            }
        }
    }
}

impl Value {
    fn lock(&self) -> MutexGuard<'_, Md5> {
        self.md5.lock().unwrap_or_else(|_| unreachable!("a thread that hashes has panicked"))
    }
}

/// The next thread in turn; none if none could be started.
fn choose_thread() -> Option<Sender<Job>> {
    static THREADS: LazyLock<Vec<Sender<Job>>> = LazyLock::new(start_threads);
    static TURN: AtomicUsize = AtomicUsize::new(0);
    let turn = TURN.fetch_add(1, Ordering::Relaxed).checked_rem(THREADS.len())?;
    THREADS.get(turn).cloned()
}

fn start_threads() -> Vec<Sender<Job>> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let start = |number| {
        let (jobs, received) = channel();
        let thread = thread::Builder::new().name(format!("md5-{number}"));
        match thread.spawn(move || hash_all(&received)) {
            Ok(_runs_on) => Some(jobs),
            Err(error) => {
                tracing::warn!(%error, "no thread for MD5: values are hashed where they are");
                None
            }
        }
    };
    (0..cores.div_ceil(CORES_PER_THREAD)).map_while(start).collect()
}

fn hash_all(received: &Receiver<Job>) {
    let mut waiting: VecDeque<Job> = VecDeque::new();
    while let Some(first) = waiting.pop_front().or_else(|| received.recv().ok()) {
        waiting.push_front(first);
        waiting.extend(received.try_iter());
        hash_next(&mut waiting);
    }
}

/// Hashes a stride of the oldest piece of as many values as there are lanes.
fn hash_next(waiting: &mut VecDeque<Job>) {
    let mut chosen: Vec<usize> = Vec::with_capacity(MOST_LANES);
    for (number, job) in waiting.iter().enumerate() {
        if chosen.len() == MOST_LANES {
            break;
        }
        let is_another =
            |other: &usize| !waiting.get(*other).is_some_and(|other| Arc::ptr_eq(&other.value, &job.value));
        if chosen.iter().all(is_another) {
            chosen.push(number);
        }
    }
    let mut lanes: Vec<(Arc<Value>, Bytes)> = Vec::with_capacity(chosen.len());
    for number in &chosen {
        if let Some(job) = waiting.get_mut(*number) {
            let stride = job.piece.split_to(job.piece.len().min(STRIDE));
            lanes.push((Arc::clone(&job.value), stride));
        }
    }
    let mut sums: Vec<MutexGuard<'_, Md5>> = lanes.iter().map(|(value, _)| value.lock()).collect();
    update_all(sums.iter_mut().map(|sum| &mut **sum).zip(lanes.iter().map(|(_, stride)| &**stride)));
    drop(sums);
    // the last first, as a removal moves those behind it
    for number in chosen.into_iter().rev() {
        if waiting.get(number).is_some_and(|job| job.piece.is_empty()) {
            waiting.remove(number);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on panics, and that is its report")]

    use bytes::Bytes;
    use futures_util::future::join_all;

    use super::Hashing;

    /// Many values at once, in pieces of all sizes, short ones and such as go to the thread among them.
    #[tokio::test]
    async fn values_that_are_hashed_at_once_keep_apart() {
        let hashed = (0..40_usize).map(|number| async move {
            let value: Vec<u8> = (0..number * 9001).map(|at| (at * (number + 1)).to_le_bytes()[0]).collect();
            let value = Bytes::from(value);
            let mut hashing = Hashing::new();
            for piece in value.chunks(1 + number * 2003) {
                hashing.update(&value.slice_ref(piece)).await;
                tokio::task::yield_now().await;
            }
            (hashing.md5().await, md5_lanes::digest(&value))
        });
        for (number, (hashed, expected)) in join_all(hashed).await.into_iter().enumerate() {
            assert_eq!(hashed, expected, "value {number}");
        }
    }

    /// The MD5 so far is asked for in the middle of an upload.
    #[tokio::test]
    async fn a_sum_may_be_asked_for_and_go_on() {
        let piece = Bytes::from(vec![7; 100_000]);
        let mut hashing = Hashing::new();
        for pieces in 1..10 {
            hashing.update(&piece).await;
            assert_eq!(hashing.md5().await, md5_lanes::digest(piece.repeat(pieces)));
        }
    }
}

//! Joining two stream sockets, many pairs on one thread.

mod store;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token, Waker};
use slab::Slab;
use socket2::Socket;

use super::local;
use store::Store;

const WAKE: Token = Token(usize::MAX);
/// Times a direction may move bytes before others get their turn.
const ROUNDS: usize = 16;
/// Stores without bytes that are kept for the next direction that has some.
const SPARE_STORES: usize = 16;

/// One direction of a pair.
#[derive(Default)]
struct Direction {
    /// Where its bytes are while they are on their way; an idle direction has none.
    store: Option<Store>,
    held: usize,
    ended: bool,
    told: bool,
}

struct Pair {
    sockets: [Socket; 2],
    /// From the first to the second, and back.
    directions: [Direction; 2],
    more: bool,
}

struct Shared {
    arriving: Mutex<Vec<[OwnedFd; 2]>>,
    waker: Waker,
}

static SPLICER: OnceLock<Result<Arc<Shared>, String>> = OnceLock::new();

/// Join two stream sockets until both directions have ended. The error is a sentence.
pub fn splice(left: OwnedFd, right: OwnedFd) -> Result<(), String> {
    let shared = SPLICER.get_or_init(|| start().map_err(|error| format!("no thread to splice on: {error}")));
    let shared = shared.as_ref().map_err(Clone::clone)?;
    for fd in [&left, &right] {
        Socket::from(fd.try_clone().map_err(|error| error.to_string())?)
            .set_nonblocking(true)
            .map_err(|error| format!("descriptor {} cannot be spliced: {error}", fd.as_raw_fd()))?;
    }
    locked(&shared.arriving).push([left, right]);
    shared.waker.wake().map_err(|error| error.to_string())
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start() -> io::Result<Arc<Shared>> {
    let poll = Poll::new()?;
    let shared = Arc::new(Shared { arriving: Mutex::default(), waker: Waker::new(poll.registry(), WAKE)? });
    let theirs = shared.clone();
    std::thread::Builder::new().name("warren-splice".into()).spawn(move || run(poll, &theirs))?;
    Ok(shared)
}

fn run(mut poll: Poll, shared: &Shared) {
    let Ok(registry) = poll.registry().try_clone() else { return };
    let mut pairs: Slab<Pair> = Slab::new();
    let mut events = Events::with_capacity(256);
    let mut again: Vec<usize> = Vec::new();
    let mut spare: Vec<Store> = Vec::new();
    block_broken_pipes();
    loop {
        let timeout = if again.is_empty() { None } else { Some(std::time::Duration::ZERO) };
        match poll.poll(&mut events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return, // the poll itself is broken
            _ => {}
        }
        let mut ready = std::mem::take(&mut again);
        ready.extend(events.iter().filter(|event| event.token() != WAKE).map(|event| event.token().0 / 2));
        for sockets in std::mem::take(&mut *locked(&shared.arriving)) {
            ready.extend(add(&registry, &mut pairs, sockets.map(Socket::from)));
        }
        ready.sort_unstable();
        ready.dedup();
        for id in ready {
            let Some(pair) = pairs.get_mut(id) else { continue };
            if pair.turn(&mut spare) {
                let pair = pairs.remove(id);
                for socket in &pair.sockets {
                    let _ = registry.deregister(&mut SourceFd(&socket.as_raw_fd()));
                    // closing does it as well
                }
            } else if pair.more {
                again.push(id);
            }
        }
    }
}

/// `splice` has no flag that keeps a broken connection from raising a signal; an error says it as well.
fn block_broken_pipes() {
    // SAFETY: the set is initialised before it is used, and only this thread's mask changes.
    unsafe {
        let mut signals: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut signals);
        libc::sigaddset(&mut signals, libc::SIGPIPE);
        libc::pthread_sigmask(libc::SIG_BLOCK, &signals, std::ptr::null_mut());
    }
}

fn add(registry: &Registry, pairs: &mut Slab<Pair>, sockets: [Socket; 2]) -> Option<usize> {
    let id = pairs.vacant_key();
    for (side, socket) in sockets.iter().enumerate() {
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut SourceFd(&socket.as_raw_fd()), Token(id * 2 + side), interest).ok()?;
    }
    Some(pairs.insert(Pair { sockets, directions: Default::default(), more: false }))
}

impl Pair {
    /// Move what can be moved; says whether the pair is finished.
    fn turn(&mut self, spare: &mut Vec<Store>) -> bool {
        self.more = false;
        for from in 0..2 {
            let (source, target) = (&self.sockets[from], &self.sockets[1 - from]);
            match self.directions[from].carry(source, target, spare) {
                Ok(more) => self.more |= more,
                Err(_) => {
                    self.sockets.iter().for_each(local::reset_on_close);
                    return true;
                }
            }
        }
        self.directions.iter().all(|direction| direction.told)
    }
}

impl Direction {
    /// Move bytes until one side is not ready; says whether it stopped for others' sake.
    fn carry(&mut self, source: &Socket, target: &Socket, spare: &mut Vec<Store>) -> io::Result<bool> {
        for _ in 0..ROUNDS {
            if self.held == 0 && !self.ended {
                let store = self.store.get_or_insert_with(|| spare.pop().unwrap_or_else(Store::new));
                match store.fill(source)? {
                    Some(0) => self.ended = true,
                    Some(count) => self.held = count,
                    None => {}
                }
                if self.held == 0 {
                    spare.extend(self.store.take().filter(|_| spare.len() < SPARE_STORES));
                }
                if self.held == 0 && !self.ended {
                    return Ok(false);
                }
            }
            if let Some(store) = self.store.as_mut().filter(|_| self.held > 0) {
                match store.drain(target, self.held)? {
                    None => return Ok(false),
                    Some(count) => self.held -= count,
                }
            }
            if self.ended && self.held == 0 {
                if !std::mem::replace(&mut self.told, true) {
                    local::end(target);
                }
                return Ok(false);
            }
        }
        Ok(true)
    }
}

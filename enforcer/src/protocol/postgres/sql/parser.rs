//! Where the C parser runs: a few threads of its own.
//!
//! libpg_query redirects file descriptor 2 of its caller to a pipe while it parses, so what
//! other threads log in that moment would be lost, and two parses at once would leave
//! descriptor 2 closed. Its writers recurse as deep as the text nests, without a bound. So each
//! parser thread has a descriptor table of its own (unshared, and emptied but for the standard
//! three) and a large stack.

use super::read::{Unreadable, read_here};
use super::statement::Statement;
use nix::sched::{CloneFlags, unshare};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::thread;

/// Stack of a parser thread, bytes: many times what the deepest text uses that
/// [`depth`](super::depth) lets through.
const STACK: usize = 32 << 20;

/// Parser threads; a parse takes tens of microseconds.
const THREADS: usize = 4;

struct Job {
    sql: String,
    reply: SyncSender<Result<Vec<Statement>, Unreadable>>,
}

static JOBS: LazyLock<Option<Sender<Job>>> = LazyLock::new(start);

/// Reads `sql` on a parser thread, and waits for it.
pub(super) fn read_elsewhere(sql: &str) -> Result<Vec<Statement>, Unreadable> {
    let jobs = JOBS.as_ref().ok_or(Unreadable::Parser("its threads could not be started"))?;
    let (reply, answer) = mpsc::sync_channel(1);
    jobs.send(Job { sql: sql.to_owned(), reply })
        .map_err(|_| Unreadable::Parser("its threads have ended"))?;
    answer.recv().map_err(|_| Unreadable::Parser("it ended in the middle of a text"))?
}

fn start() -> Option<Sender<Job>> {
    let (sender, receiver) = mpsc::channel();
    let receiver = Arc::new(Mutex::new(receiver));
    let (ready, started) = mpsc::channel();
    let wanted = thread::available_parallelism().map_or(1, |n| n.get().min(THREADS));
    for _ in 0..wanted {
        let (receiver, ready) = (Arc::clone(&receiver), ready.clone());
        thread::Builder::new()
            .name("sql-parser".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                if own_descriptors().is_ok() && ready.send(()).is_ok() {
                    work(&receiver);
                }
            })
            .ok()?;
    }
    drop(ready);
    // One is enough to serve; none means that descriptors could not be kept apart.
    started.recv().ok().map(|()| sender)
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { sql, reply }) = job else { return };
        let read = catch_unwind(AssertUnwindSafe(|| read_here(&sql)))
            .unwrap_or(Err(Unreadable::Parser("it failed on this text")));
        let _ = reply.send(read);
    }
}

/// A descriptor table of this thread's own, without the sockets and files of the others: a copy
/// of a connection here would keep it from ever being closed.
fn own_descriptors() -> std::io::Result<()> {
    unshare(CloneFlags::CLONE_FILES)?;
    let open: Vec<i32> = std::fs::read_dir("/proc/thread-self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|descriptor| *descriptor > 2)
        .collect();
    for descriptor in open {
        // The directory's own descriptor is in the list, and gone already.
        let _ = nix::unistd::close(descriptor);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};

    #[test]
    fn a_parser_thread_has_descriptors_of_its_own() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let done = thread::spawn(own_descriptors).join().unwrap();
        assert!(done.is_ok(), "{done:?}");
        // The pipe here is untouched, and closing it here ends it: no copy is left elsewhere.
        let (held, release) = mpsc::channel::<()>();
        let (ready, started) = mpsc::channel();
        let other = thread::spawn(move || {
            own_descriptors().unwrap();
            ready.send(()).unwrap();
            let _ = release.recv();
        });
        started.recv().unwrap();
        (&writer).write_all(b"x").unwrap();
        drop(writer);
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"x");
        drop(held);
        other.join().unwrap();
    }

    #[test]
    fn many_threads_read_at_once_and_standard_error_stays_what_it_was() {
        let before = std::fs::read_link("/proc/self/fd/2").ok();
        thread::scope(|scope| {
            for n in 0..8 {
                scope.spawn(move || {
                    for i in 0..50 {
                        let sql = format!("SELECT {n}, {i} FROM t");
                        assert_eq!(read_elsewhere(&sql).unwrap()[0].text, sql);
                    }
                });
            }
        });
        assert_eq!(std::fs::read_link("/proc/self/fd/2").ok(), before);
    }
}

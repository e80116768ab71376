//! The process's memory: what was freed goes back to the system.
//!
//! The allocator, glibc's, keeps what it may need again. After a burst of requests that can be hundreds of MiB in small
//! pieces between what is in use. With another libc, nothing is done.

/// Tells the allocator how much it may keep. Called once, before other threads run.
pub fn prepare() {
    #[cfg(target_env = "gnu")]
    glibc::prepare();
}

/// Gives memory back whenever there is much of it, for ever.
pub async fn give_back() {
    #[cfg(target_env = "gnu")]
    glibc::give_back().await;
}

#[cfg(target_env = "gnu")]
mod glibc {
    use std::time::Duration;

    use crate::runtime;

    /// Larger blocks are mapped, and unmapped when they are freed. Those of uploads aren't larger: mapping each of them
    /// would cost more than to keep them.
    const MAP_FROM: libc::c_int = 1 << 20;

    /// So much free memory at the end of a heap goes back at once, in bytes.
    const TRIM_FROM: libc::c_int = 4 << 20;

    /// Each heap keeps what is between its last blocks in use, so there are only a few more heaps than threads that always
    /// run. glibc's own bound is eight per core: after a burst of lists, these kept 30 MiB.
    const HEAPS_BEYOND_CORES: usize = 2;

    /// How often the rest is looked at, …
    const EVERY: Duration = Duration::from_secs(20);
    /// … and how much free memory is worth the work, in bytes.
    const MUCH: u32 = 4 << 20;

    #[expect(unsafe_code, reason = "no safe crate has it")]
    pub(super) fn prepare() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let heaps = libc::c_int::try_from(cores + HEAPS_BEYOND_CORES).unwrap_or(libc::c_int::MAX);
        for (option, value) in [
            (libc::M_MMAP_THRESHOLD, MAP_FROM),
            (libc::M_TRIM_THRESHOLD, TRIM_FROM),
            (libc::M_ARENA_MAX, heaps),
        ] {
            // SAFETY: it sets a number, and no other thread runs yet.
            if unsafe { libc::mallopt(option, value) } == 0 {
                tracing::debug!(option, "an option of the allocator that it doesn't have");
            }
        }
    }

    pub(super) async fn give_back() {
        loop {
            tokio::time::sleep(EVERY).await;
            if let Err(error) = runtime::blocking(trim_if_much).await {
                tracing::debug!(%error, "no memory was given back");
            }
        }
    }

    #[expect(unsafe_code, reason = "no safe crate has it")]
    fn trim_if_much() {
        // SAFETY: both take the allocator's own locks, as any allocation does.
        unsafe {
            // its numbers are those of 32 bits; the one of 64 bits is missing in older versions
            if libc::mallinfo().fordblks.cast_unsigned() >= MUCH {
                libc::malloc_trim(0);
            }
        }
    }
}

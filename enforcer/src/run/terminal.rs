//! The caller's terminal: its settings go to the run's terminal, and while the
//! program runs it passes every byte through. It is set back at the end, also
//! when the client is stopped in between.

use nix::sys::termios::{
    InputFlags, LocalFlags, OutputFlags, SetArg, SpecialCharacterIndices, Termios, cfmakeraw,
    tcgetattr, tcsetattr,
};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// The caller's terminal.
#[derive(Debug)]
pub(super) struct Terminal {
    outer: OwnedFd,
    inner: File,
    settings: Termios,
    /// Whether both input and output are the terminal, so that keys go through untouched.
    raw: bool,
}

impl Terminal {
    /// Takes over the settings and size of `outer` for the run's terminal `inner`.
    pub(super) fn take_over(outer: OwnedFd, inner: File, raw: bool) -> io::Result<Self> {
        let settings = tcgetattr(&outer)?;
        let mut inner_settings = settings.clone();
        if !raw {
            // The outer terminal echoes, and turns line ends for its screen.
            inner_settings.local_flags.remove(LocalFlags::ECHO);
            inner_settings.output_flags.remove(OutputFlags::OPOST);
            inner_settings.input_flags.remove(InputFlags::ICRNL);
        }
        tcsetattr(&inner, SetArg::TCSANOW, &inner_settings)?;
        let terminal = Self { outer, inner, settings, raw };
        terminal.copy_size();
        Ok(terminal)
    }

    /// Puts the outer terminal into the mode for a running program.
    pub(super) fn enter(&self) {
        if self.raw {
            let mut raw = self.settings.clone();
            cfmakeraw(&mut raw);
            // A terminal that is gone shows when it is read.
            let _ = tcsetattr(&self.outer, SetArg::TCSADRAIN, &raw);
        }
    }

    /// Sets the outer terminal back.
    pub(super) fn leave(&self) {
        if self.raw {
            let _ = tcsetattr(&self.outer, SetArg::TCSADRAIN, &self.settings);
        }
    }

    /// Gives the outer terminal's size to the inner.
    pub(super) fn copy_size(&self) {
        let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
        let (from, to) = (self.outer.as_fd().as_raw_fd(), self.inner.as_raw_fd());
        // SAFETY: both calls take a winsize that lives through them. A terminal
        // without a size keeps the kernel's.
        unsafe {
            if libc::ioctl(from, libc::TIOCGWINSZ, &raw mut size) == 0 {
                libc::ioctl(to, libc::TIOCSWINSZ, &raw const size);
            }
        }
    }

    /// The byte that means end of input where lines are edited; `None` in raw
    /// mode, where the program's own terminal sees the key.
    pub(super) fn end_of_input(&self) -> Option<u8> {
        let at = SpecialCharacterIndices::VEOF as usize;
        (!self.raw).then(|| self.settings.control_chars[at])
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.leave();
    }
}
